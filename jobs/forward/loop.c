#include "forward/loop.h"

#include "base/clock.h"
#include "base/log.h"
#include "forward/account.h"
#include "forward/peer.h"
#include "forward/record.h"

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
    INPUT = 1 << 20, // bytes of a record's line at most
    PIPE_BYTES = 256 << 10,
    REPORT_MS = 10000, // between two reports of dropped records
    OVERHEAD = 128,    // bytes an entry may have more than its line
};

struct loop {
    const struct settings *settings;
    struct queue queue;
    struct peer peer;
    struct account account;
    struct buf extra; // pairs that every record gets
    unsigned extra_n;
    char *input;
    size_t have;       // bytes in it
    bool skipping;     // the rest of a line that was too long
    bool ended;        // no more input
    bool held;         // a whole line waits for room (overflow = block)
    int64_t end_ms;    // monotonic: when waiting for the server is over; -1: not ending
    uint64_t reported; // dropped records
    int64_t report_ms; // when the next report may be
};

static int term_event = -1;

static void on_term(int signo) {
    (void)signo;
    int saved = errno;
    eventfd_write(term_event, 1);
    errno = saved;
}

static void add_extra(struct loop *l, const char *key, const char *value) {
    mp_text(&l->extra, key, strlen(key));
    mp_text(&l->extra, value, strlen(value));
    l->extra_n++;
}

static int begin(struct loop *l, struct err *e) {
    struct sigaction term = {.sa_handler = on_term, .sa_flags = SA_RESETHAND};
    const struct settings *s = l->settings;
    term_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    l->input = malloc(INPUT);
    if (s->instance)
        add_extra(l, "instance", s->instance);
    add_extra(l, "host", s->host);
    if (term_event < 0 || !l->input || l->extra.failed)
        return err_set(e, EX_OSERR, "out of memory or descriptors");
    sigaction(SIGTERM, &term, NULL);
    signal(SIGPIPE, SIG_IGN);
    fcntl(0, F_SETPIPE_SZ, PIPE_BYTES); // may fail: then as it is
    fcntl(0, F_SETFL, fcntl(0, F_GETFL) | O_NONBLOCK);
    return 0;
}

// false: there is no room, and it is to wait.
static bool take_line(struct loop *l, const char *line, size_t len, int64_t now) {
    struct queue *q = &l->queue;
    if (len == 0)
        return true;
    struct buf *b = queue_begin(q, len + l->extra.len + OVERHEAD);
    if (!b)
        return q->overflow != OVERFLOW_BLOCK || q->first == NULL;
    size_t before = b->len;
    record_pack(b, line, len, &l->extra, l->extra_n, now);
    queue_end(q, before);
    return true;
}

static void too_long(struct loop *l) {
    if (!l->skipping)
        l->queue.dropped++;
    l->skipping = true;
    l->have = 0;
}

static void take_lines(struct loop *l) {
    char *p = l->input, *end = l->input + l->have, *newline;
    int64_t now = clock_wall_ms();
    l->held = false;
    while (p < end && (newline = memchr(p, '\n', (size_t)(end - p)))) {
        if (l->skipping)
            l->skipping = false;
        else if (!take_line(l, p, (size_t)(newline - p), now)) {
            l->held = true;
            break;
        }
        p = newline + 1;
    }
    l->have = (size_t)(end - p);
    memmove(l->input, p, l->have);
    if (l->have == INPUT && !l->held)
        too_long(l);
}

static void end_input(struct loop *l) {
    if (l->ended)
        return;
    l->ended = true;
    l->end_ms = clock_mono_ms() + l->settings->flush_ms;
}

// Reads once. false: there is nothing now.
static bool read_input(struct loop *l) {
    ssize_t n = read(0, l->input + l->have, INPUT - l->have);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n <= 0) {
        if (l->have && l->have < INPUT && l->input[l->have - 1] != '\n') {
            l->input[l->have++] = '\n'; // a line without its end
            take_lines(l);
        }
        end_input(l);
        return false;
    }
    l->have += (size_t)n;
    take_lines(l);
    return true;
}

static void on_sigterm(struct loop *l) {
    while (!l->ended && !l->held && read_input(l))
        ;
    end_input(l);
}

static void report_dropped(struct loop *l, int64_t now, bool last) {
    uint64_t n = l->queue.dropped - l->reported;
    char size[32];
    if (n == 0 || (!last && now < l->report_ms))
        return;
    log_warning("%llu records dropped: no room in the buffer of %s", (unsigned long long)n,
                text_bytes((int64_t)l->queue.max, size, sizeof size));
    l->reported = l->queue.dropped;
    l->report_ms = now + REPORT_MS;
}

static int wait_ms(const struct loop *l, int64_t now) {
    int64_t until[] = {l->peer.deadline_ms, l->end_ms,
                       l->queue.dropped > l->reported ? l->report_ms : -1,
                       account_deadline_ms(&l->account)};
    int64_t wait = -1;
    for (int i = 0; i < 4; i++) {
        int64_t left = until[i] < 0 ? -1 : until[i] > now ? until[i] - now : 0;
        if (left >= 0 && (wait < 0 || left < wait))
            wait = left;
    }
    return (int)wait;
}

static void once(struct loop *l) {
    struct pollfd fds[3] = {{.fd = term_event, .events = POLLIN},
                            {.fd = l->ended || l->held ? -1 : 0, .events = POLLIN}};
    peer_watch(&l->peer, &fds[2]);
    if (poll(fds, 3, wait_ms(l, clock_mono_ms())) < 0)
        return;
    if (fds[1].revents)
        read_input(l);
    if (fds[0].revents) {
        on_sigterm(l);
        eventfd_t n;
        eventfd_read(term_event, &n);
    }
    peer_step(&l->peer, fds[2].revents, clock_mono_ms());
    if (l->held)
        take_lines(l);
    report_dropped(l, clock_mono_ms(), false);
    account_tell(&l->account, &l->queue, &l->peer, clock_mono_ms(), false);
}

static int finish(struct loop *l) {
    struct queue *q = &l->queue;
    report_dropped(l, 0, true);
    account_tell(&l->account, q, &l->peer, 0, true);
    const char *waits = peer_waits(&l->peer);
    if (q->records)
        log_error("%llu records were not delivered%s%s", (unsigned long long)q->records,
                  waits ? ": " : "", waits ? waits : "");
    log_info("%llu records delivered, %llu dropped", (unsigned long long)q->delivered,
             (unsigned long long)q->dropped);
    return q->records || q->dropped ? EX_UNAVAILABLE : 0;
}

int loop_run(const struct settings *s, struct err *e) {
    struct loop l = {.settings = s, .end_ms = -1};
    struct tls_context *tls = NULL;
    int rc = -1;
    l.queue = (struct queue){.tag = s->tag, .overflow = s->overflow, .max = s->buffer};
    if (begin(&l, e) == 0 && (!s->tls || (tls = tls_context_new(s->ca, e)))) {
        peer_init(&l.peer, s, tls, &l.queue);
        account_init(&l.account, s->run_dir);
        while (!l.ended || ((l.queue.records || l.held) && clock_mono_ms() < l.end_ms))
            once(&l);
        rc = finish(&l);
        peer_close(&l.peer);
    }
    queue_free(&l.queue);
    if (tls)
        tls_context_free(tls);
    account_free(&l.account);
    buf_free(&l.extra);
    free(l.input);
    return rc;
}
