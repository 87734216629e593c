#include "log/sink.h"

#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int sink_open(struct sink *s, int fd, const char *name, size_t cap) {
    *s = (struct sink){.fd = fd, .name = name, .cap = cap, .data = malloc(cap)};
    return s->data ? 0 : -1;
}

// Says once that records are lost, and once that they are not any more.
static void note(struct sink *s, int problem) {
    if (problem && problem != s->problem)
        log_error("cannot write to %s: %s; records are lost", s->name, strerror(problem));
    if (!problem && s->problem)
        log_warning("%s can be written again; %llu bytes were lost", s->name,
                    (unsigned long long)s->lost);
    s->problem = problem;
    s->gone = problem == EPIPE;
}

// Someone may have made the descriptor non-blocking: it is shared with other processes.
static bool wait_writable(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    return poll(&p, 1, -1) >= 0 || errno == EINTR;
}

void sink_flush(struct sink *s) {
    size_t done = 0;
    while (done < s->len && !s->gone) {
        ssize_t n = write(s->fd, s->data + done, s->len - done);
        if (n >= 0) {
            done += (size_t)n;
            continue;
        }
        if (errno == EINTR || (errno == EAGAIN && wait_writable(s->fd)))
            continue;
        note(s, errno);
        break;
    }
    s->lost += s->len - done;
    if (s->problem && done == s->len && s->len)
        note(s, 0);
    s->len = 0;
}

char *sink_room(struct sink *s, size_t need) {
    if (s->cap - s->len < need)
        sink_flush(s);
    return s->data + s->len;
}

void sink_close(struct sink *s) {
    free(s->data);
    *s = (struct sink){.fd = -1};
}
