#include "exec/exec.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

enum {
    SAY_ERROR = 1,
    SAY_WARNING = 1,
    SAY_INFO,
    SAY_DEBUG
};

struct state {
    const struct exec_options *o;
    pid_t child;
    bool ended;
    int status;
    int64_t kill_at_ms; // CLOCK_MONOTONIC; 0: not asked
};

__attribute__((format(printf, 4, 5))) static void say(const struct exec_options *o, int level,
                                                      const char *word, const char *fmt, ...) {
    if (o->verbosity < level)
        return;
    char line[512];
    int n = snprintf(line, sizeof line, "%s: %s: ", o->name, word);
    va_list ap;
    va_start(ap, fmt);
    n += vsnprintf(line + n, sizeof line - n - 1, fmt, ap);
    va_end(ap);
    if (n > (int)sizeof line - 2)
        n = sizeof line - 2;
    line[n++] = '\n';
    // A reader that stalls must not stall us: what does not fit is lost.
    int flags = fcntl(2, F_GETFL);
    fcntl(2, F_SETFL, flags | O_NONBLOCK);
    if (write(2, line, n) < 0)
        errno = 0;
    fcntl(2, F_SETFL, flags);
}

void exec_defaults(struct exec_options *o) {
    *o = (struct exec_options){.own_group = true,
                               .verbosity = 1,
                               .not_found = 127,
                               .not_executable = 126,
                               .not_started = 126};
    for (int s = 0; s < EXEC_SIGNALS; s++)
        o->rewrite[s] = -1;
}

// In the child of vfork: only system calls, and nothing that the parent would see but *ret_errno.
__attribute__((noreturn)) static void become(const struct exec_options *o, const sigset_t *mask,
                                             volatile int *ret_errno) {
    if (o->session) {
        setsid();
        ioctl(0, TIOCSCTTY, 0);
    } else if (o->own_group) {
        setpgid(0, 0);
        // All signals are blocked, so SIGTTOU does not stop us here.
        if (isatty(0))
            tcsetpgrp(0, getpid());
    }
    sigprocmask(SIG_SETMASK, mask, NULL);
    execvp(o->argv[0], o->argv);
    *ret_errno = errno;
    _exit(127);
}

static int start(struct state *s, const sigset_t *mask) {
    volatile int failed = 0;
    pid_t pid = vfork();
    if (pid == 0)
        become(s->o, mask, &failed);
    if (pid < 0) {
        say(s->o, SAY_ERROR, "error", "cannot start a process: %s", strerrordesc_np(errno));
        return EX_OSERR;
    }
    if (failed) {
        waitpid(pid, NULL, 0);
        say(s->o, SAY_ERROR, "error", "%s: %s", s->o->argv[0], strerrordesc_np(failed));
        return failed == ENOENT   ? s->o->not_found
               : failed == EACCES ? s->o->not_executable
                                  : s->o->not_started;
    }
    s->child = pid;
    say(s->o, SAY_INFO, "info", "started %s as process %d", s->o->argv[0], pid);
    return 0;
}

static void reap(struct state *s) {
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid <= 0)
            return;
        if (pid == s->child) {
            s->ended = true;
            s->status = status;
        } else if (s->o->tell_reaped) {
            say(s->o, SAY_WARNING, "warning", "reaped process %d", pid);
        }
    }
}

static void send(struct state *s, int sig) {
    pid_t to = s->o->group ? -s->child : s->child;
    if (kill(to, sig) < 0 && errno != ESRCH)
        say(s->o, SAY_WARNING, "warning", "signal %d: %s", sig, strerrordesc_np(errno));
    else
        say(s->o, SAY_DEBUG, "debug", "passed signal %d on", sig);
}

static void pass_on(struct state *s, int sig) {
    int to = sig < EXEC_SIGNALS && s->o->rewrite[sig] >= 0 ? s->o->rewrite[sig] : sig;
    if (to == 0)
        return;
    send(s, to);
    if (sig == SIGTERM && s->o->kill_after_ms && !s->kill_at_ms)
        s->kill_at_ms = clock_mono_ms() + s->o->kill_after_ms;
    if (s->o->job_control && (sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU))
        raise(SIGSTOP);
}

// Everything that can still run: all of the namespace as process 1, else the command's group.
static void kill_all(struct state *s) {
    say(s->o, SAY_WARNING, "warning", "still there after the grace period: killing");
    kill(getpid() == 1 ? -1 : -s->child, SIGKILL);
    kill(s->child, SIGKILL);
    s->kill_at_ms = 0;
}

// Waits for a signal or the deadline; 0: the deadline.
static int next_signal(struct state *s, const sigset_t *all) {
    siginfo_t info;
    if (!s->kill_at_ms)
        return sigwaitinfo(all, &info);
    int64_t left = s->kill_at_ms - clock_mono_ms();
    if (left < 0)
        left = 0;
    struct timespec ts = {.tv_sec = left / 1000, .tv_nsec = left % 1000 * 1000000};
    int sig = sigtimedwait(all, &info, &ts);
    return sig < 0 && errno == EAGAIN ? 0 : sig;
}

static int exit_code(const struct exec_options *o, int status) {
    int code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    say(o, SAY_INFO, "info", "the command ended with %d", code);
    return o->success[code & 0xff] ? 0 : code;
}

// Gives the terminal up, so that the command's session can have it. The kernel hangs up on who
// leads the session that loses it: on us, and that is nothing to pass on.
static void leave_terminal(void) {
    sigset_t hang_up;
    sigemptyset(&hang_up);
    sigaddset(&hang_up, SIGHUP);
    sigaddset(&hang_up, SIGCONT);
    if (ioctl(0, TIOCNOTTY) < 0)
        return;
    while (sigtimedwait(&hang_up, NULL, &(struct timespec){0}) > 0)
        ;
}

static void block(const struct exec_options *o, sigset_t *ret_all, sigset_t *ret_before) {
    static const int faults[] = {SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGABRT, SIGTRAP, SIGSYS};
    sigfillset(ret_all);
    for (unsigned i = 0; i < sizeof faults / sizeof *faults && !o->faults; i++)
        sigdelset(ret_all, faults[i]);
    sigprocmask(SIG_SETMASK, ret_all, ret_before);
}

int exec_run(const struct exec_options *o) {
    struct state s = {.o = o};
    sigset_t all, before;
    block(o, &all, &before);
    if (o->parent_death && prctl(PR_SET_PDEATHSIG, o->parent_death) < 0)
        say(o, SAY_WARNING, "warning", "parent death signal: %s", strerrordesc_np(errno));
    if (o->subreaper && getpid() != 1 && prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
        say(o, SAY_WARNING, "warning", "cannot adopt orphans: %s", strerrordesc_np(errno));
    if (o->session)
        leave_terminal();
    int code = start(&s, &before);
    if (code)
        return code;
    while (!s.ended) {
        int sig = next_signal(&s, &all);
        if (sig == 0)
            kill_all(&s);
        else if (sig == SIGCHLD)
            reap(&s);
        else if (sig > 0)
            pass_on(&s, sig);
    }
    if (o->end_rest)
        kill(-s.child, SIGTERM);
    return exit_code(o, s.status);
}
