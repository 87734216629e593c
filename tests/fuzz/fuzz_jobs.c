// libFuzzer target: any text as a schedule, any bytes as a time zone file, any line of JSON.
// links: civinit-jobs
#include "cron/jsonline.h"
#include "cron/next.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int good) {
    if (!good)
        abort();
}

// A schedule that is taken comes due, later each time, and on the grid of its phase.
static void schedule(const char *text, const struct zone *z) {
    struct expr x;
    if (expr_parse(text, &x, NULL) < 0 || x.kind == EXPR_START)
        return;
    int64_t t = 1700000000000;
    for (int i = 0; i < 20; i++) {
        int64_t next = next_due(&x, z, 1234, t);
        if (next == NEXT_NEVER) // may be in a zone whose offsets are nonsense
            return;
        must(next > t);
        must(next_due(&x, z, 0, t - 1234) == next - 1234);
        t = next;
    }
}

static void zone_file(const uint8_t *data, size_t size) {
    static int fd = -1;
    char name[16];
    if (fd < 0) {
        fd = memfd_create("zone", MFD_CLOEXEC);
        setenv("TZDIR", "/proc/self/fd", 1);
    }
    snprintf(name, sizeof name, "%d", fd);
    struct zone *z;
    if (ftruncate(fd, 0) < 0 || pwrite(fd, data, size, 0) != (ssize_t)size ||
        zone_load(name, &z, NULL) < 0)
        return;
    for (int64_t t = -10000000000; t < 10000000000; t += 1234567890) {
        struct zone_stretch s = zone_at(z, t);
        must(s.begin <= t && t < s.end);
    }
    zone_free(z);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct zone *utc;
    if (!utc)
        must(zone_load("UTC", &utc, NULL) == 0);
    if (!size)
        return 0;
    char *text = strndup((const char *)data + 1, size - 1), got[32];
    must(text != NULL);
    if (*data % 3 == 0)
        schedule(text, utc);
    else if (*data % 3 == 1)
        zone_file(data + 1, size - 1);
    else
        jsonline_text(text, "run", got, sizeof got);
    free(text);
    return 0;
}
