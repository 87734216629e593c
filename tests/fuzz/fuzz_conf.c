// libFuzzer target: any bytes as a configuration, and the plan that is made of it.
// links: civinit
#include "conf/plan.h"

#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void load(const char *path, bool at_build) {
    struct conf c = {.at_build = at_build};
    struct plan p = {0};
    struct plan_options o = {.role = "role", .config = path};
    struct err e;
    if (conf_load(&c, path, NULL, &e) == 0) {
        for (size_t i = 0; i < c.n; i++)
            conf_list(&c, c.entries[i].section, c.entries[i].name, c.entries[i].key);
        plan_make(&p, &c, &o, &e);
    }
    plan_free(&p);
    conf_free(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static int fd = -1;
    static char path[64];
    if (fd < 0) {
        fd = memfd_create("conf", MFD_CLOEXEC);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (ftruncate(fd, 0) < 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
        return 0;
    load(path, false);
    load(path, true);
    return 0;
}
