#include "probe/probe.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sysexits.h>

// The last line of what a command wrote, for the message.
struct tail {
    char line[200], next[200];
    size_t n;
};

static void tail_add(struct tail *t, const char *data, size_t len) {
    for (size_t i = 0; i < len; i++) {
        if (data[i] != '\n') {
            if (t->n < sizeof t->next - 1)
                t->next[t->n++] = data[i];
        } else if (t->n) {
            t->next[t->n] = 0;
            memcpy(t->line, t->next, t->n + 1);
            t->n = 0;
        }
    }
}

static const char *tail_end(struct tail *t) {
    tail_add(t, "\n", 1);
    return t->line;
}

static _Noreturn void run(char *const *command, int out, int sync) {
    signal(SIGPIPE, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setpgid(0, 0);
    dup2(out, 1);
    dup2(out, 2);
    execvp(command[0], command);
    int number = errno;
    ssize_t n = write(sync, &number, sizeof number);
    _exit(n < 0 ? 126 : 127);
}

// Reads the output until the command has ended (0, still to be waited for) or time is over (-1).
static int follow(int pidfd, int out, int64_t end, struct tail *t) {
    char data[4096];
    struct pollfd fds[2] = {{.fd = pidfd, .events = POLLIN}, {.fd = out, .events = POLLIN}};
    for (;;) {
        int64_t left = end - clock_mono_ms();
        int n = poll(fds, 2, left > 0 ? (int)left : 0);
        if (n == 0 || (n < 0 && errno != EINTR))
            return -1;
        ssize_t got = n > 0 && fds[1].revents ? read(out, data, sizeof data) : -1;
        if (got > 0)
            tail_add(t, data, (size_t)got);
        else if (got == 0)
            fds[1].fd = -1;
        // What it left behind may hold the pipe: its own end is what counts.
        if (n > 0 && fds[0].revents && got <= 0)
            return 0;
    }
}

static int verdict(const struct probe *p, int status, struct tail *t, enum obstacle *ret_why,
                   struct err *e) {
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    const char *line = tail_end(t);
    *ret_why = OBSTACLE_NOT_READY;
    return err_set(e, EX_UNAVAILABLE, "%s: %s ended by %s %d%s%s", obstacle_word(*ret_why),
                   p->command[0], WIFSIGNALED(status) ? "signal" : "exit code",
                   WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), *line ? ": " : "",
                   line);
}

int try_exec(const struct probe *p, enum obstacle *ret_why, struct err *e) {
    int out[2], sync[2], number = 0, status = 0;
    struct tail tail = {0};
    char ms[32];
    int64_t end = clock_mono_ms() + p->timeout_ms;
    if (pipe2(out, O_CLOEXEC) < 0)
        return err_errno(e, EX_OSERR, "pipe");
    autoclose int out_r = out[0];
    fcntl(out_r, F_SETFL, O_NONBLOCK); // this end only: the command expects an ordinary stdout
    if (pipe2(sync, O_CLOEXEC) < 0) {
        close(out[1]);
        return err_errno(e, EX_OSERR, "pipe");
    }
    autoclose int sync_r = sync[0];
    pid_t pid = fork();
    if (pid == 0)
        run(p->command, out[1], sync[1]);
    close(out[1]);
    close(sync[1]);
    if (pid < 0)
        return err_errno(e, EX_OSERR, "fork");
    setpgid(pid, pid);
    if (read(sync_r, &number, sizeof number) == sizeof number) {
        waitpid(pid, &status, 0);
        errno = number;
        return err_errno(e, EX_CONFIG, "%s", p->command[0]);
    }
    autoclose int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    int rc = follow(pidfd, out_r, end, &tail);
    // Also what a finished command left behind; before the wait, as long as the number is its own.
    kill(-pid, SIGKILL);
    waitpid(pid, &status, 0);
    if (rc == 0)
        return verdict(p, status, &tail, ret_why, e);
    *ret_why = OBSTACLE_TIMEOUT;
    return err_set(e, EX_UNAVAILABLE, "%s: %s ran longer than %s", obstacle_word(*ret_why),
                   p->command[0], text_ms(p->timeout_ms, ms, sizeof ms));
}
