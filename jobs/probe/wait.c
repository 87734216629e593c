#include "probe/probe.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sysexits.h>
#include <unistd.h>

enum {
    QUICK_MS = 10000, // how long a failure is answered with quick tries
    MIDDLE_MS = 60000,
    CALM_MS = 1000,
    LOCAL_MS = 20, // a refused connection on this machine costs some microseconds
    LOCAL_LATER_MS = 45,
    HOT_MS = 500, // after something changed beside a socket
    HOT_PAUSE_MS = 5,
    TELL_FIRST_MS = 1000,
    TELL_MS = 5000,
};

int64_t probe_pause(enum obstacle why, int64_t elapsed_ms, bool local) {
    bool quick = elapsed_ms < QUICK_MS, middle = elapsed_ms < MIDDLE_MS;
    switch (why) {
    case OBSTACLE_REFUSED:
        if (local)
            return middle ? LOCAL_MS : LOCAL_LATER_MS;
        return quick ? 40 : middle ? 250 : CALM_MS;
    case OBSTACLE_NOT_READY:
        return quick ? 40 : middle ? 250 : CALM_MS;
    case OBSTACLE_NAME:
    case OBSTACLE_TIMEOUT:
        return quick ? 100 : middle ? 500 : CALM_MS;
    default: // an account that is refused is not to be hammered
        return quick ? 250 : CALM_MS;
    }
}

// The state of a wait: where a cheap connect tells whether a real try is worth it.
struct waiting {
    const struct probe *p;
    bool cheap; // `address` is set
    bool local; // the target is on this machine
    struct net_address address;
    const char *path; // of a unix socket, or NULL
    int watch;        // inotify on its folder, -1: none
    int64_t hot_until;
    enum obstacle why;
    int64_t tell_ms; // when it may tell again
    char told[ERR_TEXT];
};

static void find_address(struct waiting *w) {
    const struct probe *p = w->p;
    char text[300], *host, *port;
    w->path = p->kind == PROBE_UNIX ? p->target : p->kind == PROBE_MYSQL ? p->db.socket : NULL;
    if (w->path) {
        w->cheap = net_unix(w->path, &w->address, NULL) == 0;
        w->local = true;
        return;
    }
    if (p->kind != PROBE_TCP && p->kind != PROBE_MYSQL)
        return;
    snprintf(text, sizeof text, "%s", p->where);
    if (net_split(text, &host, &port) < 0)
        return;
    w->cheap = net_numeric(host, port, &w->address) == 0;
    w->local = w->cheap ? net_is_local(&w->address) : strcmp(host, "localhost") == 0;
}

static void watch_folder(struct waiting *w) {
    char folder[PATH_MAX];
    const char *slash = w->path ? strrchr(w->path, '/') : NULL;
    if (!slash || slash - w->path >= (int)sizeof folder - 1)
        return;
    snprintf(folder, sizeof folder, "%.*s", (int)(slash - w->path) + 1, w->path);
    w->watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (w->watch >= 0 &&
        inotify_add_watch(w->watch, folder, IN_CREATE | IN_MOVED_TO | IN_ATTRIB) < 0) {
        close(w->watch); // the folder is not there yet: polling has to do
        w->watch = -1;
    }
}

// Sleeps; a change beside the socket ends it early. A server makes the file by bind and listens
// a moment later, so the next tries follow closely.
static void nap(struct waiting *w, int64_t ms) {
    char events[4096];
    struct pollfd p = {.fd = w->watch, .events = POLLIN};
    if (clock_mono_ms() < w->hot_until && ms > HOT_PAUSE_MS)
        ms = HOT_PAUSE_MS;
    if (poll(&p, 1, (int)ms) <= 0)
        return;
    while (read(w->watch, events, sizeof events) > 0)
        ;
    w->hot_until = clock_mono_ms() + HOT_MS;
}

static int64_t pause_of(const struct waiting *w, int64_t elapsed) {
    // A watched folder tells when the socket appears; a socket nobody listens on does not.
    if (w->why == OBSTACLE_REFUSED && w->watch >= 0 && access(w->path, F_OK) < 0)
        return CALM_MS;
    return probe_pause(w->why, elapsed, w->local);
}

// While a connection is refused only the connection is tried, not a login with its library. The
// first one that succeeds is followed by the real question, so that a server sees at most one
// connection that says nothing.
static bool still_refused(struct waiting *w, struct err *e) {
    if (!w->cheap || w->why != OBSTACLE_REFUSED || w->p->kind != PROBE_MYSQL)
        return false;
    return net_connect(&w->address, w->p->timeout_ms, w->p->where, &w->why, e) < 0;
}

// One try, cut to what is left of the wait. That the time of a cut one ran out says less than what
// the try before it found.
static int one(struct waiting *w, int64_t left, struct err *e) {
    struct probe p = *w->p;
    struct err new = {0};
    enum obstacle why;
    bool cut = left > 0 && left < p.timeout_ms;
    if (cut)
        p.timeout_ms = left;
    p.db.connect_ms = p.db.read_ms = p.mail.timeout_ms = p.timeout_ms;
    int rc = probe_ask(&p, &why, &new);
    if (rc < 0 && cut && why == OBSTACLE_TIMEOUT && e->code)
        return rc;
    w->why = why;
    if (rc < 0)
        *e = new;
    return rc;
}

// What it still waits for, when that is something else, and not more often than people read.
static void tell(struct waiting *w, int64_t elapsed_ms, const struct err *e) {
    if (!w->p->not_yet || elapsed_ms < TELL_FIRST_MS || elapsed_ms < w->tell_ms ||
        strcmp(w->told, e->text) == 0)
        return;
    w->tell_ms = elapsed_ms + TELL_MS;
    snprintf(w->told, sizeof w->told, "%s", e->text);
    w->p->not_yet(w->p, e);
}

static bool hopeless(const struct err *e) {
    return e->code == EX_CONFIG || e->code == EX_USAGE || e->code == EX_OSERR;
}

int probe_wait(const struct probe *p, int64_t wait_ms, int64_t *ret_ms, struct err *e) {
    struct waiting w = {.p = p, .watch = -1, .why = OBSTACLE_OTHER};
    int64_t begin = clock_mono_ms(), elapsed = 0;
    int rc;
    find_address(&w);
    for (;;) {
        rc = still_refused(&w, e) ? -1 : one(&w, wait_ms - elapsed, e);
        elapsed = clock_mono_ms() - begin;
        if (rc == 0 || hopeless(e) || elapsed >= wait_ms)
            break;
        tell(&w, elapsed, e);
        if (w.watch < 0)
            watch_folder(&w);
        int64_t pause = pause_of(&w, elapsed), left = wait_ms - elapsed;
        nap(&w, pause < left ? pause : left);
        elapsed = clock_mono_ms() - begin;
        if (elapsed >= wait_ms)
            break;
    }
    if (w.watch >= 0)
        close(w.watch);
    *ret_ms = clock_mono_ms() - begin;
    return rc;
}
