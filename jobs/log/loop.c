#include "log/loop.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sysexits.h>
#include <unistd.h>

enum {
    PIPE_BYTES = 256 << 10,  // asked for; what services may write ahead
    BATCH_BYTES = 384 << 10, // a read's lines with their prefixes, usually
    DRAIN_READS = 64,        // at SIGTERM, of one stream
};

struct loop {
    struct options *o;
    struct outlet outlet;
    struct sink out, records;
    struct pollfd *fds; // signal, one for each stream, control
    struct pollfd *control_fd;
    struct buf control; // a line of --control whose end has not come yet
    bool forwarding;    // records still reach their reader
};

static int term_event = -1;

static void on_term(int signo) {
    (void)signo;
    int saved = errno;
    eventfd_write(term_event, 1);
    errno = saved;
}

static int catch_signals(struct err *e) {
    // SA_RESETHAND: the second SIGTERM ends the process, whatever it waits for.
    struct sigaction term = {.sa_handler = on_term, .sa_flags = SA_RESETHAND};
    term_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (term_event < 0)
        return err_errno(e, EX_OSERR, "eventfd");
    sigaction(SIGTERM, &term, NULL);
    signal(SIGPIPE, SIG_IGN);
    return 0;
}

static void control_line(struct loop *l, char *line) {
    char *word = strsep(&line, " "), *name = strsep(&line, " ");
    int64_t pid;
    if (strcmp(word, "pid") != 0 || !line || text_int(line, 0, INT32_MAX, &pid, NULL) < 0)
        return;
    for (int i = 0; i < l->o->nstreams; i++) {
        struct stream *s = &l->o->streams[i];
        if (s->fd >= 0 && strcmp(s->service, name) == 0 && stream_pid(s, (int)pid) < 0)
            log_warning("out of memory: lines of %s keep an old pid", name);
    }
}

static void control_read(struct loop *l) {
    char bytes[1024], *newline;
    ssize_t n = read(l->o->control, bytes, sizeof bytes);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        l->control_fd->fd = -1;
    if (n <= 0)
        return;
    buf_add(&l->control, bytes, (size_t)n);
    char *line = l->control.data;
    while (!l->control.failed &&
           (newline = memchr(line, '\n', l->control.data + l->control.len - line))) {
        *newline = 0;
        control_line(l, line);
        line = newline + 1;
    }
    size_t rest = l->control.data ? (size_t)(l->control.data + l->control.len - line) : 0;
    if (l->control.failed || rest > sizeof bytes) { // no line of ours
        buf_free(&l->control);
        return;
    }
    memmove(l->control.data, line, rest);
    l->control.len = rest;
}

// Milliseconds until the first record that waits for its trace must go on; -1: none waits.
static int next_release(struct loop *l) {
    int64_t first = -1, now = 0;
    for (int i = 0; i < l->o->nstreams; i++) {
        struct stream *s = &l->o->streams[i];
        if (s->holding && (first < 0 || s->held_until < first))
            first = s->held_until;
    }
    if (first < 0)
        return -1;
    now = clock_mono_ms();
    return first > now ? (int)(first - now) : 0;
}

// Those whose time is over and whose stream has nothing to read: what it has may belong to them.
static void release_due(struct loop *l) {
    int64_t now = clock_mono_ms();
    for (int i = 0; i < l->o->nstreams; i++) {
        struct stream *s = &l->o->streams[i];
        if (s->holding && s->held_until <= now && !l->fds[1 + i].revents)
            stream_release(s, &l->outlet);
    }
}

static void flush(struct loop *l) {
    sink_flush(&l->out);
    sink_flush(&l->records);
    if (!l->records.gone || !l->forwarding)
        return;
    // The forwarder will not come back: rather than lose records, say them on standard output.
    l->forwarding = false;
    l->outlet.records = NULL;
    if (!l->outlet.out) {
        l->outlet.out = &l->out;
        for (int i = 0; i < l->o->nstreams; i++)
            l->o->streams[i].format = FORMAT_JSON;
    }
}

