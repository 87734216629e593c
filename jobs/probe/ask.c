#include "probe/probe.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <sysexits.h>

int probe_kind_of(const char *word) {
    static const char *const words[] = {"mysql", "http", "tcp", "unix",
                                        "smtp",  "imap", "dns", "exec"};
    for (int i = 0; i < 8; i++)
        if (strcmp(word, words[i]) == 0)
            return i;
    return -1;
}

// What the child of a try reports; smaller than PIPE_BUF, so that it arrives whole.
struct report {
    int rc;
    enum obstacle why;
    struct err e;
};

static _Noreturn void in_child(const struct probe *p, int fd, pid_t parent) {
    struct report r = {0};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(EX_SOFTWARE);
    r.why = OBSTACLE_OTHER;
    r.rc = p->try(p, &r.why, &r.e);
    // Not exit: nothing of the parent's may be flushed twice.
    _exit(file_write(fd, &r, sizeof r) < 0 ? EX_SOFTWARE : 0);
}

static int no_report(int status, enum obstacle *ret_why, struct err *e) {
    *ret_why = OBSTACLE_OTHER;
    return err_set(e, EX_SOFTWARE, "the try itself ended by %s %d",
                   WIFSIGNALED(status) ? "signal" : "exit code",
                   WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

// Waits for the child's report; kills it when it is late.
static int await(const struct probe *p, pid_t pid, int fd, enum obstacle *ret_why, struct err *e) {
    struct report r = {0};
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    int status = 0, n;
    int64_t end = clock_mono_ms() + p->timeout_ms, left;
    do {
        left = end - clock_mono_ms();
        n = poll(&poll_fd, 1, left > 0 ? (int)left : 0);
    } while (n < 0 && errno == EINTR);
    ssize_t got = n > 0 ? read(fd, &r, sizeof r) : 0;
    if (n <= 0)
        kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (n <= 0) {
        char ms[32];
        *ret_why = OBSTACLE_TIMEOUT;
        return err_set(e, EX_UNAVAILABLE, "%s: no answer from %s within %s",
                       obstacle_word(*ret_why), p->where, text_ms(p->timeout_ms, ms, sizeof ms));
    }
    if (got != sizeof r)
        return no_report(status, ret_why, e);
    *ret_why = r.why;
    if (r.rc < 0)
        *e = r.e;
    return r.rc;
}

// Kinds that keep their own time; a TCP target with a name does not, as the look-up may hang.
static bool needs_no_child(const struct probe *p) {
    struct net_address a;
    char *host, *port;
    if (p->kind == PROBE_UNIX || p->kind == PROBE_EXEC)
        return true;
    if (p->kind != PROBE_TCP)
        return false;
    autofree char *copy = strdup(p->target);
    return copy && net_split(copy, &host, &port) == 0 && net_numeric(host, port, &a) == 0;
}

int probe_ask(const struct probe *p, enum obstacle *ret_why, struct err *e) {
    *ret_why = OBSTACLE_OTHER;
    if (needs_no_child(p))
        return p->try(p, ret_why, e);
    int ends[2];
    pid_t parent = getpid();
    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_errno(e, EX_OSERR, "pipe");
    pid_t pid = fork();
    if (pid == 0)
        in_child(p, ends[1], parent);
    close(ends[1]);
    int rc = -1;
    if (pid < 0) {
        *ret_why = OBSTACLE_OTHER;
        err_errno(e, EX_OSERR, "fork");
    } else {
        rc = await(p, pid, ends[0], ret_why, e);
    }
    close(ends[0]);
    return rc;
}
