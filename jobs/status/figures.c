#include "status/figures.h"

#include "base/cleanup.h"
#include "base/file.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    FILE_MAX = 1 << 16,
};

// A group's folder.
struct folder {
    char path[PATH_MAX];
};

static char *read_in(const struct folder *f, const char *name) {
    char path[PATH_MAX + 64], *text;
    snprintf(path, sizeof path, "%s/%s", f->path, name);
    return file_read(path, FILE_MAX, &text, NULL, NULL) == 0 ? text : NULL;
}

// The number in a file; -1: none, "max", or version 1's "almost 2^63".
static int64_t number(const struct folder *f, const char *name) {
    autofree char *text = read_in(f, name);
    char *end;
    if (!text)
        return -1;
    long long n = strtoll(text, &end, 10);
    return end == text || n < 0 || n > (1LL << 60) ? -1 : n;
}

// The number behind "key " at the start of a line.
static int64_t keyed(const char *text, const char *key) {
    size_t n = strlen(key);
    for (const char *p = text; p; p = strchr(p, '\n')) {
        p += *p == '\n';
        if (strncmp(p, key, n) == 0 && p[n] == ' ')
            return strtoll(p + n, NULL, 10);
    }
    return -1;
}

static int64_t keyed_in(const struct folder *f, const char *name, const char *key) {
    autofree char *text = read_in(f, name);
    return text ? keyed(text, key) : -1;
}

static void pressure(const struct folder *f, const char *name, struct figures_pressure *ret) {
    autofree char *text = read_in(f, name);
    const char *some = text ? strstr(text, "some ") : NULL,
               *full = text ? strstr(text, "full ") : NULL;
    const char *a = some ? strstr(some, "total=") : NULL, *b = full ? strstr(full, "total=") : NULL;
    ret->some_us = a ? strtoll(a + 6, NULL, 10) : -1;
    ret->full_us = b ? strtoll(b + 6, NULL, 10) : -1;
}

// The path of a hierarchy in /proc/self/cgroup: the line "N:CONTROLLERS:PATH" whose controllers
// hold the word ("" for version 2's "0::PATH"). Into buf; NULL: no such line.
static const char *path_of(const char *text, const char *controller, char *buf, size_t size) {
    for (const char *p = text; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL) {
        const char *list = strchr(p, ':'), *path = list ? strchr(list + 1, ':') : NULL;
        if (!path)
            return NULL;
        size_t n = strlen(controller);
        bool found = n == 0 && path == list + 1;
        for (const char *w = list + 1; n && w < path; w += strcspn(w, ",:") + 1)
            found = found || (strncmp(w, controller, n) == 0 && (w[n] == ',' || w + n == path));
        if (found) {
            snprintf(buf, size, "%.*s", (int)strcspn(path + 1, "\n"), path + 1);
            return buf;
        }
    }
    return NULL;
}

// The folder of a controller: with the group's path where that exists, else the mount's root.
static void find(const char *root, const char *mount, const char *self, const char *controller,
                 const char *proof, struct folder *ret) {
    char path[PATH_MAX], file[PATH_MAX + 256];
    const char *group = path_of(self, controller, path, sizeof path);
    snprintf(ret->path, sizeof ret->path, "%s%s%s", root, mount, group ? group : "");
    snprintf(file, sizeof file, "%s/%s", ret->path, proof);
    if (access(file, R_OK) < 0)
        snprintf(ret->path, sizeof ret->path, "%s%s", root, mount);
}

