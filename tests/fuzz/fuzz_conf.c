// libFuzzer target: any bytes as a configuration.
// links: civinit
#include "conf/conf.h"

#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static int fd = -1;
    static char path[64];
    if (fd < 0) {
        fd = memfd_create("conf", MFD_CLOEXEC);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (ftruncate(fd, 0) < 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
        return 0;
    struct conf c = {0};
    struct err e;
    if (conf_load(&c, path, NULL, &e) == 0)
        for (size_t i = 0; i < c.n; i++)
            conf_list(&c, c.entries[i].section, c.entries[i].name, c.entries[i].key);
    conf_free(&c);
    return 0;
}
