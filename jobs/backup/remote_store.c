#include "backup/remote_store.h"

#include "backup/remote.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

enum {
    READ_TRIES = 4, // without a byte in between
};

static struct remote_store *self(struct store *s) {
    return (struct remote_store *)s;
}

void remote_init(struct remote_store *r, const struct options *o, const struct store_ops *ops) {
    r->store = (struct store){.ops = ops, .can_seek = true};
    r->stop = o->stop;
    r->closed = true;
    pthread_mutex_init(&r->busy, NULL);
}

int remote_connect(struct remote_store *r, const struct wire_login *login, struct err *e) {
    return wire_new(login, &r->wire, e) < 0 ? -1 : wire_new(login, &r->reading, e);
}

const atomic_bool *remote_stop(const struct remote_store *r) {
    return r->last_words ? NULL : r->stop;
}

char *remote_url(const struct remote_store *r, const char *name) {
    struct buf b = {0};
    buf_str(&b, r->base);
    wire_encode(&b, name, false);
    if (!b.failed)
        return b.data;
    buf_free(&b);
    return NULL;
}

int remote_refused(struct remote_store *r, const struct wire_answer *a, const char *what,
                   struct err *e) {
    wire_status(a->status, what, &a->body, e);
    return err_wrap(e, "%s", r->store.where);
}

int remote_begin(struct remote_store *r, const char *name, struct err *e) {
    if (remote_part(name, r->part, sizeof r->part, e) < 0)
        return -1;
    snprintf(r->name, sizeof r->name, "%s", name);
    r->closed = r->last_words = false;
    return 0;
}

int remote_enter(struct remote_store *r, struct err *e) {
    pthread_mutex_lock(&r->busy);
    if (!r->closed)
        return 0;
    pthread_mutex_unlock(&r->busy);
    return err_set(e, EX_TEMPFAIL, "%s: told to stop", r->store.where);
}

void remote_leave(struct remote_store *r) {
    pthread_mutex_unlock(&r->busy);
}

void remote_end(struct remote_store *r) {
    pthread_mutex_lock(&r->busy);
    r->closed = r->last_words = true;
    pthread_mutex_unlock(&r->busy);
}

int remote_write(struct store *s, const void *data, size_t len, struct err *e) {
    struct remote_store *r = self(s);
    if (remote_enter(r, e) < 0)
        return -1;
    int rc = wire_push(r->wire, data, len, e) < 0 ? err_wrap(e, "%s", s->where) : 0;
    remote_leave(r);
    return rc;
}

// One try. 1: one more may help.
static int open_once(struct remote_store *r, const char *name, uint64_t offset, int64_t *ret_size,
                     struct err *e) {
    autofree char *url = remote_url(r, name);
    struct wire_answer a = {0};
    int64_t size = -1;
    if (!url)
        return err_set(e, EX_OSERR, "out of memory");
    struct wire_request q = {
        .url = url, .headers = r->get_headers, .stop = r->stop, .offset = offset};
    struct err why = {0};
    if (wire_get(r->reading, &q, &a.status, &size, &why) < 0) {
        err_set(e, why.code, "%s: %s: %s", r->store.where, name, why.text);
        return why.code == EX_UNAVAILABLE ? 1 : -1;
    }
    if (a.status && a.status != (offset ? 206 : 200)) { // SFTP has no status
        wire_stop(r->reading);
        remote_refused(r, &a, name, e);
        return a.status == 429 || a.status >= 500 ? 1 : -1;
    }
    *ret_size = size < 0 ? -1 : size + (int64_t)offset;
    return 0;
}

static int open_at(struct remote_store *r, const char *name, uint64_t offset, int64_t *ret_size,
                   struct err *e) {
    for (int i = 0, wait_ms = 200;; i++, wait_ms *= 2) {
        struct err why = {0};
        int rc = open_once(r, name, offset, ret_size, &why);
        if (rc == 0)
            return 0;
        if (rc < 0 || i + 1 == READ_TRIES || (r->stop && *r->stop)) {
            if (e)
                *e = why;
            return -1;
        }
        nanosleep(&(struct timespec){wait_ms / 1000, wait_ms % 1000 * 1000000}, NULL);
    }
}

