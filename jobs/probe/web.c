// http:// by hand: a GET whose answer matters only by its status.
#include "probe/probe.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/text.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

enum {
    READ_MOST = 1 << 20, // of the answer, so that the server does not see it broken off
};

int web_verdict(const struct probe *p, int status, enum obstacle *ret_why, struct err *e) {
    if (status >= p->status_min && status <= p->status_max)
        return 0;
    *ret_why = status == 401 || status == 403 ? OBSTACLE_DENIED : OBSTACLE_NOT_READY;
    return err_set(e, *ret_why == OBSTACLE_DENIED ? EX_NOPERM : EX_UNAVAILABLE,
                   "%s: status %d from %s", obstacle_word(*ret_why), status, p->where);
}

static int failed(enum obstacle why, const struct probe *p, const char *text,
                  enum obstacle *ret_why, struct err *e) {
    *ret_why = why;
    return err_set(e, why == OBSTACLE_DENIED ? EX_NOPERM : EX_UNAVAILABLE, "%s: %s: %s",
                   obstacle_word(why), p->where, text);
}

// Blocks; probe_ask ends it in time.
static int open_to(const struct probe *p, char *host_port, enum obstacle *ret_why, struct err *e) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    char *host = host_port, *port = (char *)"80";
    if (*host == '[' && host[strlen(host) - 1] == ']') {
        host[strlen(host) - 1] = 0;
        host++;
    } else if (strchr(host, ':') && net_split(host_port, &host, &port) < 0) {
        return err_set(e, EX_CONFIG, "\"%s\" is no HOST or HOST:PORT", p->where);
    }
    int rc = getaddrinfo(host, port, &hints, &found), number = 0, fd = -1;
    if (rc)
        return failed(OBSTACLE_NAME, p, gai_strerror(rc), ret_why, e);
    for (const struct addrinfo *a = found; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) == 0)
            break;
        number = errno;
        if (fd >= 0)
            close(fd);
        fd = -1;
    }
    freeaddrinfo(found);
    return fd >= 0 ? fd : failed(obstacle_of_errno(number), p, strerror(number), ret_why, e);
}

// The status of the answer, once it has been read to its end; 0: it is none of HTTP.
static int read_status(int fd) {
    char head[32] = "", data[4096];
    size_t have = 0, total = 0;
    ssize_t n;
    int status = 0;
    while (total < READ_MOST && (n = read(fd, data, sizeof data)) > 0) {
        size_t room = sizeof head - 1 - have, len = (size_t)n < room ? (size_t)n : room;
        memcpy(head + have, data, len);
        have += len;
        total += (size_t)n;
    }
    return sscanf(head, "HTTP/1.%*1d %3d", &status) == 1 ? status : 0;
}

int try_web(const struct probe *p, enum obstacle *ret_why, struct err *e) {
    const char *authority = p->target + strlen("http://");
    size_t len = strcspn(authority, "/?#");
    const char *path = authority + len, *at = memrchr(authority, '@', len);
    autobuf struct buf request = {0};
    char host[256];
    if (at) { // a user in the URL: not here
        len -= (size_t)(at + 1 - authority);
        authority = at + 1;
    }
    if (!len || len >= sizeof host)
        return err_set(e, EX_CONFIG, "\"%s\" names no host", p->where);
    snprintf(host, sizeof host, "%.*s", (int)len, authority);
    buf_printf(&request,
               "GET %s%.*s HTTP/1.1\r\nHost: %s\r\nUser-Agent: civinit/%s\r\n"
               "Accept: */*\r\nConnection: close\r\n\r\n",
               *path == '/' ? "" : "/", (int)strcspn(path, "#"), path, host, CIVINIT_VERSION);
    autoclose int fd = open_to(p, host, ret_why, e);
    if (fd < 0)
        return -1;
    if (request.failed || file_write(fd, request.data, request.len) < 0)
        return failed(OBSTACLE_NOT_READY, p, strerror(errno), ret_why, e);
    int status = read_status(fd);
    return status ? web_verdict(p, status, ret_why, e)
                  : failed(OBSTACLE_NOT_READY, p, "the answer is not HTTP", ret_why, e);
}