static int read_streams(struct loop *l) {
    int open = 0;
    stamp_now(&l->outlet.now);
    for (int i = 0; i < l->o->nstreams; i++) {
        struct pollfd *p = &l->fds[1 + i];
        if (p->revents && stream_read(&l->o->streams[i], &l->outlet) < 0)
            p->fd = -1;
        open += p->fd >= 0;
    }
    return open;
}

static void drain(struct loop *l) {
    for (int i = 0; i < l->o->nstreams; i++) {
        struct stream *s = &l->o->streams[i];
        stamp_now(&l->outlet.now);
        for (int n = 0; s->fd >= 0 && n < DRAIN_READS && stream_read(s, &l->outlet) > 0; n++)
            ;
        if (s->fd >= 0)
            stream_finish(s, &l->outlet);
    }
    flush(l);
}

static void watch(struct pollfd *p, int fd) {
    *p = (struct pollfd){.fd = fd, .events = POLLIN};
    if (fd >= 0)
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

// A pipe that holds a batch: to be put to sleep and woken every 64 KB costs more than the lines do.
static void roomier(int fd) {
    int size = fcntl(fd, F_GETPIPE_SZ);
    if (size > 0 && size < BATCH_BYTES)
        fcntl(fd, F_SETPIPE_SZ, BATCH_BYTES); // may fail: then as it is
}

static int begin(struct loop *l, struct err *e) {
    struct options *o = l->o;
    size_t cap = BATCH_BYTES + 1024 + RENDER_EXTRA + 6 * o->max;
    l->fds = calloc((size_t)o->nstreams + 2, sizeof *l->fds);
    l->outlet.input = malloc(o->max + OUTLET_READ);
    if (!l->fds || !l->outlet.input || sink_open(&l->out, 1, "standard output", cap) < 0 ||
        sink_open(&l->records, o->records, "the forwarder", cap) < 0)
        return err_set(e, EX_OSERR, "out of memory");
    l->outlet.max = o->max;
    l->outlet.out = o->no_stdout ? NULL : &l->out;
    l->forwarding = o->records >= 0;
    l->outlet.records = l->forwarding ? &l->records : NULL;
    // Control comes last: poll looks at it after the streams, so that it sees the line about a
    // process whenever it sees that process's first output. It is read first.
    l->control_fd = &l->fds[1 + o->nstreams];
    watch(l->control_fd, o->control);
    watch(&l->fds[0], term_event);
    for (int i = 0; i < o->nstreams; i++) {
        if (stream_pid(&o->streams[i], 0) < 0)
            return err_set(e, EX_OSERR, "out of memory");
        fcntl(o->streams[i].fd, F_SETPIPE_SZ, PIPE_BYTES); // may fail: then as it is
        watch(&l->fds[1 + i], o->streams[i].fd);
    }
    roomier(l->outlet.out ? 1 : -1);
    roomier(o->records);
    return 0;
}

static void run(struct loop *l) {
    for (int open = 1; open;) {
        if (poll(l->fds, (nfds_t)l->o->nstreams + 2, next_release(l)) < 0) {
            if (errno != EINTR)
                return;
            continue;
        }
        if (l->control_fd->revents)
            control_read(l);
        if (l->fds[0].revents) {
            drain(l);
            return;
        }
        open = read_streams(l);
        release_due(l);
        flush(l);
    }
}

int loop_run(struct options *o, struct err *e) {
    struct loop l = {.o = o};
    int rc = catch_signals(e) < 0 || begin(&l, e) < 0 ? -1 : 0;
    if (rc == 0) {
        run(&l);
        rc = l.out.lost || l.records.lost ? EX_IOERR : 0;
    }
    sink_close(&l.out);
    sink_close(&l.records);
    buf_free(&l.control);
    free(l.fds);
    free(l.outlet.input);
    return rc;
}
