#include "backup/store.h"

#include "base/cleanup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <time.h>

// How a destination begins → the kind. The first that fits; a path without a scheme is a folder.
static const struct {
    const char *scheme;
    int (*open)(const struct options *o, const char *destination, struct store **ret,
                struct err *e);
} kinds[] = {
    {"s3://", store_s3_open},
    {"sftp://", store_sftp_open},
    {"https://", store_dav_open},
    {"http://", store_dav_open},
    {NULL, NULL},
};

static bool is_url(const char *text) {
    return strstr(text, "://") != NULL;
}

static int open_kind(const struct options *o, const char *destination, struct store **ret,
                     struct err *e) {
    if (strcmp(destination, "-") == 0)
        return store_pipe_open(o, destination, ret, e);
    for (int i = 0; kinds[i].scheme; i++)
        if (strncmp(destination, kinds[i].scheme, strlen(kinds[i].scheme)) == 0)
            return kinds[i].open(o, destination, ret, e);
    if (is_url(destination))
        return err_set(e, EX_USAGE, "%s: no such kind of destination", destination);
    return store_dir_open(o, destination, ret, e);
}

int store_open(const struct options *o, const char *destination, struct store **ret,
               struct err *e) {
    struct store *inner;
    if (open_kind(o, destination, &inner, e) < 0)
        return -1;
    if (store_age_wrap(o, inner, ret, e) == 0)
        return 0;
    store_free(inner);
    return -1;
}

struct newest {
    const char *instance;
    char *name;
    int64_t time;
};

static int take_newest(void *arg, const char *name, int64_t size, int64_t mtime_ms) {
    struct newest *n = arg;
    int64_t t;
    if (!store_name_time(name, n->instance, &t) || (n->name && t <= n->time))
        return 0;
    free(n->name);
    n->name = strdup(name);
    n->time = t;
    return 0;
}

static int open_latest(const struct options *o, struct store **ret, char **ret_name,
                       struct err *e) {
    if (!o->destination)
        return err_set(e, EX_USAGE, "latest: there is no [backup] destination to look in");
    if (store_open(o, o->destination, ret, e) < 0)
        return -1;
    struct newest n = {.instance = o->instance};
    if (!(*ret)->ops->list)
        err_set(e, EX_USAGE, "%s: cannot be listed", o->destination);
    else if ((*ret)->ops->list(*ret, take_newest, &n, e) == 0 && !n.name)
        err_set(e, EX_NOINPUT, "%s: no archive of %s", (*ret)->where, o->instance);
    if (n.name) {
        *ret_name = n.name;
        return 0;
    }
    store_free(*ret);
    *ret = NULL;
    return -1;
}

int store_open_archive(const struct options *o, const char *archive, struct store **ret,
                       char **ret_name, struct err *e) {
    struct stat st;
    if (strcmp(archive, "latest") == 0 && stat(archive, &st) < 0)
        return open_latest(o, ret, ret_name, e);
    autofree char *place = strdup(archive);
    if (!place)
        return err_set(e, EX_OSERR, "out of memory");
    char *slash = strrchr(place, '/');
    const char *where = place, *name = slash ? slash + 1 : archive;
    int64_t t;
    if (slash == place)
        where = "/";
    else if (slash)
        *slash = 0;
    else if (strcmp(archive, "-") == 0)
        where = "-";
    else if (o->destination && stat(archive, &st) < 0 && store_name_time(name, NULL, &t))
        where = o->destination;
    else
        where = ".";
    if (!*name)
        return err_set(e, EX_USAGE, "%s: names a folder, not an archive", archive);
    if (store_open(o, where, ret, e) < 0)
        return -1;
    *ret_name = strdup(name);
    if (*ret_name)
        return 0;
    store_free(*ret);
    *ret = NULL;
    return err_set(e, EX_OSERR, "out of memory");
}

void store_free(struct store *s) {
    if (s)
        s->ops->free(s);
}

bool store_name_time(const char *name, const char *instance, int64_t *ret_time) {
    static const char *const ends[] = {".tar.gz",      ".tar.zst", ".tar", ".tar.gz.age",
                                       ".tar.zst.age", ".tar.age", NULL};
    const char *dot = strstr(name, ".tar");
    for (const char *next = dot; next; next = strstr(next + 1, ".tar"))
        dot = next;
    enum {
        STAMP = sizeof "-20260301T120000Z" - 1
    };
    bool known = false;
    for (int i = 0; dot && ends[i]; i++)
        known |= strcmp(dot, ends[i]) == 0;
    if (!known || dot - name <= STAMP)
        return false;
    size_t before = dot - name - STAMP;
    if (instance && (strlen(instance) != before || strncmp(name, instance, before) != 0))
        return false;
    struct tm tm = {0};
    char stamp[STAMP + 1];
    memcpy(stamp, dot - STAMP, STAMP);
    stamp[STAMP] = 0;
    const char *end = strptime(stamp, "-%Y%m%dT%H%M%SZ", &tm);
    if (!end || *end)
        return false;
    *ret_time = timegm(&tm);
    return true;
}
