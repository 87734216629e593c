#include "run/oom.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "run/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

enum {
    TRIES = 20,
    PAUSE = 50,
};

// v1: an eventfd that memory.oom_control writes to; needs a writable cgroup.event_control.
static int watch_v1(const struct cgroup *g) {
    char path[1100], text[64];
    snprintf(path, sizeof path, "%s/memory.oom_control", g->memory);
    autoclose int control = open(path, O_RDONLY | O_CLOEXEC);
    snprintf(path, sizeof path, "%s/cgroup.event_control", g->memory);
    autoclose int events = open(path, O_WRONLY | O_CLOEXEC);
    autoclose int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int n = snprintf(text, sizeof text, "%d %d", fd, control);
    if (control < 0 || events < 0 || fd < 0 || write(events, text, n) != n)
        return -1;
    return take_fd(&fd);
}

// v2: the kernel reports a change of memory.events as a modification of the file.
static int watch_v2(const struct cgroup *g) {
    char path[1100];
    snprintf(path, sizeof path, "%s/memory.events", g->memory);
    autoclose int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (fd < 0 || inotify_add_watch(fd, path, IN_MODIFY) < 0)
        return -1;
    return take_fd(&fd);
}

void oom_open(struct sup *s) {
    cgroup_find(&s->cgroup);
    s->oom_base = cgroup_oom_kills(&s->cgroup);
    s->oom_seen = s->oom_base;
    if (s->oom_base < 0)
        return;
    s->oom_fd = s->cgroup.version == 2 ? watch_v2(&s->cgroup) : watch_v1(&s->cgroup);
    if (s->oom_fd >= 0 && loop_watch(s, s->oom_fd, LOOP_OOM, 0) < 0) {
        close(s->oom_fd);
        s->oom_fd = -1;
    }
}

// New kills since the last look are counted; *ret_new is how many.
static int64_t look(struct sup *s) {
    int64_t now = s->oom_base < 0 ? -1 : cgroup_oom_kills(&s->cgroup);
    if (now < 0)
        return 0;
    int64_t more = now - s->oom_seen;
    s->oom_seen = now;
    s->oom_kills = now - s->oom_base;
    s->dirty |= more > 0;
    return more > 0 ? more : 0;
}

// The event usually comes before the end of the process it is about: the kill is then credited to
// the next process that SIGKILL ended.
void oom_event(struct sup *s) {
    char drop[512];
    while (read(s->oom_fd, drop, sizeof drop) > 0)
        ;
    s->oom_tries = TRIES;
    oom_timer(s);
}

// v1 tells before it kills: the count follows some time later.
void oom_timer(struct sup *s) {
    int64_t more = look(s);
    s->oom_ms = more || --s->oom_tries <= 0 ? 0 : s->now_ms + PAUSE;
    if (!more)
        return;
    s->oom_unnamed += more;
    log_error("out of memory: the kernel killed %lld process%s of this container at its limit "
              "(%lld since the start)",
              (long long)more, more == 1 ? "" : "es", (long long)s->oom_kills);
}

bool oom_happened(struct sup *s) {
    s->oom_unnamed += look(s);
    if (!s->oom_unnamed)
        return false;
    s->oom_unnamed--;
    return true;
}

void oom_orphan(struct sup *s, pid_t pid) {
    if (oom_happened(s))
        log_error("process %d, which its parent had left, was killed: out of memory", pid);
}
