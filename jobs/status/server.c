#include "status/server.h"

#include <errno.h>
#include <limits.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

enum {
    IDLE_S = 30, // a connection that says nothing
    MEMORY = 8 << 10,
    CONNECTIONS = 32,
    BACKLOG = 64,
};

struct server {
    struct MHD_Daemon *daemon;
    server_handler *handler;
    void *arg;
    int port;
};

static enum MHD_Result answer(struct MHD_Connection *c, struct server_exchange *x) {
    struct MHD_Response *r = MHD_create_response_from_buffer(
        x->body.len, x->body.data ? x->body.data : (void *)"", MHD_RESPMEM_MUST_COPY);
    buf_free(&x->body);
    if (!r)
        return MHD_NO;
    MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, x->type);
    MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    enum MHD_Result rc = MHD_queue_response(c, (unsigned)x->status, r);
    MHD_destroy_response(r);
    return rc;
}

// MHD calls once when the headers are there and again when the body is; the answer is given the
// second time. Bodies are read over.
static enum MHD_Result on_request(void *arg, struct MHD_Connection *c, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *size, void **state) {
    static int seen;
    const struct server *s = arg;
    if (!*state) {
        *state = &seen;
        return MHD_YES;
    }
    if (*size) {
        *size = 0;
        return MHD_YES;
    }
    struct server_exchange x = {.path = url, .status = 200, .type = "text/plain; charset=utf-8"};
    const char *accept = MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_ACCEPT);
    x.openmetrics = accept && strstr(accept, "application/openmetrics-text");
    x.verbose = MHD_lookup_connection_value_n(c, MHD_GET_ARGUMENT_KIND, "verbose", 7, NULL, NULL) ==
                MHD_YES;
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
        x.status = MHD_HTTP_METHOD_NOT_ALLOWED;
        buf_str(&x.body, "only GET and HEAD\n");
    } else {
        s->handler(s->arg, &x);
    }
    return answer(c, &x);
}

// Dual-stack where the machine has IPv6 and no address is named.
static int open_socket(const char *host, const char *port, struct err *e) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found;
    int one = 1, zero = 0, fd = -1, number = 0;
    int rc = getaddrinfo(host, port, &hints, &found);
    if (rc)
        return err_set(e, EX_CONFIG, "listen: %s: %s", host ? host : port, gai_strerror(rc));
    for (int want_v6 = 1; want_v6 >= 0 && fd < 0; want_v6--)
        for (const struct addrinfo *a = found; a && fd < 0; a = a->ai_next) {
            if ((a->ai_family == AF_INET6) != want_v6)
                continue;
            fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
            if (fd < 0)
                continue;
            setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
            if (want_v6)
                setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
            if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
                continue;
            number = errno;
            close(fd);
            fd = -1;
        }
    freeaddrinfo(found);
    errno = number;
    return fd >= 0 ? fd : err_errno(e, EX_UNAVAILABLE, "listen on %s:%s", host ? host : "", port);
}

static int open_listen(const char *listen_text, struct err *e) {
    char host[256] = "";
    const char *colon = strrchr(listen_text, ':'), *port = colon ? colon + 1 : listen_text;
    size_t n = colon ? (size_t)(colon - listen_text) : 0;
    char *end;
    long number = strtol(port, &end, 10);
    if (!*port || *end || number < 0 || number > 65535 || n >= sizeof host)
        return err_set(e, EX_CONFIG, "listen: \"%s\" is not HOST:PORT or :PORT", listen_text);
    memcpy(host, listen_text, n);
    host[n] = 0;
    if (n > 1 && host[0] == '[' && host[n - 1] == ']') {
        host[n - 1] = 0;
        return open_socket(host + 1, port, e);
    }
    return open_socket(n ? host : NULL, port, e);
}

static int port_of(int fd) {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } a = {.v6 = {0}};
    socklen_t len = sizeof a;
    if (getsockname(fd, &a.any, &len) < 0)
        return 0;
    return ntohs(a.any.sa_family == AF_INET6 ? a.v6.sin6_port : a.v4.sin_port);
}

int server_start(const char *listen_text, server_handler *handler, void *arg, struct server **ret,
                 struct err *e) {
    int fd = open_listen(listen_text, e);
    if (fd < 0)
        return -1;
    struct server *s = calloc(1, sizeof *s);
    if (!s) {
        close(fd);
        return err_set(e, EX_OSERR, "out of memory");
    }
    *s = (struct server){.handler = handler, .arg = arg, .port = port_of(fd)};
    s->daemon = MHD_start_daemon(
        MHD_USE_EPOLL, 0, NULL, NULL, on_request, s, MHD_OPTION_LISTEN_SOCKET, fd,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)MEMORY, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS, MHD_OPTION_END);
    if (!s->daemon) {
        close(fd);
        free(s);
        return err_set(e, EX_UNAVAILABLE, "the HTTP server does not start");
    }
    *ret = s;
    return 0;
}

int server_fd(const struct server *s) {
    const union MHD_DaemonInfo *i = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    return i ? i->epoll_fd : -1;
}

int server_timeout_ms(const struct server *s) {
    MHD_UNSIGNED_LONG_LONG ms;
    if (MHD_get_timeout(s->daemon, &ms) != MHD_YES)
        return -1;
    return ms > INT_MAX ? INT_MAX : (int)ms;
}

void server_run(struct server *s) {
    MHD_run(s->daemon);
}

int server_port(const struct server *s) {
    return s->port;
}

void server_stop(struct server *s) {
    if (!s)
        return;
    MHD_stop_daemon(s->daemon);
    free(s);
}
