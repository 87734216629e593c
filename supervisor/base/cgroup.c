#include "base/cgroup.h"

#include "base/cleanup.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

// The beginning of a small file, into buf. Its length, or -1.
static int slurp(const char *folder, const char *name, char *buf, size_t size) {
    char path[1200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, buf, size - 1);
    buf[n > 0 ? n : 0] = 0;
    return (int)n;
}

// A file that is one number; "max" and what v1 uses for "none" are -1.
static int64_t number(const char *folder, const char *name) {
    char text[64], *end;
    if (slurp(folder, name, text, sizeof text) <= 0)
        return -1;
    long long n = strtoll(text, &end, 10);
    return end == text || n >= INT64_MAX / 4096 * 4096 ? -1 : n;
}

// The number behind `key ` in a file of such lines.
static int64_t number_of(const char *folder, const char *name, const char *key) {
    char text[4096];
    size_t len = strlen(key);
    if (slurp(folder, name, text, sizeof text) <= 0)
        return -1;
    for (const char *p = text; p; p = strchr(p, '\n')) {
        p += *p == '\n';
        if (strncmp(p, key, len) == 0 && p[len] == ' ')
            return strtoll(p + len + 1, NULL, 10);
    }
    return -1;
}

void cgroup_at(struct cgroup *ret, const char *folder) {
    char text[8];
    *ret = (struct cgroup){0};
    if (snprintf(ret->memory, sizeof ret->memory, "%s", folder) >= (int)sizeof ret->memory)
        return;
    if (slurp(folder, "memory.limit_in_bytes", text, sizeof text) > 0)
        ret->version = 1;
    // The root of v2 has no memory.max.
    else if (slurp(folder, "memory.max", text, sizeof text) > 0 ||
             slurp(folder, "cgroup.controllers", text, sizeof text) >= 0)
        ret->version = 2;
}

// The path of this process's group in one line of /proc/self/cgroup ("4:memory:/x", "0::/x"), cut
// out in place; NULL: another controller's.
static char *path_of(char *line, int version) {
    char *controllers = strchr(line, ':');
    char *path = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!path)
        return NULL;
    *path++ = 0;
    path[strcspn(path, "\n")] = 0;
    if (version == 2)
        return strcmp(line, "0:") == 0 ? path : NULL;
    char *save;
    for (char *word = strtok_r(controllers + 1, ",", &save); word;
         word = strtok_r(NULL, ",", &save))
        if (strcmp(word, "memory") == 0)
            return path;
    return NULL;
}

static void find_below(struct cgroup *ret, const char *root, int version) {
    char line[1024], folder[1100], text[8];
    autofile FILE *f = fopen("/proc/self/cgroup", "re");
    while (f && fgets(line, sizeof line, f)) {
        const char *path = path_of(line, version);
        snprintf(folder, sizeof folder, "%s%s", root, path && strcmp(path, "/") != 0 ? path : "");
        if (path && slurp(folder, version == 2 ? "memory.max" : "memory.limit_in_bytes", text,
                          sizeof text) > 0) {
            cgroup_at(ret, folder);
            return;
        }
    }
    cgroup_at(ret, root);
}

void cgroup_find(struct cgroup *ret) {
    const char *given = getenv("CIVINIT_CGROUP");
    if (given && *given)
        cgroup_at(ret, given);
    else if (access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0)
        find_below(ret, "/sys/fs/cgroup", 2);
    else
        find_below(ret, "/sys/fs/cgroup/memory", 1);
}

int64_t cgroup_memory_limit(const struct cgroup *g) {
    if (g->version == 1) {
        int64_t all = number_of(g->memory, "memory.stat", "hierarchical_memory_limit");
        return all > 0 && all < INT64_MAX / 4096 * 4096
                   ? all
                   : number(g->memory, "memory.limit_in_bytes");
    }
    int64_t least = -1;
    char folder[1024];
    snprintf(folder, sizeof folder, "%s", g->memory);
    while (g->version == 2 && *folder) {
        int64_t n = number(folder, "memory.max");
        if (n >= 0 && (least < 0 || n < least))
            least = n;
        char *slash = strrchr(folder, '/');
        if (!slash)
            break;
        *slash = 0;
    }
    return least;
}

int64_t cgroup_memory_used(const struct cgroup *g) {
    return number(g->memory, g->version == 1 ? "memory.usage_in_bytes" : "memory.current");
}

int64_t cgroup_memory_peak(const struct cgroup *g) {
    return number(g->memory, g->version == 1 ? "memory.max_usage_in_bytes" : "memory.peak");
}

int64_t cgroup_oom_kills(const struct cgroup *g) {
    if (g->version == 0)
        return -1;
    return number_of(g->memory, g->version == 1 ? "memory.oom_control" : "memory.events",
                     "oom_kill");
}

int64_t cgroup_memory_available(const struct cgroup *g) {
    struct sysinfo machine;
    int64_t limit = cgroup_memory_limit(g);
    if (sysinfo(&machine) < 0)
        return limit;
    int64_t total = (int64_t)machine.totalram * machine.mem_unit;
    return limit >= 0 && limit < total ? limit : total;
}