int remote_open(struct store *s, const char *name, uint64_t offset, int64_t *ret_size,
                struct err *e) {
    struct remote_store *r = self(s);
    if (open_at(r, name, offset, ret_size, e) < 0)
        return -1;
    snprintf(r->read_name, sizeof r->read_name, "%s", name);
    r->read_at = offset;
    r->read_size = *ret_size;
    return 0;
}

// Goes on where the connection broke; an archive that is another one by now is not the same.
static int open_again(struct remote_store *r, struct err *e) {
    int64_t size;
    if (open_at(r, r->read_name, r->read_at, &size, e) < 0)
        return -1;
    return size == r->read_size ? 0
                                : err_set(e, EX_DATAERR, "%s: %s: changed while it was read",
                                          r->store.where, r->read_name);
}

ssize_t remote_read(struct store *s, void *data, size_t size, struct err *e) {
    struct remote_store *r = self(s);
    for (int i = 0;; i++) {
        struct err why = {0};
        ssize_t n = wire_pull(r->reading, data, size, &why);
        if (n >= 0) {
            r->read_at += (uint64_t)n;
            return n;
        }
        if (why.code != EX_UNAVAILABLE || i + 1 == READ_TRIES || (r->stop && *r->stop))
            return err_set(e, why.code, "%s: %s", s->where, why.text);
        // What is there to its last byte has ended, whatever the server says then.
        if (r->read_size >= 0 && r->read_at == (uint64_t)r->read_size)
            return 0;
        if (open_again(r, e) < 0)
            return -1;
    }
}

void remote_close_read(struct store *s) {
    wire_stop(self(s)->reading);
}

struct listing {
    store_each *each;
    void *arg;
    struct buf stale; // names, each ended by NUL
};

static int take_archive(void *arg, const char *name, int64_t size, int64_t mtime_ms) {
    struct listing *l = arg;
    return *name == '.' ? 0 : l->each(l->arg, name, size, mtime_ms);
}

// Where the server tells no time, the age is in the name of the archive it was to be.
static int take_stale(void *arg, const char *name, int64_t size, int64_t mtime_ms) {
    struct listing *l = arg;
    char whole[256];
    int64_t made_s;
    if (!remote_is_part(name) || strlen(name) >= sizeof whole)
        return 0;
    snprintf(whole, sizeof whole, "%.*s", (int)strlen(name) - 6, name + 1);
    if (!store_name_time(whole, NULL, &made_s))
        return 0;
    int64_t then_ms = mtime_ms ? mtime_ms : made_s * 1000;
    if (clock_wall_ms() - then_ms > REMOTE_STALE_S * 1000LL)
        buf_add(&l->stale, name, strlen(name) + 1);
    return 0;
}

int remote_list(struct store *s, store_each *each, void *arg, struct err *e) {
    struct listing l = {.each = each, .arg = arg};
    return self(s)->walk(s, take_archive, &l, e);
}

int remote_sweep(struct store *s, int *ret_removed, struct err *e) {
    struct listing l = {0};
    *ret_removed = 0;
    int rc = self(s)->walk(s, take_stale, &l, e);
    for (size_t at = 0; rc == 0 && at < l.stale.len; at += strlen(l.stale.data + at) + 1)
        if (s->ops->remove(s, l.stale.data + at, NULL) == 0)
            ++*ret_removed;
    buf_free(&l.stale);
    return rc;
}

int remote_lock(struct store *s, struct err *e) {
    return 0;
}

int64_t remote_space(struct store *s) {
    return -1;
}

void remote_close(struct remote_store *r) {
    wire_free(r->wire);
    wire_free(r->reading);
    free(r->base);
    pthread_mutex_destroy(&r->busy);
}
