#include "status/proc.h"

#include "base/cleanup.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct process {
    pid_t pid, parent, session;
    int64_t ticks, rss_pages;
    int threads;
};

struct table {
    struct process *p;
    size_t n, cap;
};

static int read_file(const char *path, char *buf, size_t size) {
    autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, buf, size - 1);
    if (n < 0)
        return -1;
    buf[n] = 0;
    return 0;
}

// /proc/PID/stat, proc(5): the name stands in brackets and may hold anything, so count from the
// last one.
static bool read_stat(pid_t pid, struct process *p) {
    char path[64], text[1024];
    long long utime, stime, cutime, cstime, rss;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (read_file(path, text, sizeof text) < 0)
        return false;
    const char *rest = strrchr(text, ')');
    *p = (struct process){.pid = pid};
    if (!rest ||
        sscanf(rest + 1,
               " %*c %d %*d %d %*d %*d %*u %*u %*u %*u %*u %lld %lld %lld %lld %*d %*d %d "
               "%*d %*u %*u %lld",
               &p->parent, &p->session, &utime, &stime, &cutime, &cstime, &p->threads, &rss) != 8)
        return false;
    p->ticks = utime + stime + cutime + cstime;
    p->rss_pages = rss;
    return true;
}

static int add(struct table *t, const struct process *p) {
    if (t->n == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 128;
        struct process *more = realloc(t->p, cap * sizeof *more);
        if (!more)
            return -1;
        t->p = more;
        t->cap = cap;
    }
    t->p[t->n++] = *p;
    return 0;
}

static int walk(struct table *t) {
    DIR *dir = opendir("/proc");
    const struct dirent *d;
    int rc = 0;
    while (dir && rc == 0 && (d = readdir(dir))) {
        struct process p;
        if (isdigit((unsigned char)*d->d_name) && read_stat((pid_t)strtol(d->d_name, NULL, 10), &p))
            rc = add(t, &p);
    }
    if (dir)
        closedir(dir);
    return rc;
}

static int by_pid(const void *a, const void *b) {
    const struct process *x = a, *y = b;
    return (x->pid > y->pid) - (x->pid < y->pid);
}

static struct process *find(const struct table *t, pid_t pid) {
    struct process key = {.pid = pid};
    return t->n ? bsearch(&key, t->p, t->n, sizeof *t->p, by_pid) : NULL;
}

// The service of a process: its own, its session's, or that of its nearest ancestor that has one.
static int owner(const struct table *t, const struct process *p, const pid_t *pids, size_t n) {
    int steps = 0;
    for (const struct process *q = p; q && steps < 64; q = find(t, q->parent), steps++)
        for (size_t i = 0; i < n; i++)
            if (pids[i] && (q->pid == pids[i] || q->session == pids[i]))
                return (int)i;
    return -1;
}

static int64_t pss_of(pid_t pid) {
    char path[64], text[2048];
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
    if (read_file(path, text, sizeof text) < 0)
        return -1;
    const char *line = strstr(text, "\nPss:");
    return line ? strtoll(line + 5, NULL, 10) * 1024 : -1;
}

static void count(const struct process *p, struct proc_usage *u) {
    int64_t pss = u->pss_bytes < 0 ? -1 : pss_of(p->pid);
    int64_t rss = p->rss_pages * sysconf(_SC_PAGESIZE), own = pss < 0 ? rss : pss;
    u->rss_bytes += rss;
    u->largest_bytes = own > u->largest_bytes ? own : u->largest_bytes;
    u->pss_bytes = pss < 0 ? -1 : u->pss_bytes + pss;
    u->cpu_ms += p->ticks * 1000 / sysconf(_SC_CLK_TCK);
    u->threads += p->threads;
    u->processes++;
}

int proc_usage(const pid_t *pids, size_t n, struct proc_usage *ret) {
    struct table t = {0};
    int rc = walk(&t);
    for (size_t i = 0; rc == 0 && i < n; i++)
        ret[i] = (struct proc_usage){0};
    if (t.n)
        qsort(t.p, t.n, sizeof *t.p, by_pid);
    for (size_t i = 0; rc == 0 && i < t.n; i++) {
        int service = owner(&t, &t.p[i], pids, n);
        if (service >= 0)
            count(&t.p[i], &ret[service]);
    }
    free(t.p);
    return rc;
}
