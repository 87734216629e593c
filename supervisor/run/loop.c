#include "run/loop.h"

#include "base/clock.h"
#include "base/log.h"
#include "run/control.h"
#include "run/notify.h"
#include "run/oom.h"
#include "run/ready.h"
#include "run/reap.h"
#include "run/stop.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sysexits.h>
#include <unistd.h>

static void our_signals(sigset_t *set) {
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS};
    sigfillset(set);
    for (unsigned i = 0; i < sizeof faults / sizeof *faults; i++)
        sigdelset(set, faults[i]);
}

void loop_block(void) {
    sigset_t set;
    our_signals(&set);
    sigprocmask(SIG_SETMASK, &set, NULL);
}

int loop_init(struct sup *s, struct err *e) {
    sigset_t set;
    our_signals(&set);
    s->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (s->signals < 0 || s->epoll < 0 || loop_watch(s, s->signals, LOOP_SIGNALS, 0) < 0)
        return err_errno(e, EX_OSERR, "cannot wait for signals");
    return 0;
}

int loop_watch(struct sup *s, int fd, enum loop_kind kind, size_t index) {
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = (uint64_t)kind << 32 | index};
    if (kind == LOOP_OOM)
        ev.events |= EPOLLPRI;
    int rc = epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &ev);
    return rc < 0 && errno == EEXIST ? epoll_ctl(s->epoll, EPOLL_CTL_MOD, fd, &ev) : rc;
}

void loop_ignore(struct sup *s, int fd) {
    epoll_ctl(s->epoll, EPOLL_CTL_DEL, fd, NULL);
}

// SIGTERM and SIGINT end the container; what we do not handle goes to the main service. Whether a
// child has ended.
static bool take_signals(struct sup *s) {
    struct signalfd_siginfo got[8];
    ssize_t n;
    bool ended = false;
    while ((n = read(s->signals, got, sizeof got)) > 0) {
        for (size_t i = 0; i < n / sizeof *got; i++) {
            int sig = (int)got[i].ssi_signo;
            if (sig == SIGTERM || sig == SIGINT)
                stop_asked(s, sig);
            else if (sig == SIGCHLD)
                ended = true;
            else if (sig != SIGPIPE)
                stop_forward(s, sig);
        }
        if ((size_t)n < sizeof got)
            break;
    }
    return ended;
}

static void dispatch(struct sup *s, uint64_t what) {
    size_t index = (uint32_t)what;
    switch ((enum loop_kind)(what >> 32)) {
    case LOOP_SIGNALS:
        if (take_signals(s))
            reap_all(s);
        break;
    case LOOP_CONTROL:
        control_accept(s);
        break;
    case LOOP_CLIENT:
        control_read(s, index);
        break;
    case LOOP_NOTIFY:
        notify_read(s, index);
        break;
    case LOOP_READY_FD:
        notify_fd_read(s, index);
        break;
    case LOOP_MAIN_PID:
        reap_main_pid(s, index);
        break;
    case LOOP_CHECK:
        ready_check_said(s, index);
        break;
    case LOOP_OOM:
        oom_event(s);
        break;
    }
}

void loop_once(struct sup *s, int64_t until_ms) {
    struct epoll_event events[16];
    int wait = -1;
    if (until_ms) {
        // Rounded up by the clock's own step: never too early, so never twice.
        int64_t left = until_ms - clock_mono_ms();
        wait = left < 0 ? 0 : left > INT_MAX ? INT_MAX : (int)left;
    }
    int n = epoll_wait(s->epoll, events, 16, wait);
    s->now_ms = clock_mono_ms();
    // Exits first: a readiness message of a process that has ended is too late.
    for (int i = 0; i < n; i++)
        if (events[i].data.u64 >> 32 == LOOP_SIGNALS)
            dispatch(s, events[i].data.u64);
    for (int i = 0; i < n; i++)
        if (events[i].data.u64 >> 32 != LOOP_SIGNALS)
            dispatch(s, events[i].data.u64);
}

void loop_slim(void) {
    extern const char __executable_start[], etext[]; // by the linker
    long page = sysconf(_SC_PAGESIZE);
    uintptr_t from = (uintptr_t)__executable_start & -(uintptr_t)page;
    uintptr_t to = ((uintptr_t)etext + page - 1) & -(uintptr_t)page;
    madvise((void *)from, to - from, MADV_DONTNEED);
}
