// SFTP: an archive grows under a temporary name and is renamed; sftp's rename replaces nothing.
// "sftp://USER@HOST:PORT/path", "/~/path" lies in the user's home. The host must be in [backup]
// ssh_known_hosts. libcurl continues a file only at its end: the beginning cannot be patched.
#include "backup/store.h"

#include "backup/remote.h"
#include "backup/wire.h"
#include "base/cleanup.h"
#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

struct sftp_store {
    struct store store;
    char *base, *folder; // sftp://HOST/path/ and /path/
    struct wire *wire, *reading;
    char name[256], part[256];
    bool writing, streaming; // a .part exists; its stream is not ended yet
};

static struct sftp_store *self(struct store *s) {
    return (struct sftp_store *)s;
}

static char *url_of(const struct sftp_store *d, const char *name) {
    struct buf b = {0};
    buf_str(&b, d->base);
    wire_encode(&b, name, false);
    return b.data;
}

// A command on one or two files of the folder: rm "x", rename "x" "y".
static int command(struct sftp_store *d, const char *verb, const char *a, const char *b,
                   struct err *e) {
    autofree char *line = NULL;
    int n = b ? asprintf(&line, "%s \"%s%s\" \"%s%s\"", verb, d->folder, a, d->folder, b)
              : asprintf(&line, "%s \"%s%s\"", verb, d->folder, a);
    if (n < 0)
        return err_set(e, EX_OSERR, "out of memory");
    const char *commands[] = {line, NULL};
    autowire struct wire_answer answer = {0};
    struct wire_request q = {.url = d->base, .commands = commands};
    return wire_do(d->wire, &q, &answer, e);
}

static void sftp_abort(struct store *s) {
    struct sftp_store *d = self(s);
    if (!d->writing)
        return;
    wire_stop(d->wire);
    d->writing = d->streaming = false;
    command(d, "rm", d->part, NULL, NULL);
}

// Calls each for the folder's files. A line of "ls -l": its fifth word is the size, the name
// follows the ninth; the time has no time zone and is left alone.
static int walk(struct sftp_store *d, store_each *each, void *arg, struct err *e) {
    autowire struct wire_answer a = {0};
    struct wire_request q = {.url = d->base};
    if (wire_retry(d->reading, &q, 3, &a, e) < 0)
        return err_wrap(e, "%s", d->base);
    for (char *save = NULL, *line = strtok_r(a.body.data, "\n", &save); line;
         line = strtok_r(NULL, "\n", &save)) {
        long long size = 0;
        int at = 0;
        line[strcspn(line, "\r")] = '\0';
        if (sscanf(line, "-%*s %*s %*s %*s %lld %*s %*s %*s %n", &size, &at) < 1 || !at ||
            !line[at])
            continue;
        int rc = each(arg, line + at, size, 0);
        if (rc)
            return rc;
    }
    return 0;
}

static int is_name(void *arg, const char *name, int64_t size, int64_t mtime_ms) {
    return strcmp(arg, name) == 0;
}

static int sftp_create(struct store *s, const char *name, struct err *e) {
    struct sftp_store *d = self(s);
    sftp_abort(s);
    if (strpbrk(name, "\"\\") || remote_part(name, d->part, sizeof d->part, e) < 0)
        return err_set(e, EX_CANTCREAT, "%s: no name for SFTP", name);
    snprintf(d->name, sizeof d->name, "%s", name);
    int there = walk(d, is_name, d->name, e);
    if (there)
        return there < 0 ? -1 : err_set(e, EX_CANTCREAT, "%s%s: is there already", d->base, name);
    autofree char *url = url_of(d, d->part);
    if (!url)
        return err_set(e, EX_OSERR, "out of memory");
    struct wire_request q = {.url = url};
    if (wire_put(d->wire, &q, e) < 0)
        return err_wrap(e, "%s", d->base);
    d->writing = d->streaming = true;
    return 0;
}

static int sftp_write(struct store *s, const void *data, size_t len, struct err *e) {
    struct sftp_store *d = self(s);
    return wire_push(d->wire, data, len, e) < 0 ? err_wrap(e, "%s", d->base) : 0;
}

static int end_stream(struct sftp_store *d, struct err *e) {
    long status;
    if (!d->streaming)
        return 0;
    d->streaming = false;
    return wire_put_end(d->wire, &status, e) < 0 ? err_wrap(e, "%s", d->base) : 0;
}

static int sftp_commit(struct store *s, struct err *e) {
    struct sftp_store *d = self(s);
    if (end_stream(d, e) < 0)
        return -1;
    int there = walk(d, is_name, d->name, e);
    if (there)
        return there < 0 ? -1
                         : err_set(e, EX_CANTCREAT, "%s%s: is there already", d->base, d->name);
    if (command(d, "rename", d->part, d->name, e) < 0)
        return err_wrap(e, "%s%s", d->base, d->name);
    d->writing = false;
    return 0;
}

static void sftp_close_read(struct store *s) {
    wire_stop(self(s)->reading);
}

static int sftp_open(struct store *s, const char *name, uint64_t offset, int64_t *ret_size,
                     struct err *e) {
    struct sftp_store *d = self(s);
    autofree char *url = url_of(d, name);
    long status;
    int64_t size = -1;
    if (!url)
        return err_set(e, EX_OSERR, "out of memory");
    struct wire_request q = {.url = url, .offset = offset};
    if (wire_get(d->reading, &q, &status, &size, e) < 0)
        return err_wrap(e, "%s%s", d->base, name);
    *ret_size = size < 0 ? -1 : size + (int64_t)offset;
    return 0;
}

