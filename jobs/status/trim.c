#include "status/trim.h"

#include "base/cleanup.h"

#include <malloc.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

// Only mappings of files that have no page of their own: what was once written to (relocated
// data, also where it has become read-only since) would come back with the file's old bytes.
void trim_mappings(void) {
    autofile FILE *maps = fopen("/proc/self/smaps", "re");
    char line[512], flags[8] = "";
    unsigned long a, b, from = 0, to = 0, kb;
    bool file = false;
    malloc_trim(0);
    while (maps && fgets(line, sizeof line, maps)) {
        if (sscanf(line, "%lx-%lx %7s", &a, &b, flags) == 3) {
            from = a;
            to = b;
            file = strchr(line, '/') && flags[1] == '-';
        } else if (sscanf(line, "Anonymous: %lu", &kb) == 1 && kb == 0 && file)
            madvise((void *)from, to - from, MADV_DONTNEED);
    }
}
