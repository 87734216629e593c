// SFTP: an archive grows under a temporary name and is renamed; sftp's rename replaces nothing.
// "sftp://USER@HOST:PORT/path", "/~/path" lies in the user's home. The host must be in [backup]
// ssh_known_hosts. libcurl continues a file only at its end: the beginning cannot be patched.
#include "backup/store.h"

#include "backup/remote.h"
#include "backup/remote_store.h"
#include "backup/wire.h"
#include "base/cleanup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

struct sftp_store {
    struct remote_store remote;
    char *folder;            // /path/
    bool writing, streaming; // a .part exists; its stream is not ended yet
};

static struct sftp_store *self(struct store *s) {
    return (struct sftp_store *)s;
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
    struct wire_request q = {
        .url = d->remote.base, .commands = commands, .stop = remote_stop(&d->remote)};
    return wire_do(d->remote.wire, &q, &answer, e);
}

static void sftp_abort(struct store *s) {
    struct sftp_store *d = self(s);
    remote_end(&d->remote);
    if (!d->writing)
        return;
    wire_stop(d->remote.wire);
    d->writing = d->streaming = false;
    command(d, "rm", d->remote.part, NULL, NULL);
}

// Calls each for the folder's files. A line of "ls -l": its fifth word is the size, the name
// follows the ninth; the time has no time zone and is left alone.
static int walk(struct store *s, store_each *each, void *arg, struct err *e) {
    struct sftp_store *d = self(s);
    autowire struct wire_answer a = {0};
    struct wire_request q = {.url = d->remote.base, .stop = remote_stop(&d->remote)};
    if (wire_retry(d->remote.reading, &q, 3, &a, e) < 0)
        return err_wrap(e, "%s", d->remote.base);
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
    if (strpbrk(name, "\"\\"))
        return err_set(e, EX_CANTCREAT, "%s: no name for SFTP", name);
    if (remote_begin(&d->remote, name, e) < 0)
        return -1;
    int there = walk(s, is_name, d->remote.name, e);
    if (there)
        return there < 0 ? -1
                         : err_set(e, EX_CANTCREAT, "%s%s: is there already", d->remote.base, name);
    autofree char *url = remote_url(&d->remote, d->remote.part);
    if (!url)
        return err_set(e, EX_OSERR, "out of memory");
    struct wire_request q = {.url = url, .stop = d->remote.stop};
    if (wire_put(d->remote.wire, &q, e) < 0)
        return err_wrap(e, "%s", d->remote.base);
    d->writing = d->streaming = true;
    return 0;
}

static int end_stream(struct sftp_store *d, struct err *e) {
    long status;
    if (!d->streaming)
        return 0;
    d->streaming = false;
    return wire_put_end(d->remote.wire, &status, e) < 0 ? err_wrap(e, "%s", d->remote.base) : 0;
}

static int sftp_commit(struct store *s, struct err *e) {
    struct sftp_store *d = self(s);
    if (end_stream(d, e) < 0)
        return -1;
    int there = walk(s, is_name, d->remote.name, e);
    if (there)
        return there < 0 ? -1
                         : err_set(e, EX_CANTCREAT, "%s%s: is there already", d->remote.base,
                                   d->remote.name);
    d->remote.last_words = true;
    if (command(d, "rename", d->remote.part, d->remote.name, e) < 0)
        return err_wrap(e, "%s%s", d->remote.base, d->remote.name);
    d->writing = false;
    return 0;
}

static int sftp_remove(struct store *s, const char *name, struct err *e) {
    struct sftp_store *d = self(s);
    return command(d, "rm", name, NULL, e) < 0 ? err_wrap(e, "%s%s", d->remote.base, name) : 0;
}

static void sftp_free(struct store *s) {
    struct sftp_store *d = self(s);
    sftp_abort(s);
    remote_close(&d->remote);
    free(d->folder);
    free(d);
}

static const struct store_ops ops = {
    .create = sftp_create,
    .write = remote_write,
    .commit = sftp_commit,
    .abort = sftp_abort,
    .open = remote_open,
    .read = remote_read,
    .close_read = remote_close_read,
    .list = remote_list,
    .remove = sftp_remove,
    .sweep = remote_sweep,
    .lock = remote_lock,
    .space = remote_space,
    .free = sftp_free,
};

// The user of the address, else of [backup] user; the address loses it.
static int connect(struct sftp_store *d, const struct options *o, const char *user, struct err *e) {
    char *password = NULL;
    const char *key = remote_text(o, "ssh_key_file"), *hosts = remote_text(o, "ssh_known_hosts");
    if (!hosts)
        return err_set(e, EX_CONFIG, "%s: [backup] ssh_known_hosts is needed (ssh-keyscan HOST)",
                       d->remote.base);
    if (access(hosts, R_OK) < 0)
        return err_errno(e, EX_CONFIG, "[backup] ssh_known_hosts: %s", hosts);
    if (key && access(key, R_OK) < 0)
        return err_errno(e, EX_CONFIG, "[backup] ssh_key_file: %s", key);
    int rc = remote_secret(o, "password_file", &password, e);
    struct wire_login login = {
        .user = user, .password = password, .ssh_key = key, .known_hosts = hosts};
    if (rc == 0 && !key && !password)
        rc = err_set(e, EX_CONFIG, "%s: [backup] ssh_key_file or password_file is needed",
                     d->remote.base);
    if (rc == 0)
        rc = remote_connect(&d->remote, &login, e);
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
    remote_init(&d->remote, o, &ops);
    d->remote.walk = walk;
    const char *end = *path && path[strlen(path) - 1] == '/' ? "" : "/";
    if (asprintf(&d->folder, "%s%s", path, end) < 0 ||
        asprintf(&d->remote.base, "sftp://%.*s%s", (int)(path - host), host, d->folder) < 0) {
        sftp_free(&d->remote.store);
        return err_set(e, EX_OSERR, "out of memory");
    }
    d->remote.store.where = d->remote.base;
    if (connect(d, o, named ? named : remote_text(o, "user"), e) < 0) {
        sftp_free(&d->remote.store);
        return -1;
    }
    *ret = &d->remote.store;
    return 0;
}
