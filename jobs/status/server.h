// The HTTP server, by libmicrohttpd; the only user of it. One thread: the caller polls server_fd
// and calls server_run.
#ifndef STATUS_SERVER_H
#define STATUS_SERVER_H

#include "base/err.h"
#include "base/text.h"

#include <stdbool.h>
#include <stdint.h>

// A request, and the answer that the handler fills in.
struct server_exchange {
    const char *path;
    bool verbose;     // "?verbose" is there
    bool openmetrics; // the client understands OpenMetrics
    int status;       // 200 unless the handler changes it
    const char *type; // text/plain unless the handler changes it
    struct buf body;
};

typedef void server_handler(void *arg, struct server_exchange *x);

struct server;

// Listens on "HOST:PORT", ":PORT" (all addresses, both families) or "PORT". -1: e (EX_CONFIG for
// a malformed one, else EX_UNAVAILABLE). The descriptor is open before it returns.
int server_start(const char *listen, server_handler *handler, void *arg, struct server **ret,
                 struct err *e);

// Polled for reading; and how long poll may last for the sake of open connections (-1: for ever).
int server_fd(const struct server *s);
int server_timeout_ms(const struct server *s);

// Does what can be done without waiting.
void server_run(struct server *s);

// The port that it listens on (for listen = …:0).
int server_port(const struct server *s);

void server_stop(struct server *s);

#endif