static ssize_t sftp_read(struct store *s, void *data, size_t size, struct err *e) {
    struct sftp_store *d = self(s);
    ssize_t n = wire_pull(d->reading, data, size, e);
    return n < 0 ? err_wrap(e, "%s", d->base) : n;
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

// The age of a .part is in the name of the archive it was to be.
static int take_stale(void *arg, const char *name, int64_t size, int64_t mtime_ms) {
    struct listing *l = arg;
    char whole[256];
    int64_t made;
    if (!remote_is_part(name) || strlen(name) >= sizeof whole)
        return 0;
    snprintf(whole, sizeof whole, "%.*s", (int)strlen(name) - 6, name + 1);
    if (store_name_time(whole, NULL, &made) && clock_wall_ms() / 1000 - made > REMOTE_STALE_S)
        buf_add(&l->stale, name, strlen(name) + 1);
    return 0;
}

static int sftp_list(struct store *s, store_each *each, void *arg, struct err *e) {
    struct listing l = {.each = each, .arg = arg};
    return walk(self(s), take_archive, &l, e);
}

static int sftp_remove(struct store *s, const char *name, struct err *e) {
    struct sftp_store *d = self(s);
    return command(d, "rm", name, NULL, e) < 0 ? err_wrap(e, "%s%s", d->base, name) : 0;
}

static int sftp_sweep(struct store *s, int *ret_removed, struct err *e) {
    struct listing l = {0};
    *ret_removed = 0;
    int rc = walk(self(s), take_stale, &l, e);
    for (size_t at = 0; rc == 0 && at < l.stale.len; at += strlen(l.stale.data + at) + 1)
        if (sftp_remove(s, l.stale.data + at, NULL) == 0)
            ++*ret_removed;
    buf_free(&l.stale);
    return rc;
}

static int sftp_lock(struct store *s, struct err *e) {
    return 0; // as S3's: nothing is ever replaced
}

static int64_t sftp_space(struct store *s) {
    return -1;
}

static void sftp_free(struct store *s) {
    struct sftp_store *d = self(s);
    sftp_abort(s);
    wire_free(d->wire);
    wire_free(d->reading);
    free(d->base);
    free(d->folder);
    free(d);
}

static const struct store_ops ops = {
    .create = sftp_create,
    .write = sftp_write,
    .commit = sftp_commit,
    .abort = sftp_abort,
    .open = sftp_open,
    .read = sftp_read,
    .close_read = sftp_close_read,
    .list = sftp_list,
    .remove = sftp_remove,
    .sweep = sftp_sweep,
    .lock = sftp_lock,
    .space = sftp_space,
    .free = sftp_free,
};

// The user of the address, else of [backup] user; the address loses it.
static int connect(struct sftp_store *d, const struct options *o, const char *user, struct err *e) {
    char *password = NULL;
    const char *key = remote_text(o, "ssh_key_file"), *hosts = remote_text(o, "ssh_known_hosts");
    if (!hosts)
        return err_set(e, EX_CONFIG, "%s: [backup] ssh_known_hosts is needed (ssh-keyscan HOST)",
                       d->base);
    if (access(hosts, R_OK) < 0)
        return err_errno(e, EX_CONFIG, "[backup] ssh_known_hosts: %s", hosts);
    if (key && access(key, R_OK) < 0)
        return err_errno(e, EX_CONFIG, "[backup] ssh_key_file: %s", key);
    int rc = remote_secret(o, "password_file", &password, e);
    struct wire_login login = {
        .user = user, .password = password, .ssh_key = key, .known_hosts = hosts};
    if (rc == 0 && !key && !password)
        rc = err_set(e, EX_CONFIG, "%s: [backup] ssh_key_file or password_file is needed", d->base);
    if (rc == 0)
        rc = wire_new(&login, &d->wire, e);
    if (rc == 0)
        rc = wire_new(&login, &d->reading, e);
    remote_forget(&password);
    return rc;
}

int store_sftp_open(const struct options *o, const char *destination, struct store **ret,
                    struct err *e) {
    const char *host = destination + strlen("sftp://");
    size_t n = strcspn(host, "/");
    const char *at = memchr(host, '@', n), *path = host + n;
    autofree char *named = at ? strndup(host, (size_t)(at - host)) : NULL;
    if (named && strchr(named, ':'))
        return err_set(e, EX_CONFIG,
                       "the password belongs into [backup] password_file, not into "
                       "the address");
    if (strpbrk(path, "\"\\"))
        return err_set(e, EX_CONFIG, "a path of SFTP cannot have a quote or a backslash");
    host = at ? at + 1 : host;
    struct sftp_store *d = calloc(1, sizeof *d);
    if (!d)
        return err_set(e, EX_OSERR, "out of memory");
    d->store = (struct store){.ops = &ops, .can_seek = true};
    const char *end = *path && path[strlen(path) - 1] == '/' ? "" : "/";
    if (asprintf(&d->folder, "%s%s", path, end) < 0 ||
        asprintf(&d->base, "sftp://%.*s%s", (int)(path - host), host, d->folder) < 0) {
        sftp_free(&d->store);
        return err_set(e, EX_OSERR, "out of memory");
    }
    d->store.where = d->base;
    if (connect(d, o, named ? named : remote_text(o, "user"), e) < 0) {
        sftp_free(&d->store);
        return -1;
    }
    *ret = (struct store *)d;
    return 0;
}
