// What a process and its children have used, from /proc; see proc(5).
#ifndef CLI_USAGEOF_H
#define CLI_USAGEOF_H

#include <stdint.h>

struct usageof {
    int64_t cpu_ms;    // of the process and the children it has waited for
    int64_t rss_bytes; // of the process group
};

// -1: there is no such process.
int usageof(int64_t pid, struct usageof *ret);

#endif
