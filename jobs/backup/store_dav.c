// WebDAV (RFC 4918): PUT under a temporary name while the archive is made, then MOVE to its name
// without Overwrite. A PUT cannot go back: the dump is cut into pieces (can_patch is false).
#include "backup/store.h"

#include "backup/remote.h"
#include "backup/wire.h"
#include "base/cleanup.h"
#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

enum {
    TRIES = 4
};

struct dav_store {
    struct store store;
    char *base; // ends in '/'
    struct wire *wire, *reading;
    char name[256], part[256];
    bool writing;
};

static struct dav_store *self(struct store *s) {
    return (struct dav_store *)s;
}

static char *url_of(const struct dav_store *d, const char *name) {
    struct buf b = {0};
    buf_str(&b, d->base);
    wire_encode(&b, name, false);
    return b.data;
}

static int request(struct dav_store *d, const char *method, const char *name,
                   const char *const *headers, struct wire_answer *a, struct err *e) {
    autofree char *url = url_of(d, name);
    if (!url)
        return err_set(e, EX_OSERR, "out of memory");
    struct wire_request q = {.method = method, .url = url, .headers = headers};
    return wire_retry(d->wire, &q, TRIES, a, e) < 0 ? err_wrap(e, "%s", d->base) : 0;
}

static int refused(struct dav_store *d, long status, const char *what, struct err *e) {
    wire_status(status, what, NULL, e);
    return err_wrap(e, "%s", d->base);
}

static void dav_abort(struct store *s) {
    struct dav_store *d = self(s);
    if (!d->writing)
        return;
    d->writing = false;
    wire_stop(d->wire);
    autowire struct wire_answer a = {0};
    request(d, "DELETE", d->part, NULL, &a, NULL);
}

static int dav_create(struct store *s, const char *name, struct err *e) {
    struct dav_store *d = self(s);
    dav_abort(s);
    autowire struct wire_answer a = {0};
    if (remote_part(name, d->part, sizeof d->part, e) < 0 ||
        request(d, "HEAD", name, NULL, &a, e) < 0)
        return -1;
    snprintf(d->name, sizeof d->name, "%s", name);
    if (a.status == 200)
        return err_set(e, EX_CANTCREAT, "%s%s: is there already", d->base, name);
    if (a.status != 404)
        return refused(d, a.status, name, e);
    static const char *const headers[] = {"Content-Type: application/octet-stream", NULL};
    autofree char *url = url_of(d, d->part);
    if (!url)
        return err_set(e, EX_OSERR, "out of memory");
    struct wire_request q = {.url = url, .headers = headers};
    if (wire_put(d->wire, &q, e) < 0)
        return err_wrap(e, "%s", d->base);
    d->writing = true;
    return 0;
}

static int dav_write(struct store *s, const void *data, size_t len, struct err *e) {
    struct dav_store *d = self(s);
    return wire_push(d->wire, data, len, e) < 0 ? err_wrap(e, "%s", d->base) : 0;
}

static int dav_commit(struct store *s, struct err *e) {
    struct dav_store *d = self(s);
    long status;
    if (wire_put_end(d->wire, &status, e) < 0)
        return err_wrap(e, "%s", d->base);
    if (status / 100 != 2)
        return refused(d, status, "upload", e);
    autowire struct wire_answer a = {0};
    autofree char *url = url_of(d, d->name);
    autofree char *to = NULL;
    if (!url || asprintf(&to, "Destination: %s", url) < 0)
        return err_set(e, EX_OSERR, "out of memory");
    const char *headers[] = {to, "Overwrite: F", NULL};
    if (request(d, "MOVE", d->part, headers, &a, e) < 0)
        return -1;
    if (a.status / 100 != 2)
        return refused(d, a.status, d->name, e);
    d->writing = false;
    return 0;
}

static void dav_close_read(struct store *s) {
    wire_stop(self(s)->reading);
}

static int dav_open(struct store *s, const char *name, uint64_t offset, int64_t *ret_size,
                    struct err *e) {
    struct dav_store *d = self(s);
    autofree char *url = url_of(d, name);
    long status = 0;
    int64_t size = -1;
    if (!url)
        return err_set(e, EX_OSERR, "out of memory");
    struct wire_request q = {.url = url, .offset = offset};
    if (wire_get(d->reading, &q, &status, &size, e) < 0)
        return err_wrap(e, "%s", d->base);
    if (status != (offset ? 206 : 200)) {
        wire_stop(d->reading);
        return refused(d, status, name, e);
    }
    *ret_size = size < 0 ? -1 : size + (int64_t)offset;
    return 0;
}

static ssize_t dav_read(struct store *s, void *data, size_t size, struct err *e) {
    struct dav_store *d = self(s);
    ssize_t n = wire_pull(d->reading, data, size, e);
    return n < 0 ? err_wrap(e, "%s", d->base) : n;
}

