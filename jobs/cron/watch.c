#include "cron/watch.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "cron/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

enum {
    MOST_WATCHES = 8
};

int watcher_init(struct watcher *w, const char *tag, struct err *e) {
    *w = (struct watcher){.lock = {.in = -1, .out = -1}};
    snprintf(w->tag, sizeof w->tag, "%s", tag);
    sigset_t set;
    sigemptyset(&set);
    for (const int *n = (const int[]){SIGCHLD, SIGTERM, SIGINT, SIGUSR1, SIGUSR2, 0}; *n; n++)
        sigaddset(&set, *n);
    sigprocmask(SIG_SETMASK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    w->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    w->target[0] = lines_target(1);
    w->target[1] = lines_target(2);
    if (w->signals < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
        return err_errno(e, EX_OSERR, "signalfd");
    if (w->target[1] >= 0)
        log_to(w->target[1]);
    return 0;
}

static int open_streams(struct watcher *w, struct watch *x, int write_ends[2]) {
    for (int i = 0; i < 2; i++) {
        int p[2];
        if (pipe2(p, O_CLOEXEC) < 0)
            return -1;
        x->out[i].fd = p[0];
        write_ends[i] = p[1];
        fcntl(p[0], F_SETFL, O_NONBLOCK);
        x->out[i].lines.target = w->target[i];
        x->out[i].lines.tag = w->tag;
        x->out[i].lines.search = x->search;
    }
    return 0;
}

int watch_start(struct watcher *w, struct watch *x, struct spawn *s, int in_fd, struct err *e) {
    autoclose int null = in_fd < 0 ? open("/dev/null", O_RDONLY | O_CLOEXEC) : -1;
    int ends[2] = {-1, -1};
    x->watcher = w;
    x->out[0].fd = x->out[1].fd = -1;
    int rc = open_streams(w, x, ends) < 0 ? err_errno(e, EX_OSERR, "pipe") : 0;
    struct spawn_fd fds[] = {{in_fd < 0 ? null : in_fd, 0}, {ends[0], 1}, {ends[1], 2}};
    s->fds = fds;
    s->nfds = 3;
    if (rc == 0)
        rc = spawn_process(s, &x->pid, e);
    cleanup_fd(&ends[0]);
    cleanup_fd(&ends[1]);
    if (rc < 0) {
        cleanup_fd(&x->out[0].fd);
        cleanup_fd(&x->out[1].fd);
        return -1;
    }
    x->next = w->watches;
    w->watches = x;
    return 0;
}

static void add_usage(struct watcher *w, const struct rusage *u) {
    w->cpu_ms += (u->ru_utime.tv_sec + u->ru_stime.tv_sec) * 1000 +
                 (u->ru_utime.tv_usec + u->ru_stime.tv_usec) / 1000;
    if (u->ru_maxrss > w->rss_kb)
        w->rss_kb = u->ru_maxrss;
}

// Reaps what has ended. False: there is no child any more.
static bool reap(struct watcher *w) {
    for (;;) {
        int status;
        struct rusage usage;
        pid_t pid = wait4(-1, &status, WNOHANG, &usage);
        if (pid <= 0)
            return pid == 0 || errno == EINTR;
        struct watch *x = w->watches;
        while (x && x->pid != pid)
            x = x->next;
        if (x) {
            x->exited = true;
            x->status = status;
            x->usage = usage;
        }
        if ((!x || !x->helper) && pid != w->lock.pid)
            add_usage(w, &usage);
    }
}

static void take_signals(struct watcher *w) {
    struct signalfd_siginfo s;
    while (read(w->signals, &s, sizeof s) == sizeof s) {
        if ((s.ssi_signo == SIGTERM || s.ssi_signo == SIGINT) && !w->drain) {
            w->drain = true;
            w->drained_at_ms = clock_mono_ms();
        }
        w->kill |= s.ssi_signo == SIGUSR2;
        w->lost |= s.ssi_signo == SIGUSR1;
    }
    reap(w);
}

static void copy(struct watch *x, const char *data, size_t n) {
    if (x->copy <= 0 || x->copied >= WATCH_COPY_MAX)
        return;
    if (n > WATCH_COPY_MAX - x->copied)
        n = WATCH_COPY_MAX - x->copied;
    ssize_t done = write(x->copy, data, n);
    x->copied += done > 0 ? (size_t)done : n;
}

// Reads once from a stream.
static void take_output(struct watch *x, struct watch_stream *s) {
    char scrap[16384], *where = scrap;
    size_t room = s->capture ? sizeof scrap : lines_room(&s->lines, &where);
    ssize_t n = room ? read(s->fd, where, room) : -1;
    if (n > 0) {
        copy(x, where, (size_t)n);
        if (!s->capture)
            lines_push(&s->lines, (size_t)n);
        else if (s->capture->len < WATCH_CAPTURE_MAX)
            buf_add(s->capture, where, (size_t)n);
    } else if (n == 0 || (room && errno != EAGAIN && errno != EINTR)) {
        if (!s->capture)
            lines_end(&s->lines);
        close(s->fd);
        s->fd = -1;
    }
}

static int wait_ms(int64_t until_ms) {
    if (until_ms == INT64_MAX)
        return -1;
    int64_t left = until_ms - clock_mono_ms();
    return left < 0 ? 0 : left > 1000000 ? 1000000 : (int)left;
}

void watcher_step(struct watcher *w, int64_t until_ms) {
    struct pollfd p[2 + 2 * MOST_WATCHES] = {{w->signals, POLLIN, 0}, {w->lock.out, POLLIN, 0}};
    struct watch_stream *s[2 + 2 * MOST_WATCHES];
    struct watch *of[2 + 2 * MOST_WATCHES];
    nfds_t n = 2;
    for (struct watch *x = w->watches; x; x = x->next)
        for (int i = 0; i < 2; i++) {
            if (x->out[i].fd < 0 || n == sizeof p / sizeof *p)
                continue;
            bool blocked = x->out[i].lines.blocked;
            p[n] = (struct pollfd){blocked ? x->out[i].lines.target : x->out[i].fd,
                                   blocked ? POLLOUT : POLLIN, 0};
            of[n] = x;
            s[n++] = &x->out[i];
        }
    if (poll(p, n, wait_ms(until_ms)) <= 0)
        return;
    for (nfds_t i = 2; i < n; i++)
        if (p[i].revents && s[i]->lines.blocked)
            lines_push(&s[i]->lines, 0);
        else if (p[i].revents)
            take_output(of[i], s[i]);
    if (p[1].revents && w->lock_event == LOCK_NOTHING)
        w->lock_event = lock_read(&w->lock);
    if (p[0].revents)
        take_signals(w);
}

bool watch_wait(struct watch *x, int64_t timeout_ms) {
    enum {
        LEAST_MS = 1000
    };
    const struct watcher *w = x->watcher;
    int64_t begun = clock_mono_ms(), until = begun + timeout_ms;
    while (!x->exited || !watch_quiet(x)) {
        int64_t grace = w->drained_at_ms + w->grace_ms;
        if (w->drain && w->grace_ms && grace < until)
            until = grace > begun + LEAST_MS ? grace : begun + LEAST_MS;
        if (clock_mono_ms() >= until) {
            if (!x->exited)
                kill(-x->pid, SIGKILL);
            return false;
        }
        watcher_step(x->watcher, until);
    }
    return true;
}

bool watch_quiet(const struct watch *x) {
    return x->out[0].fd < 0 && x->out[1].fd < 0;
}

void watch_end(struct watch *x) {
    for (struct watch **p = &x->watcher->watches; *p; p = &(*p)->next)
        if (*p == x) {
            *p = x->next;
            break;
        }
    for (int i = 0; i < 2; i++) {
        if (x->out[i].fd >= 0 && !x->out[i].capture)
            lines_end(&x->out[i].lines);
        cleanup_fd(&x->out[i].fd);
    }
}

static struct tree_spare spared(const struct watcher *w, pid_t *pids) {
    struct tree_spare s = {pids, 0};
    for (const struct watch *x = w->watches; x; x = x->next)
        if (x->helper && !x->exited && s.n < MOST_WATCHES)
            pids[s.n++] = x->pid;
    if (w->lock.pid > 0)
        pids[s.n++] = w->lock.pid;
    return s;
}

int watcher_signal(struct watcher *w, int signal) {
    pid_t pids[MOST_WATCHES + 1];
    return tree_signal(getpid(), spared(w, pids), signal);
}

void watcher_kill(struct watcher *w) {
    pid_t pids[MOST_WATCHES + 1];
    tree_kill(getpid(), spared(w, pids));
}

bool watcher_children(struct watcher *w) {
    return reap(w);
}
