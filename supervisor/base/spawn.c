#include "base/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sysexits.h>
#include <unistd.h>

// What runs in the child runs in the caller's memory and never returns: AddressSanitizer must not
// keep its books of that stack there.
#define IN_CHILD __attribute__((no_sanitize("address")))

enum stage {
    STAGE_SESSION,
    STAGE_OOM,
    STAGE_NICE,
    STAGE_RLIMIT,
    STAGE_GROUPS,
    STAGE_GROUP,
    STAGE_USER,
    STAGE_CWD,
    STAGE_FDS,
    STAGE_SIGNALS,
    STAGE_EXEC,
};

// What child and parent share until the exec, or what the child writes into a pipe.
struct birth {
    const struct spawn *s;
    char *const *envp;
    enum stage stage;
    int failed;   // errno of stage, or 0
    int report;   // the pipe's end, or -1
    size_t limit; // which of the limits is being set
};

IN_CHILD static int set_oom_score_adj(int value) {
    char text[16];
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int n = snprintf(text, sizeof text, "%d", value);
    return write(fd, text, n) == n ? close(fd) : -1;
}

IN_CHILD static int set_rlimits(struct birth *b) {
    const struct spawn_rlimit *r = b->s->rlimits;
    for (b->limit = 0; b->limit < b->s->nrlimits; b->limit++)
        if (setrlimit(r[b->limit].resource, &r[b->limit].limit) < 0)
            return -1;
    return 0;
}

// Moves the descriptors in two steps, so that no target overwrites a source still needed.
IN_CHILD static int move_fds(struct birth *b) {
    enum {
        MOST = 1024
    };
    const struct spawn *s = b->s;
    int from[MOST], top = 3;
    if (s->nfds > MOST) {
        errno = E2BIG;
        return -1;
    }
    for (size_t i = 0; i < s->nfds; i++)
        if (s->fds[i].to >= top)
            top = s->fds[i].to + 1;
    if (b->report >= 0 && b->report < top) {
        int above = fcntl(b->report, F_DUPFD_CLOEXEC, top);
        if (above < 0)
            return -1;
        b->report = above;
    }
    for (size_t i = 0; i < s->nfds; i++) {
        from[i] = s->fds[i].from;
        if (from[i] < top && from[i] != s->fds[i].to)
            from[i] = fcntl(from[i], F_DUPFD_CLOEXEC, top);
        if (from[i] < 0)
            return -1;
    }
    for (size_t i = 0; i < s->nfds; i++) {
        int rc = from[i] == s->fds[i].to ? fcntl(from[i], F_SETFD, 0) : dup2(from[i], s->fds[i].to);
        if (rc < 0)
            return -1;
    }
    return 0;
}

// A caller with ignored signals or handlers must not hand them on. Handlers would become the
// default by exec anyhow, but may run before it, in the caller's memory.
IN_CHILD static int reset_signals(const struct spawn *s) {
    struct sigaction standard = {.sa_handler = SIG_DFL}, old;
    for (int n = 1; n < NSIG; n++)
        if (n != SIGKILL && n != SIGSTOP && sigaction(n, NULL, &old) == 0 &&
            old.sa_handler != SIG_DFL)
            sigaction(n, &standard, NULL);
    sigset_t none;
    sigemptyset(&none);
    return sigprocmask(SIG_SETMASK, s->mask ? s->mask : &none, NULL);
}

IN_CHILD static const char *path_of(char *const *envp) {
    for (; *envp; envp++)
        if (strncmp(*envp, "PATH=", 5) == 0)
            return *envp + 5;
    return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
}

// execvpe(3) looks into the caller's PATH; the one that counts is the child's.
IN_CHILD static void run(const struct spawn *s, char *const *envp) {
    const char *name = s->argv[0];
    if (strchr(name, '/')) {
        execve(name, s->argv, envp);
        return;
    }
    int why = ENOENT;
    char file[PATH_MAX];
    for (const char *p = path_of(envp);; p++) {
        size_t n = strcspn(p, ":");
        if (snprintf(file, sizeof file, "%.*s%s%s", (int)n, p, n ? "/" : "", name) <
            (int)sizeof file) {
            execve(file, s->argv, envp);
            if (errno != ENOENT && errno != ENOTDIR && why == ENOENT)
                why = errno;
        }
        p += n;
        if (!*p)
            break;
    }
    errno = why;
}

// Raw system calls: the C library's also change the threads of the caller, in whose memory
// this runs.
IN_CHILD static int change_user(struct birth *b) {
    const struct spawn *s = b->s;
    b->stage = STAGE_GROUPS;
    if (syscall(SYS_setgroups, s->ngroups, s->groups) < 0)
        return -1;
    b->stage = STAGE_GROUP;
    if (syscall(SYS_setresgid, s->gid, s->gid, s->gid) < 0)
        return -1;
    b->stage = STAGE_USER;
    return (int)syscall(SYS_setresuid, s->uid, s->uid, s->uid);
}