static void read_v2(const struct folder *f, struct figures *c) {
    autofree char *memory = read_in(f, "memory.stat"), *cpu = read_in(f, "cpu.stat");
    autofree char *limit = read_in(f, "cpu.max");
    long long quota, period;
    c->version = 2;
    c->memory_bytes = number(f, "memory.current");
    c->memory_limit_bytes = number(f, "memory.max");
    c->memory_peak_bytes = number(f, "memory.peak");
    c->oom_kills = keyed_in(f, "memory.events", "oom_kill");
    c->limit_hits = keyed_in(f, "memory.events", "max");
    if (memory) {
        int64_t idle = keyed(memory, "inactive_file");
        c->memory_anon_bytes = keyed(memory, "anon");
        c->memory_working_bytes = c->memory_bytes >= 0 && idle >= 0 && idle <= c->memory_bytes
                                      ? c->memory_bytes - idle
                                      : -1;
    }
    if (cpu) {
        c->cpu_us = keyed(cpu, "usage_usec");
        c->cpu_periods = keyed(cpu, "nr_periods");
        c->cpu_throttled_periods = keyed(cpu, "nr_throttled");
        c->cpu_throttled_us = keyed(cpu, "throttled_usec");
    }
    if (limit && sscanf(limit, "%lld %lld", &quota, &period) == 2 && period > 0)
        c->cpu_limit_milli = quota * 1000 / period;
    c->pids = number(f, "pids.current");
    c->pids_limit = number(f, "pids.max");
    pressure(f, "cpu.pressure", &c->cpu_pressure);
    pressure(f, "memory.pressure", &c->memory_pressure);
    pressure(f, "io.pressure", &c->io_pressure);
}

static void read_v1_memory(const struct folder *f, struct figures *c) {
    autofree char *stat = read_in(f, "memory.stat");
    c->memory_bytes = number(f, "memory.usage_in_bytes");
    c->memory_limit_bytes = number(f, "memory.limit_in_bytes");
    c->memory_peak_bytes = number(f, "memory.max_usage_in_bytes");
    c->oom_kills = keyed_in(f, "memory.oom_control", "oom_kill");
    // With a limit of memory and swap together that is not larger, it is that which is reached.
    int64_t both = number(f, "memory.memsw.failcnt");
    c->limit_hits = number(f, "memory.failcnt");
    if (c->limit_hits >= 0 && both > 0)
        c->limit_hits += both;
    if (stat) {
        int64_t idle = keyed(stat, "total_inactive_file");
        c->memory_anon_bytes = keyed(stat, "total_rss");
        c->memory_working_bytes = c->memory_bytes >= 0 && idle >= 0 && idle <= c->memory_bytes
                                      ? c->memory_bytes - idle
                                      : -1;
    }
}

static void read_v1(const char *root, const char *self, struct figures *c) {
    struct folder f = {""};
    find(root, "/memory", self, "memory", "memory.usage_in_bytes", &f);
    read_v1_memory(&f, c);
    find(root, "/cpuacct", self, "cpuacct", "cpuacct.usage", &f);
    int64_t ns = number(&f, "cpuacct.usage");
    c->cpu_us = ns < 0 ? -1 : ns / 1000;
    find(root, "/cpu", self, "cpu", "cpu.cfs_quota_us", &f);
    int64_t quota = number(&f, "cpu.cfs_quota_us"), period = number(&f, "cpu.cfs_period_us");
    if (quota > 0 && period > 0)
        c->cpu_limit_milli = quota * 1000 / period;
    autofree char *stat = read_in(&f, "cpu.stat");
    if (stat) {
        int64_t throttled = keyed(stat, "throttled_time");
        c->cpu_periods = keyed(stat, "nr_periods");
        c->cpu_throttled_periods = keyed(stat, "nr_throttled");
        c->cpu_throttled_us = throttled < 0 ? -1 : throttled / 1000;
    }
    find(root, "/pids", self, "pids", "pids.current", &f);
    c->pids = number(&f, "pids.current");
    c->pids_limit = number(&f, "pids.max");
    if (c->memory_bytes >= 0 || c->cpu_us >= 0)
        c->version = 1;
}

void figures_read(const char *root, const char *self, struct figures *ret) {
    struct figures c;
    struct folder f = {""};
    autofree char *text = NULL;
    memset(&c, 0xff, sizeof c); // every figure -1
    c.version = 0;
    if (file_read(self, FILE_MAX, &text, NULL, NULL) < 0)
        text = NULL;
    snprintf(f.path, sizeof f.path, "%s/cgroup.controllers", root);
    if (access(f.path, R_OK) == 0) {
        find(root, "", text ? text : "", "", "memory.stat", &f);
        read_v2(&f, &c);
    } else {
        read_v1(root, text ? text : "", &c);
    }
    *ret = c;
}
