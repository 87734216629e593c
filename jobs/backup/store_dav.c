// WebDAV (RFC 4918): PUT under a temporary name while the archive is made, then MOVE to its name
// without Overwrite. A PUT cannot go back: the dump is cut into pieces (can_patch is false).
#include "backup/store.h"

#include "backup/remote.h"
#include "backup/remote_store.h"
#include "backup/wire.h"
#include "base/cleanup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

enum {
    TRIES = 4
};

struct dav_store {
    struct remote_store remote;
    bool writing;
};

static struct dav_store *self(struct store *s) {
    return (struct dav_store *)s;
}

static int request(struct dav_store *d, const char *method, const char *name,
                   const char *const *headers, struct wire_answer *a, struct err *e) {
    autofree char *url = remote_url(&d->remote, name);
    if (!url)
        return err_set(e, EX_OSERR, "out of memory");
    struct wire_request q = {
        .method = method, .url = url, .headers = headers, .stop = remote_stop(&d->remote)};
    return wire_retry(d->remote.wire, &q, TRIES, a, e) < 0 ? err_wrap(e, "%s", d->remote.base) : 0;
}

static int refused(struct dav_store *d, long status, const char *what, struct err *e) {
    return remote_refused(&d->remote, &(struct wire_answer){.status = status}, what, e);
}

static void dav_abort(struct store *s) {
    struct dav_store *d = self(s);
    remote_end(&d->remote);
    if (!d->writing)
        return;
    d->writing = false;
    wire_stop(d->remote.wire);
    autowire struct wire_answer a = {0};
    request(d, "DELETE", d->remote.part, NULL, &a, NULL);
}

static int dav_create(struct store *s, const char *name, struct err *e) {
    struct dav_store *d = self(s);
    dav_abort(s);
    autowire struct wire_answer a = {0};
    if (remote_begin(&d->remote, name, e) < 0 || request(d, "HEAD", name, NULL, &a, e) < 0)
        return -1;
    if (a.status == 200)
        return err_set(e, EX_CANTCREAT, "%s%s: is there already", s->where, name);
    if (a.status != 404)
        return refused(d, a.status, name, e);
    static const char *const headers[] = {"Content-Type: application/octet-stream", NULL};
    autofree char *url = remote_url(&d->remote, d->remote.part);
    if (!url)
        return err_set(e, EX_OSERR, "out of memory");
    struct wire_request q = {.url = url, .headers = headers, .stop = d->remote.stop};
    if (wire_put(d->remote.wire, &q, e) < 0)
        return err_wrap(e, "%s", s->where);
    d->writing = true;
    return 0;
}

// A repeated MOVE finds no temporary file when the first one, whose answer was lost, did it all.
static bool was_moved(struct dav_store *d, long status) {
    autowire struct wire_answer part = {0}, whole = {0};
    return (status == 404 || status == 412) &&
           request(d, "HEAD", d->remote.part, NULL, &part, NULL) == 0 && part.status == 404 &&
           request(d, "HEAD", d->remote.name, NULL, &whole, NULL) == 0 && whole.status == 200;
}

static int dav_commit(struct store *s, struct err *e) {
    struct dav_store *d = self(s);
    long status;
    if (wire_put_end(d->remote.wire, &status, e) < 0)
        return err_wrap(e, "%s", s->where);
    if (status / 100 != 2)
        return refused(d, status, "upload", e);
    d->remote.last_words = true;
    autowire struct wire_answer a = {0};
    autofree char *url = remote_url(&d->remote, d->remote.name);
    autofree char *to = NULL;
    if (!url || asprintf(&to, "Destination: %s", url) < 0)
        return err_set(e, EX_OSERR, "out of memory");
    const char *headers[] = {to, "Overwrite: F", NULL};
    if (request(d, "MOVE", d->remote.part, headers, &a, e) < 0)
        return -1;
    if (a.status / 100 != 2 && !was_moved(d, a.status))
        return refused(d, a.status, d->remote.name, e);
    d->writing = false;
    return 0;
}

// Calls each for what lies in the folder, under its last path component.
static int walk(struct store *s, store_each *each, void *arg, struct err *e) {
    struct dav_store *d = self(s);
    static const char *const headers[] = {"Depth: 1", "Content-Type: application/xml", NULL};
    static const char body[] =
        "<?xml version=\"1.0\"?><propfind xmlns=\"DAV:\"><prop><getcontentlength/>"
        "<getlastmodified/><resourcetype/></prop></propfind>";
    autowire struct wire_answer a = {0};
    struct wire_request q = {.method = "PROPFIND",
                             .url = d->remote.base,
                             .headers = headers,
                             .body = body,
                             .body_len = sizeof body - 1,
                             .stop = remote_stop(&d->remote)};
    if (wire_retry(d->remote.wire, &q, TRIES, &a, e) < 0)
        return err_wrap(e, "%s", s->where);
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

static int dav_remove(struct store *s, const char *name, struct err *e) {
    struct dav_store *d = self(s);
    autowire struct wire_answer a = {0};
    if (request(d, "DELETE", name, NULL, &a, e) < 0)
        return -1;
    return a.status / 100 == 2 ? 0 : refused(d, a.status, name, e);
}

static void dav_free(struct store *s) {
    dav_abort(s);
    remote_close(&self(s)->remote);
    free(s);
}

static const struct store_ops ops = {
    .create = dav_create,
    .write = remote_write,
    .commit = dav_commit,
    .abort = dav_abort,
    .open = remote_open,
    .read = remote_read,
    .close_read = remote_close_read,
    .list = remote_list,
    .remove = dav_remove,
    .sweep = remote_sweep,
    .lock = remote_lock,
    .space = remote_space,
    .free = dav_free,
};

static int connect(struct remote_store *r, const struct options *o, struct err *e) {
    char *password = NULL;
    const char *user = remote_text(o, "user");
    bool plain = strncmp(r->base, "http://", 7) == 0;
    if (plain && user && strncmp(r->base + 7, "127.", 4) != 0 &&
        strncmp(r->base + 7, "localhost", 9) != 0 && strncmp(r->base + 7, "[::1]", 5) != 0)
        return err_set(e, EX_CONFIG, "%s: a password is only sent over https", r->base);
    int rc = remote_secret(o, "password_file", &password, e);
    struct wire_login login = {.user = user, .password = password, .ca = remote_text(o, "ca")};
    if (rc == 0)
        rc = remote_connect(r, &login, e);
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
    if (!d ||
        asprintf(&d->remote.base, "%s%s", destination, destination[n - 1] == '/' ? "" : "/") < 0) {
        free(d);
        return err_set(e, EX_OSERR, "out of memory");
    }
    remote_init(&d->remote, o, &ops);
    d->remote.store.where = d->remote.base;
    d->remote.walk = walk;
    if (connect(&d->remote, o, e) < 0) {
        dav_free(&d->remote.store);
        return -1;
    }
    *ret = &d->remote.store;
    return 0;
}
