// The connection to a server: one at a time of those that are named, made again when it is lost.
#ifndef FORWARD_PEER_H
#define FORWARD_PEER_H

#include "forward/login.h"
#include "forward/lookup.h"
#include "forward/queue.h"
#include "forward/settings.h"
#include "forward/tls.h"

#include <poll.h>
#include <stdint.h>

enum peer_state {
    PEER_DOWN,    // until the deadline
    PEER_LOOKUP,  // of the name
    PEER_CONNECT, // TCP
    PEER_TLS,     // the handshake
    PEER_HELO,    // the server's greeting is awaited
    PEER_PONG,    // its answer to the login is awaited
    PEER_READY,
};

struct peer {
    const struct settings *settings;
    struct tls_context *tls_context; // NULL: plain TCP
    struct queue *queue;
    enum peer_state state;
    unsigned server, tried; // which one; how many have failed since the last pause
    struct lookup *lookup;
    struct addrinfo *answer, *address; // the name's addresses, and the one in use
    int fd;                            // the look-up's or the connection's, -1: none
    struct tls *tls;
    int64_t deadline_ms; // monotonic, -1: none
    int64_t pause_ms;    // before the next round
    struct login login;
    struct buf in, out;
    struct chunk *sending;
    size_t sent;                     // bytes of it
    bool proven;                     // the server has shown that it takes records
    unsigned connections;            // that a server took records on, or could have
    char problem[ERR_TEXT + 64];     // why there was none last, "" once records arrive
    unsigned announced;              // 1 + the server whose connection was logged last, 0: none
    uint32_t said[SETTINGS_SERVERS]; // of each server the problem that was logged last
};

// Begins with the first server at the next step. queue, settings and tls_context outlive it.
void peer_init(struct peer *p, const struct settings *s, struct tls_context *c, struct queue *q);

// What poll is to wait for.
void peer_watch(const struct peer *p, struct pollfd *ret);

// Does what can be done now: after poll, and after records have come.
void peer_step(struct peer *p, short revents, int64_t now_ms);

// "host:port" of the server that is in use or tried.
const char *peer_server(const struct peer *p);

// What the server has not done yet, as words; NULL: there is no connection, and why not was logged.
const char *peer_waits(const struct peer *p);

void peer_close(struct peer *p);

#endif
