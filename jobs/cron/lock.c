#include "cron/lock.h"

#include "base/cleanup.h"
#include "base/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

int lock_start(struct lock *l, const struct jobs *j, const char *name, int64_t wait_ms,
               struct err *e) {
    char program[PATH_MAX], wait[32];
    int in[2] = {-1, -1}, out[2] = {-1, -1};
    snprintf(wait, sizeof wait, "%lldms", (long long)wait_ms);
    const char *argv[] = {spawn_sibling("civinit-jobs-helper", program, sizeof program),
                          "--config",
                          j->path,
                          "lock",
                          "--wait",
                          wait,
                          name ? "--name" : NULL,
                          name,
                          NULL};
    *l = (struct lock){.in = -1, .out = -1};
    if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0) {
        cleanup_fd(&in[0]);
        cleanup_fd(&in[1]);
        return err_errno(e, EX_OSERR, "pipe");
    }
    struct spawn_fd fds[] = {{in[0], 0}, {out[1], 1}};
    struct spawn s = {.argv = (char *const *)argv, .fds = fds, .nfds = 2, .session = true};
    int rc = spawn_process(&s, &l->pid, e);
    close(in[0]);
    close(out[1]);
    if (rc < 0) {
        close(in[1]);
        close(out[0]);
        return -1;
    }
    fcntl(out[0], F_SETFL, O_NONBLOCK);
    l->in = in[1];
    l->out = out[0];
    l->state = LOCK_WAITING;
    return 0;
}

// "held", "busy WHO", "lost WHY".
static enum lock_event take_line(struct lock *l) {
    if (l->state == LOCK_WAITING && strcmp(l->text, "held") == 0) {
        l->state = LOCK_HELD;
        return LOCK_GOT;
    }
    enum lock_event event = strncmp(l->text, "busy", 4) == 0   ? LOCK_BUSY
                            : strncmp(l->text, "lost", 4) == 0 ? LOCK_LOST
                                                               : LOCK_NOTHING;
    if (event == LOCK_NOTHING)
        return event;
    memmove(l->text, l->text + 4, strlen(l->text + 4) + 1);
    if (*l->text == ' ')
        memmove(l->text, l->text + 1, strlen(l->text));
    if (event == LOCK_LOST && l->state != LOCK_HELD)
        event = LOCK_FAILED;
    lock_release(l);
    return event;
}

enum lock_event lock_read(struct lock *l) {
    for (;;) {
        char c;
        ssize_t n = read(l->out, &c, 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return LOCK_NOTHING;
        if (n == 0) {
            enum lock_event event = l->state == LOCK_HELD ? LOCK_LOST : LOCK_FAILED;
            snprintf(l->text, sizeof l->text,
                     event == LOCK_LOST ? "the process that held it ended"
                                        : "the lock cannot be asked for");
            lock_release(l);
            return event;
        }
        if (c != '\n') {
            if (l->len + 1 < sizeof l->text)
                l->text[l->len++] = c;
            continue;
        }
        l->text[l->len] = 0;
        l->len = 0;
        enum lock_event event = take_line(l);
        if (event != LOCK_NOTHING)
            return event;
    }
}

void lock_release(struct lock *l) {
    cleanup_fd(&l->in);
    cleanup_fd(&l->out);
    l->in = l->out = -1;
    l->state = LOCK_NONE;
    l->len = 0;
}