IN_CHILD static int prepare(struct birth *b) {
    const struct spawn *s = b->s;
    b->stage = STAGE_SESSION;
    if ((s->session && setsid() < 0) || (s->group && setpgid(0, 0) < 0))
        return -1;
    b->stage = STAGE_OOM;
    if (s->set_oom_score_adj && set_oom_score_adj(s->oom_score_adj) < 0)
        return -1;
    b->stage = STAGE_NICE;
    if (s->set_nice && setpriority(PRIO_PROCESS, 0, s->nice) < 0)
        return -1;
    b->stage = STAGE_RLIMIT;
    if (set_rlimits(b) < 0)
        return -1;
    if (s->set_umask)
        umask(s->umask);
    if (s->set_user && change_user(b) < 0)
        return -1;
    if (s->death_signal)
        prctl(PR_SET_PDEATHSIG, s->death_signal);
    b->stage = STAGE_CWD;
    if (s->cwd && chdir(s->cwd) < 0)
        return -1;
    b->stage = STAGE_FDS;
    if (move_fds(b) < 0)
        return -1;
    b->stage = STAGE_SIGNALS;
    return reset_signals(s);
}

IN_CHILD static int child(void *arg) {
    struct birth *b = arg;
    if (prepare(b) == 0) {
        b->stage = STAGE_EXEC;
        run(b->s, b->envp);
    }
    b->failed = errno;
    if (b->report >= 0) {
        sigset_t all; // of a caller who has lost patience comes SIGPIPE
        sigfillset(&all);
        sigprocmask(SIG_SETMASK, &all, NULL);
        if (write(b->report, b, sizeof *b) < 0)
            _exit(127);
    }
    _exit(127);
}

static int describe(const struct birth *b, struct err *e) {
    static const char *const names[] = {
        [STAGE_SESSION] = "session", [STAGE_OOM] = "oom_score_adj", [STAGE_NICE] = "nice",
        [STAGE_RLIMIT] = "rlimit",   [STAGE_GROUPS] = "groups",     [STAGE_GROUP] = "group",
        [STAGE_USER] = "user",       [STAGE_CWD] = "cwd",           [STAGE_FDS] = "descriptors",
        [STAGE_SIGNALS] = "signals", [STAGE_EXEC] = "exec",
    };
    const struct spawn *s = b->s;
    int code = b->failed == EPERM || b->failed == EACCES ? EX_NOPERM : EX_CONFIG;
    errno = b->failed;
    if (b->stage == STAGE_EXEC && b->failed == ENOENT && !strchr(s->argv[0], '/'))
        err_set(e, code, "exec %s: not found in PATH", s->argv[0]);
    else if (b->stage == STAGE_EXEC && b->failed == ENOEXEC)
        err_set(e, code, "exec %s: neither a binary of this machine nor a script with a #! line",
                s->argv[0]);
    else if (b->stage == STAGE_EXEC)
        err_errno(e, code, "exec %s", s->argv[0]);
    else if (b->stage == STAGE_RLIMIT)
        err_errno(e, code, "rlimit.%s", s->rlimits[b->limit].name);
    else if (b->stage == STAGE_CWD)
        err_errno(e, code, "cwd %s", s->cwd);
    else if (b->stage == STAGE_USER)
        err_errno(e, code, "user %u", s->uid);
    else if (b->stage == STAGE_GROUP)
        err_errno(e, code, "group %u", s->gid);
    else
        err_errno(e, code, "%s", names[b->stage]);
    errno = b->failed;
    return -1;
}

// A copy of the caller's memory. What child() writes, or the end of the pipe by exec, or that it
// takes longer than the caller's patience, ends the wait.
static pid_t start_apart(struct birth *b, char *stack_top) {
    int p[2];
    if (pipe2(p, O_CLOEXEC) < 0)
        return -1;
    b->report = p[1];
    pid_t pid = clone(child, stack_top, SIGCHLD, b);
    int why = errno;
    close(p[1]);
    struct pollfd x = {p[0], POLLIN, 0};
    struct birth told;
    if (pid > 0 && poll(&x, 1, b->s->patience_ms) > 0 &&
        read(p[0], &told, sizeof told) == sizeof told) {
        b->stage = told.stage;
        b->failed = told.failed;
        b->limit = told.limit;
    }
    close(p[0]);
    errno = why;
    return pid;
}

int spawn_process(const struct spawn *s, pid_t *ret_pid, struct err *e) {
    enum {
        STACK = 32 << 10
    };
    _Alignas(16) char stack[STACK];
    struct birth b = {.s = s, .envp = s->envp ? s->envp : environ, .report = -1};
    // A handler of the caller must not run in the child: it may have the caller's memory.
    sigset_t all, old;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &old);
    pid_t pid = s->patience_ms ? start_apart(&b, stack + STACK)
                               : clone(child, stack + STACK, CLONE_VM | CLONE_VFORK | SIGCHLD, &b);
    int why = errno;
    sigprocmask(SIG_SETMASK, &old, NULL);
    if (pid < 0) {
        errno = why;
        return err_errno(e, EX_OSERR, "fork");
    }
    if (!b.failed) {
        *ret_pid = pid;
        return 0;
    }
    while (syscall(SYS_wait4, pid, NULL, 0, NULL) < 0 && errno == EINTR)
        ;
    return describe(&b, e);
}

const char *spawn_sibling(const char *name, char *buf, size_t size) {
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n > 0) {
        self[n] = 0;
        *strrchr(self, '/') = 0;
        if (snprintf(buf, size, "%s/%s", self, name) < (int)size && access(buf, X_OK) == 0)
            return buf;
    }
    snprintf(buf, size, "%s", name);
    return buf;
}
