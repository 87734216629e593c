// The control group that limits this container's memory: where it is, and what it says. cgroup v2
// and v1; see cgroups(7), the kernel's cgroup-v2.rst and cgroup-v1/memory.rst.
#ifndef BASE_CGROUP_H
#define BASE_CGROUP_H

#include <stdint.h>

struct cgroup {
    int version;       // 2, 1, or 0: there is none
    char memory[1024]; // folder of the memory controller's files
};

// Finds it: CIVINIT_CGROUP of the environment, else by /proc/self/cgroup below /sys/fs/cgroup,
// else /sys/fs/cgroup itself (in a cgroup namespace of its own).
void cgroup_find(struct cgroup *ret);

// Takes a folder as it is; its version by the files there.
void cgroup_at(struct cgroup *ret, const char *folder);

// Bytes; -1: no limit, or not known. The limit is the smallest of the group and those above it
// that can be seen.
int64_t cgroup_memory_limit(const struct cgroup *g);
int64_t cgroup_memory_used(const struct cgroup *g);
int64_t cgroup_memory_peak(const struct cgroup *g);

// How many processes of the group the kernel has killed for want of memory; -1: not known.
int64_t cgroup_oom_kills(const struct cgroup *g);

// The limit, or the machine's memory where there is none or more than that.
int64_t cgroup_memory_available(const struct cgroup *g);

#endif
