#include "forward/peer.h"

#include "base/log.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

enum {
    STEP_MS = 10000, // for a look-up, a connection, each half of a login
    ACK_MS = 30000,  // for an acknowledgement
    PAUSE_MS = 250,  // at first, then twice as long each time
    PAUSE_MOST = 30000,
    IN_FLIGHT = 16,     // chunks that wait for an acknowledgement
    MESSAGE = 64 << 10, // bytes of a server's message at most
};

static const struct server *current(const struct peer *p) {
    return &p->settings->servers[p->server];
}

void peer_init(struct peer *p, const struct settings *s, struct tls_context *c, struct queue *q) {
    *p = (struct peer){.settings = s, .tls_context = c, .queue = q, .fd = -1, .pause_ms = PAUSE_MS};
}

static void disconnect(struct peer *p) {
    if (p->state == PEER_LOOKUP)
        lookup_drop(p->lookup); // the descriptor is the look-up's
    else if (p->fd >= 0) {
        tls_free(p->tls);
        close(p->fd);
    }
    p->tls = NULL;
    p->fd = -1;
    p->in.len = p->out.len = 0;
    p->sending = NULL;
    queue_rewind(p->queue);
}

static void forget_addresses(struct peer *p) {
    if (p->answer)
        freeaddrinfo(p->answer);
    p->answer = p->address = NULL;
}

// A quarter more or less, so that a fleet does not come back all at once.
static int64_t about(int64_t ms) {
    uint32_t r = 0;
    if (getrandom(&r, sizeof r, 0) != sizeof r)
        return ms;
    return ms * 3 / 4 + r % (uint32_t)(ms / 2 + 1);
}

// Tells problems apart, so that each is said once.
static uint32_t text_hash(const char *text) {
    uint32_t h = 2166136261;
    while (*text)
        h = (h ^ (uint8_t)*text++) * 16777619;
    return h;
}

// The next server, at once or, when all have failed, after a pause.
static void fail(struct peer *p, const struct err *e, int64_t now) {
    uint32_t problem = text_hash(e->text);
    if (problem != p->said[p->server])
        log_error("%s: %s", current(p)->shown, e->text);
    p->said[p->server] = problem;
    snprintf(p->problem, sizeof p->problem, "%s: %s", current(p)->shown, e->text);
    if (p->proven)
        p->announced = 0;
    p->proven = false;
    disconnect(p);
    forget_addresses(p);
    p->state = PEER_DOWN;
    p->server = (p->server + 1) % p->settings->nservers;
    p->deadline_ms = now;
    if (++p->tried < p->settings->nservers)
        return;
    p->tried = 0;
    p->deadline_ms = now + about(p->pause_ms);
    p->pause_ms = p->pause_ms * 2 > PAUSE_MOST ? PAUSE_MOST : p->pause_ms * 2;
}

// Only this makes the next problem one that is said and retried soon: a server that merely lets
// connections come and go does not.
static void proven(struct peer *p) {
    p->proven = true;
    p->problem[0] = 0;
    p->said[p->server] = 0;
    p->pause_ms = PAUSE_MS;
    p->tried = 0;
}

static void enter(struct peer *p, enum peer_state state, int64_t now) {
    p->state = state;
    p->deadline_ms = state == PEER_READY ? -1 : now + STEP_MS;
    p->connections += state == PEER_READY;
    if (state != PEER_READY || p->announced == p->server + 1)
        return;
    p->announced = p->server + 1;
    log_notice("connected to %s; %llu records wait", current(p)->shown,
               (unsigned long long)p->queue->records);
}

// Connected, TLS included: log in, or go on at once.
static void connected(struct peer *p, int64_t now) {
    enter(p, p->settings->shared_key_file ? PEER_HELO : PEER_READY, now);
}