// Calls each for what lies in the folder, under its last path component.
static int walk(struct dav_store *d, store_each *each, void *arg, struct err *e) {
    static const char *const headers[] = {"Depth: 1", "Content-Type: application/xml", NULL};
    static const char body[] =
        "<?xml version=\"1.0\"?><propfind xmlns=\"DAV:\"><prop><getcontentlength/>"
        "<getlastmodified/><resourcetype/></prop></propfind>";
    autowire struct wire_answer a = {0};
    struct wire_request q = {.method = "PROPFIND",
                             .url = d->base,
                             .headers = headers,
                             .body = body,
                             .body_len = sizeof body - 1};
    if (wire_retry(d->wire, &q, TRIES, &a, e) < 0)
        return err_wrap(e, "%s", d->base);
    if (a.status != 207 || !a.body.data)
        return refused(d, a.status, "listing", e);
    const char *p = a.body.data, *end = p + a.body.len, *from, *to;
    while (remote_xml_next(&p, end, "response", &from, &to)) {
        autofree char *href = remote_xml(from, to, "href", NULL);
        autofree char *size = remote_xml(from, to, "getcontentlength", NULL);
        autofree char *time = remote_xml(from, to, "getlastmodified", NULL);
        char *name = href ? strrchr(href, '/') : NULL;
        if (!name || !name[1] || !size)
            continue;
        remote_decode(++name);
        int rc = each(arg, name, strtoll(size, NULL, 10), time ? remote_time(time) : 0);
        if (rc)
            return rc;
    }
    return 0;
}

struct listing {
    store_each *each;
    void *arg;
    struct buf stale; // names of old .part files, each ended by NUL
};

static int take_archive(void *arg, const char *name, int64_t size, int64_t mtime_ms) {
    struct listing *l = arg;
    return remote_is_part(name) ? 0 : l->each(l->arg, name, size, mtime_ms);
}

static int take_stale(void *arg, const char *name, int64_t size, int64_t mtime_ms) {
    struct listing *l = arg;
    if (remote_is_part(name) && mtime_ms && clock_wall_ms() - mtime_ms > REMOTE_STALE_S * 1000LL)
        buf_add(&l->stale, name, strlen(name) + 1);
    return 0;
}

static int dav_list(struct store *s, store_each *each, void *arg, struct err *e) {
    struct listing l = {.each = each, .arg = arg};
    return walk(self(s), take_archive, &l, e);
}

static int dav_remove(struct store *s, const char *name, struct err *e) {
    struct dav_store *d = self(s);
    autowire struct wire_answer a = {0};
    if (request(d, "DELETE", name, NULL, &a, e) < 0)
        return -1;
    return a.status / 100 == 2 ? 0 : refused(d, a.status, name, e);
}

static int dav_sweep(struct store *s, int *ret_removed, struct err *e) {
    struct listing l = {0};
    *ret_removed = 0;
    int rc = walk(self(s), take_stale, &l, e);
    for (size_t at = 0; rc == 0 && at < l.stale.len; at += strlen(l.stale.data + at) + 1)
        if (dav_remove(s, l.stale.data + at, NULL) == 0)
            ++*ret_removed;
    buf_free(&l.stale);
    return rc;
}

static int dav_lock(struct store *s, struct err *e) {
    return 0; // as S3's: nothing is ever replaced
}

static int64_t dav_space(struct store *s) {
    return -1;
}

static void dav_free(struct store *s) {
    struct dav_store *d = self(s);
    dav_abort(s);
    wire_free(d->wire);
    wire_free(d->reading);
    free(d->base);
    free(d);
}

static const struct store_ops ops = {
    .create = dav_create,
    .write = dav_write,
    .commit = dav_commit,
    .abort = dav_abort,
    .open = dav_open,
    .read = dav_read,
    .close_read = dav_close_read,
    .list = dav_list,
    .remove = dav_remove,
    .sweep = dav_sweep,
    .lock = dav_lock,
    .space = dav_space,
    .free = dav_free,
};

static int connect(struct dav_store *d, const struct options *o, struct err *e) {
    char *password = NULL;
    const char *user = remote_text(o, "user");
    bool plain = strncmp(d->base, "http://", 7) == 0;
    if (plain && user && strncmp(d->base + 7, "127.", 4) != 0 &&
        strncmp(d->base + 7, "localhost", 9) != 0 && strncmp(d->base + 7, "[::1]", 5) != 0)
        return err_set(e, EX_CONFIG, "%s: a password is only sent over https", d->base);
    int rc = remote_secret(o, "password_file", &password, e);
    struct wire_login login = {.user = user, .password = password, .ca = remote_text(o, "ca")};
    if (rc == 0)
        rc = wire_new(&login, &d->wire, e);
    if (rc == 0)
        rc = wire_new(&login, &d->reading, e);
    remote_forget(&password);
    return rc;
}

int store_dav_open(const struct options *o, const char *destination, struct store **ret,
                   struct err *e) {
    const char *host = strstr(destination, "://") + 3;
    if (memchr(host, '@', strcspn(host, "/")))
        return err_set(e, EX_CONFIG,
                       "the login belongs into [backup] user and password_file, not "
                       "into the address");
    struct dav_store *d = calloc(1, sizeof *d);
    size_t n = strlen(destination);
    if (!d || asprintf(&d->base, "%s%s", destination, destination[n - 1] == '/' ? "" : "/") < 0) {
        free(d);
        return err_set(e, EX_OSERR, "out of memory");
    }
    d->store = (struct store){.ops = &ops, .where = d->base, .can_seek = true};
    if (connect(d, o, e) < 0) {
        dav_free(&d->store);
        return -1;
    }
    *ret = (struct store *)d;
    return 0;
}
