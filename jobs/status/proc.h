// What each service uses, from /proc: its process and everything that descends from it or lives
// in its session.
#ifndef STATUS_PROC_H
#define STATUS_PROC_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct proc_usage {
    int64_t rss_bytes;     // added up: pages that processes share count several times
    int64_t pss_bytes;     // shared pages count in parts; -1: not allowed to see
    int64_t largest_bytes; // of one of its processes: proportional, or resident if need be
    int64_t cpu_ms;        // of living processes, and of the ended ones that they waited for
    int processes, threads;
};

// Fills ret[i] for the service whose first process is pids[i] (0: none). One walk over /proc.
// -1 when memory runs out.
int proc_usage(const pid_t *pids, size_t n, struct proc_usage *ret);

#endif