static int tcp_connected(struct peer *p, int64_t now, struct err *e) {
    int on = 1;
    setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(p->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    if (!p->tls_context) {
        connected(p, now);
        return 0;
    }
    p->tls = tls_new(p->tls_context, p->fd, current(p)->host, e);
    enter(p, PEER_TLS, now);
    return p->tls ? 0 : -1;
}

// Begins with the next address of the name; -1 with e when none is left.
static int connect_next(struct peer *p, int64_t now, struct err *e) {
    int problem = 0;
    for (; p->address; p->address = p->address->ai_next) {
        if (p->fd >= 0)
            close(p->fd);
        p->fd = socket(p->address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (p->fd >= 0 && (connect(p->fd, p->address->ai_addr, p->address->ai_addrlen) == 0 ||
                           errno == EINPROGRESS)) {
            enter(p, PEER_CONNECT, now);
            return 0;
        }
        problem = errno;
    }
    errno = problem;
    return err_errno(e, EX_UNAVAILABLE, "connect");
}

static int begin(struct peer *p, int64_t now, struct err *e) {
    p->lookup = lookup_start(current(p)->host, current(p)->port, &p->fd, e);
    if (!p->lookup)
        return -1;
    enter(p, PEER_LOOKUP, now);
    return 0;
}

static int looked_up(struct peer *p, int64_t now, struct err *e) {
    p->fd = -1;
    p->state = PEER_CONNECT; // the look-up is over, whatever it gave
    p->answer = lookup_end(p->lookup, e);
    p->address = p->answer;
    return p->answer ? connect_next(p, now, e) : -1;
}

static int connect_done(struct peer *p, int64_t now, struct err *e) {
    int problem = 0;
    socklen_t n = sizeof problem;
    getsockopt(p->fd, SOL_SOCKET, SO_ERROR, &problem, &n);
    if (problem == 0)
        return tcp_connected(p, now, e);
    p->address = p->address->ai_next;
    if (p->address)
        return connect_next(p, now, e);
    errno = problem;
    return err_errno(e, EX_UNAVAILABLE, "connect");
}

// > 0: bytes; 0: nothing now; -1 with e.
static ssize_t peer_read(struct peer *p, void *data, size_t len, struct err *e) {
    if (p->tls)
        return tls_read(p->tls, data, len, e);
    ssize_t n = read(p->fd, data, len);
    if (n == 0)
        return err_set(e, EX_UNAVAILABLE, "the server closed the connection");
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    return n < 0 ? err_errno(e, EX_UNAVAILABLE, "read") : n;
}

static ssize_t peer_write(struct peer *p, const void *data, size_t len, struct err *e) {
    if (p->tls)
        return tls_write(p->tls, data, len, e);
    ssize_t n = send(p->fd, data, len, MSG_NOSIGNAL);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    return n < 0 ? err_errno(e, EX_UNAVAILABLE, "write") : n;
}

// {"ack": id}
static int acknowledged(struct peer *p, struct mp_reader *r, uint32_t pairs, int64_t now,
                        struct err *e) {
    struct mp_item key, value;
    for (uint32_t i = 0; i < pairs; i++) {
        if (mp_next(r, &key) < 0 || mp_next(r, &value) < 0)
            break;
        if (!mp_is(&key, "ack") || value.type != MP_TEXT)
            continue;
        if (p->sending && mp_is(&value, p->sending->id))
            break; // of what it has not got yet
        if (queue_ack(p->queue, value.text, value.n)) {
            proven(p);
            p->deadline_ms = queue_in_flight(p->queue) ? now + ACK_MS : -1;
        }
        return 0;
    }
    return err_set(e, EX_PROTOCOL, "the server's acknowledgement makes no sense");
}

static int message(struct peer *p, struct mp_reader *r, int64_t now, struct err *e) {
    struct mp_item head, word = {.type = MP_NIL};
    if (mp_next(r, &head) < 0)
        return err_set(e, EX_PROTOCOL, "the server's message makes no sense");
    if (head.type == MP_MAP && p->state == PEER_READY)
        return acknowledged(p, r, head.n, now, e);
    if (head.type == MP_ARRAY && head.n > 0 && mp_next(r, &word) < 0)
        word.type = MP_NIL;
    if (mp_is(&word, "HELO") && (p->state == PEER_HELO || p->state == PEER_READY)) {
        if (login_helo(&p->login, p->settings, r, &p->out, e) < 0)
            return -1;
        if (p->state == PEER_HELO)
            enter(p, PEER_PONG, now);
        return 0;
    }
    if (mp_is(&word, "PONG") && p->state == PEER_PONG) {
        if (login_pong(&p->login, p->settings, r, e) < 0)
            return -1;
        proven(p);
        enter(p, PEER_READY, now);
        return 0;
    }
    return err_set(e, EX_PROTOCOL, "the server does not speak the forward protocol");
}

// Takes whole messages out of what was read.
static int messages(struct peer *p, int64_t now, struct err *e) {
    struct mp_reader all = {p->in.data, p->in.data + p->in.len};
    while (all.p < all.end) {
        struct mp_reader one = all;
        if (mp_skip(&all) < 0) {
            all = one;
            break;
        }
        if (message(p, &one, now, e) < 0)
            return -1;
    }
    size_t rest = (size_t)(all.end - all.p);
    if (rest > MESSAGE)
        return err_set(e, EX_PROTOCOL, "the server's message is too long");
    if (rest)
        memmove(p->in.data, all.p, rest);
    p->in.len = rest;
    return 0;
}

static int receive(struct peer *p, int64_t now, struct err *e) {
    char bytes[16384];
    ssize_t n;
    while ((n = peer_read(p, bytes, sizeof bytes, e)) > 0) {
        buf_add(&p->in, bytes, (size_t)n);
        if (p->in.failed) {
            buf_free(&p->in);
            return err_set(e, EX_OSERR, "out of memory");
        }
        if (messages(p, now, e) < 0)
            return -1;
    }
    return (int)n;
}

// The login's message, then chunks.
static int transmit(struct peer *p, int64_t now, struct err *e) {
    while (p->out.len) {
        ssize_t n = peer_write(p, p->out.data, p->out.len, e);
        if (n <= 0)
            return (int)n;
        memmove(p->out.data, p->out.data + n, p->out.len - (size_t)n);
        p->out.len -= (size_t)n;
    }
    while (p->state == PEER_READY) {
        if (!p->sending && queue_in_flight(p->queue) < IN_FLIGHT &&
            (p->sending = queue_next(p->queue))) {
            p->sending->sent = true;
            p->sent = 0;
            if (p->deadline_ms < 0)
                p->deadline_ms = now + ACK_MS;
        }
        if (!p->sending)
            return 0;
        ssize_t n =
            peer_write(p, p->sending->bytes.data + p->sent, p->sending->bytes.len - p->sent, e);
        if (n <= 0)
            return (int)n;
        p->sent += (size_t)n;
        if (p->sent == p->sending->bytes.len)
            p->sending = NULL;
    }
    return 0;
}

const char *peer_server(const struct peer *p) {
    return current(p)->shown;
}

const char *peer_waits(const struct peer *p) {
    static const char *const what[] = {[PEER_LOOKUP] = "no answer to the name look-up",
                                       [PEER_CONNECT] = "no answer to connecting",
                                       [PEER_TLS] = "no answer to the TLS handshake",
                                       [PEER_HELO] =
                                           "no greeting: the server does not ask for a shared key",
                                       [PEER_PONG] = "no answer to the login",
                                       [PEER_READY] = "no acknowledgement"};
    return what[p->state];
}

static int late(struct peer *p, int64_t now, struct err *e) {
    if (p->state == PEER_DOWN)
        return begin(p, now, e);
    return err_set(e, EX_UNAVAILABLE, "%s within %d s", peer_waits(p),
                   (p->state == PEER_READY ? ACK_MS : STEP_MS) / 1000);
}

static int step(struct peer *p, short revents, int64_t now, struct err *e) {
    if (p->deadline_ms >= 0 && now >= p->deadline_ms && !revents && late(p, now, e) < 0)
        return -1;
    if (p->state == PEER_LOOKUP && revents)
        return looked_up(p, now, e);
    if (p->state == PEER_CONNECT) {
        if (!revents)
            return 0;
        if (connect_done(p, now, e) < 0)
            return -1;
    }
    if (p->state == PEER_TLS) {
        int done = tls_handshake(p->tls, e);
        if (done <= 0)
            return done;
        connected(p, now);
    }
    if (p->state < PEER_HELO)
        return 0;
    bool asked = p->state == PEER_PONG;
    if (receive(p, now, e) == 0)
        return transmit(p, now, e);
    // Fluent Bit does no more than this when the shared key is a wrong one.
    return asked && e->code == EX_UNAVAILABLE ? err_wrap(e, "login: wrong shared key?") : -1;
}

void peer_step(struct peer *p, short revents, int64_t now_ms) {
    struct err e;
    if (step(p, revents, now_ms, &e) < 0)
        fail(p, &e, now_ms);
}

void peer_watch(const struct peer *p, struct pollfd *ret) {
    *ret = (struct pollfd){.fd = p->fd, .events = POLLIN};
    if (p->state == PEER_CONNECT)
        ret->events = POLLOUT;
    else if (p->state == PEER_TLS)
        ret->events = tls_events(p->tls);
    else if (p->state >= PEER_HELO && (p->sending || p->out.len))
        ret->events |= POLLOUT;
}

void peer_close(struct peer *p) {
    disconnect(p);
    forget_addresses(p);
    buf_free(&p->in);
    buf_free(&p->out);
}
