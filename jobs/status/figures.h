// The container's own figures: limits, usage, peaks and pressure of its control group, version 1
// or 2 (Linux, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/).
#ifndef STATUS_FIGURES_H
#define STATUS_FIGURES_H

#include <stdint.h>

// Time spent waiting for a resource, since the group's start: some of its tasks, or all of them.
struct figures_pressure {
    int64_t some_us, full_us; // -1: unknown
};

// Everything is -1 where the kernel does not tell it; limits are -1 also when there is none.
struct figures {
    int version; // 1, 2, or 0: none found
    int64_t memory_bytes, memory_limit_bytes, memory_peak_bytes;
    int64_t memory_anon_bytes;
    int64_t memory_working_bytes; // without file pages that are not in use: what the kubelet counts
    int64_t oom_kills;
    int64_t limit_hits; // how often memory had to be freed because the limit was reached
    int64_t cpu_us, cpu_limit_milli, cpu_periods, cpu_throttled_periods, cpu_throttled_us;
    int64_t pids, pids_limit;
    struct figures_pressure cpu_pressure, memory_pressure, io_pressure;
};

// root: "/sys/fs/cgroup"; self: "/proc/self/cgroup". A group whose path is not under root is the
// one that a container's own cgroup namespace or mount shows as root.
void figures_read(const char *root, const char *self, struct figures *ret);

#endif
