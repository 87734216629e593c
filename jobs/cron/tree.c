#include "cron/tree.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct process {
    pid_t pid, parent;
    bool below, dead, spared;
};

struct table {
    struct process *v;
    size_t n, cap;
};

// Parent and state from /proc/PID/stat: "12 (name) S 1 …"; the name may hold anything.
static bool read_stat(int proc, const char *pid, struct process *p) {
    char path[32], text[512];
    snprintf(path, sizeof path, "%.16s/stat", pid);
    int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n < 0 ? 0 : n] = 0;
    const char *end = strrchr(text, ')');
    char state;
    int parent;
    if (!end || sscanf(end + 1, " %c %d", &state, &parent) != 2)
        return false;
    *p = (struct process){.pid = atoi(pid), .parent = parent, .dead = state == 'Z' || state == 'X'};
    return true;
}

static bool read_all(struct table *t) {
    DIR *d = opendir("/proc");
    if (!d)
        return false;
    t->n = 0;
    for (struct dirent *x; (x = readdir(d));) {
        if (!isdigit((unsigned char)*x->d_name))
            continue;
        if (t->n == t->cap) {
            size_t cap = t->cap ? t->cap * 2 : 256;
            void *more = realloc(t->v, cap * sizeof *t->v);
            if (!more)
                break;
            t->v = more;
            t->cap = cap;
        }
        if (read_stat(dirfd(d), x->d_name, &t->v[t->n]))
            t->n++;
    }
    closedir(d);
    return true;
}

static const struct process *find(const struct table *t, pid_t pid) {
    for (size_t i = 0; i < t->n; i++)
        if (t->v[i].pid == pid)
            return &t->v[i];
    return NULL;
}

// Marks what is below root. Parents need not come first in /proc: pass after pass.
static void mark(struct table *t, pid_t root, struct tree_spare spare) {
    for (bool more = true; more;) {
        more = false;
        for (size_t i = 0; i < t->n; i++) {
            struct process *p = &t->v[i];
            const struct process *parent = p->below ? NULL : find(t, p->parent);
            if (p->below || (p->parent != root && !(parent && parent->below)))
                continue;
            p->below = more = true;
            p->spared = parent && parent->below && parent->spared;
            for (size_t k = 0; k < spare.n; k++)
                p->spared |= p->pid == spare.pids[k];
        }
    }
}

static int each(struct table *t, pid_t root, struct tree_spare spare, int signal) {
    int n = 0;
    if (!read_all(t))
        return -1;
    mark(t, root, spare);
    for (size_t i = 0; i < t->n; i++)
        if (t->v[i].below && !t->v[i].spared && !t->v[i].dead && kill(t->v[i].pid, signal) == 0)
            n++;
    return n;
}

int tree_signal(pid_t root, struct tree_spare spare, int signal) {
    struct table t = {0};
    int n = each(&t, root, spare, signal);
    free(t.v);
    return n;
}

int tree_kill(pid_t root, struct tree_spare spare) {
    enum {
        ROUNDS = 20
    };
    struct table t = {0};
    int before = -1, n = each(&t, root, spare, SIGSTOP);
    for (int i = 0; i < ROUNDS && n > 0 && n != before; i++) {
        before = n;
        n = each(&t, root, spare, SIGSTOP);
    }
    n = n > 0 ? each(&t, root, spare, SIGKILL) : n;
    free(t.v);
    return n;
}
