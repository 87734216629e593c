#include "probe/probe.h"

#include "base/cleanup.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/un.h>
#include <sysexits.h>

int net_split(char *text, char **ret_host, char **ret_port) {
    char *colon = strrchr(text, ':'), *host = text;
    if (!colon || !colon[1] || colon == text)
        return -1;
    if (*text == '[') {
        if (colon[-1] != ']')
            return -1;
        colon[-1] = 0;
        host++;
    } else if (strchr(text, ':') != colon) {
        return -1; // an IPv6 address without brackets
    }
    *colon = 0;
    *ret_host = host;
    *ret_port = colon + 1;
    return 0;
}

int net_numeric(const char *host, const char *port, struct net_address *ret) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV},
                    *found;
    if (getaddrinfo(host, port, &hints, &found))
        return -1;
    memcpy(&ret->sa, found->ai_addr, found->ai_addrlen);
    ret->len = found->ai_addrlen;
    freeaddrinfo(found);
    return 0;
}

int net_unix(const char *path, struct net_address *ret, struct err *e) {
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    size_t n = strlen(path);
    if (!n || n >= sizeof sun.sun_path)
        return err_set(e, EX_CONFIG, "the path of a unix socket has 1 to %zu bytes, not %zu",
                       sizeof sun.sun_path - 1, n);
    memcpy(sun.sun_path, path, n);
    memset(ret, 0, sizeof *ret);
    memcpy(&ret->sa, &sun, sizeof sun);
    ret->len = sizeof sun;
    return 0;
}

bool net_is_local(const struct net_address *a) {
    if (a->sa.ss_family == AF_UNIX)
        return true;
    if (a->sa.ss_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)&a->sa)->sin_addr.s_addr) >> 24 == 127;
    return a->sa.ss_family == AF_INET6 &&
           IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)&a->sa)->sin6_addr);
}

static int failed(int number, const char *where, enum obstacle *ret_why, struct err *e) {
    *ret_why = obstacle_of_errno(number);
    errno = number;
    return err_errno(e, *ret_why == OBSTACLE_DENIED ? EX_NOPERM : EX_UNAVAILABLE, "%s: %s",
                     obstacle_word(*ret_why), where);
}

int net_connect(const struct net_address *a, int64_t timeout_ms, const char *where,
                enum obstacle *ret_why, struct err *e) {
    autoclose int fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int number = 0;
    socklen_t len = sizeof number;
    if (fd < 0)
        return failed(errno, where, ret_why, e);
    if (connect(fd, (const struct sockaddr *)&a->sa, a->len) == 0)
        return 0;
    if (errno != EINPROGRESS)
        return failed(errno, where, ret_why, e);
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    int n = poll(&p, 1, (int)timeout_ms);
    if (n < 0)
        number = errno;
    else if (n == 0)
        number = ETIMEDOUT;
    else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &number, &len) < 0)
        number = errno;
    return number ? failed(number, where, ret_why, e) : 0;
}

int try_unix(const struct probe *p, enum obstacle *ret_why, struct err *e) {
    struct net_address a;
    if (net_unix(p->target, &a, e) < 0)
        return -1;
    return net_connect(&a, p->timeout_ms, p->target, ret_why, e);
}

static int by_name(const struct probe *p, const char *host, const char *port,
                   enum obstacle *ret_why, struct err *e) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG}, *found;
    int rc = getaddrinfo(host, port, &hints, &found);
    if (rc) {
        *ret_why = OBSTACLE_NAME;
        return err_set(e, EX_UNAVAILABLE, "%s: %s: %s", obstacle_word(*ret_why), host,
                       gai_strerror(rc));
    }
    rc = -1;
    for (const struct addrinfo *i = found; i && rc < 0; i = i->ai_next) {
        struct net_address a = {.len = i->ai_addrlen};
        memcpy(&a.sa, i->ai_addr, i->ai_addrlen);
        rc = net_connect(&a, p->timeout_ms, p->target, ret_why, e);
    }
    freeaddrinfo(found);
    return rc;
}

int try_tcp(const struct probe *p, enum obstacle *ret_why, struct err *e) {
    struct net_address a;
    autofree char *copy = strdup(p->target);
    char *host, *port;
    if (!copy)
        return err_set(e, EX_OSERR, "out of memory");
    if (net_split(copy, &host, &port) < 0)
        return err_set(e, EX_CONFIG, "\"%s\" is not HOST:PORT", p->target);
    if (net_numeric(host, port, &a) == 0)
        return net_connect(&a, p->timeout_ms, p->target, ret_why, e);
    return by_name(p, host, port, ret_why, e);
}
