#include "forward/lookup.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sysexits.h>
#include <unistd.h>

struct lookup {
    char *host, *port;
    struct addrinfo *answer;
    int problem; // of getaddrinfo
    int fd;
    atomic_int owners; // the thread and who waits; the last one frees
};

static void release(struct lookup *l) {
    if (atomic_fetch_sub(&l->owners, 1) > 1)
        return;
    if (l->answer)
        freeaddrinfo(l->answer);
    if (l->fd >= 0)
        close(l->fd);
    free(l->host);
    free(l->port);
    free(l);
}

static void *work(void *arg) {
    struct lookup *l = arg;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    l->problem = getaddrinfo(l->host, l->port, &hints, &l->answer);
    eventfd_write(l->fd, 1);
    release(l);
    return NULL;
}

struct lookup *lookup_start(const char *host, const char *port, int *ret_fd, struct err *e) {
    struct lookup *l = calloc(1, sizeof *l);
    sigset_t all, old;
    pthread_t thread;
    if (!l) {
        err_set(e, EX_OSERR, "out of memory");
        return NULL;
    }
    *l = (struct lookup){.host = strdup(host), .port = strdup(port), .fd = eventfd(0, EFD_CLOEXEC)};
    atomic_store(&l->owners, 2);
    sigfillset(&all); // signals are the main thread's
    pthread_sigmask(SIG_SETMASK, &all, &old);
    if (!l->host || !l->port || l->fd < 0 || (errno = pthread_create(&thread, NULL, work, l))) {
        err_errno(e, EX_OSERR, "name look-up");
        atomic_store(&l->owners, 1);
        release(l);
        l = NULL;
    } else {
        pthread_detach(thread);
        *ret_fd = l->fd;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return l;
}

struct addrinfo *lookup_end(struct lookup *l, struct err *e) {
    struct addrinfo *answer = NULL;
    if (l->problem)
        err_set(e, EX_UNAVAILABLE, "%s", gai_strerror(l->problem));
    else {
        answer = l->answer;
        l->answer = NULL;
    }
    release(l);
    return answer;
}

void lookup_drop(struct lookup *l) {
    if (l)
        release(l);
}
