#include "backup/prune.h"

#include "backup/command.h"
#include "backup/keep.h"
#include "backup/reader.h"
#include "backup/remote.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/text.h"

#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

enum {
    APART_S = 24 * 3600, // the most that a name and its manifest differ: a run that took long
};

struct found {
    char *name;
    int64_t time;
};

struct list {
    const char *instance;
    struct found *items;
    size_t n;
};

static int take(void *arg, const char *name, int64_t size, int64_t mtime_ms) {
    struct list *l = arg;
    int64_t t;
    if (!store_name_time(name, l->instance, &t))
        return 0;
    struct found *more = realloc(l->items, (l->n + 1) * sizeof *more);
    char *copy = strdup(name);
    if (more)
        l->items = more;
    if (!more || !copy) {
        free(copy);
        return -1;
    }
    l->items[l->n++] = (struct found){copy, t};
    return 0;
}

static int newest_first(const void *a, const void *b) {
    const struct found *x = a, *y = b;
    return x->time == y->time ? strcmp(y->name, x->name) : x->time < y->time ? 1 : -1;
}

// When an archive was made (seconds since the epoch), by its manifest; -1: it does not open. One
// that cannot be decrypted here is believed.
static int64_t made(const struct options *o, struct store *s, const struct found *f) {
    size_t n = strlen(f->name);
    if (!o->identity_file && n > 4 && strcmp(f->name + n - 4, ".age") == 0)
        return f->time;
    struct err e = {0};
    struct reader_result r = {0};
    if (reader_list(s, f->name, NULL, NULL, &r, &e) < 0)
        return -1;
    const char *started = json_string_value(json_object_get(r.manifest, "started"));
    int64_t t = started ? remote_time(started) / 1000 : f->time;
    reader_result_free(&r);
    return t;
}

// The newest that opens stays, whatever the rules say: a broken newest one must not be all, nor one
// that only its name makes the newest. Whether there is one.
static bool keep_good(const struct options *o, struct store *s, const struct list *l,
                      struct kept *kept) {
    bool any = false;
    for (size_t i = 0; i < l->n; i++) {
        int64_t t = made(o, s, &l->items[i]);
        bool true_name = t >= 0 && llabs(t - l->items[i].time) <= APART_S;
        if (t < 0)
            log_warning("%s: does not open", l->items[i].name);
        else if (!true_name)
            log_warning("%s: was not made when its name says", l->items[i].name);
        if (t < 0 || (any && !true_name))
            continue;
        any = true;
        if (!kept[i].keep)
            kept[i].why = "newest good one";
        kept[i].keep = true;
        if (true_name)
            return true;
    }
    return any;
}

static int remove_old(const struct options *o, struct store *s, const struct list *l,
                      void (*each)(const char *name, const char *why), struct err *e) {
    struct kept *kept = calloc(l->n + 1, sizeof *kept);
    if (!kept)
        return err_set(e, EX_OSERR, "out of memory");
    size_t going = 0;
    for (size_t i = 0; i < l->n; i++)
        kept[i].time = l->items[i].time;
    keep_choose(&o->keep, kept, l->n);
    for (size_t i = 0; i < l->n; i++)
        going += !kept[i].keep;
    int rc = 0;
    if (going && !keep_good(o, s, l, kept)) // then rather too much is kept
        rc = err_set(e, EX_DATAERR, "%s: no archive opens: nothing is removed", s->where);
    for (size_t i = l->n; rc == 0 && i-- > 0;) {
        if (each)
            each(l->items[i].name, kept[i].keep ? kept[i].why : NULL);
        else if (!kept[i].keep)
            log_info("%s: pruned", l->items[i].name);
        if (!kept[i].keep && !o->dry_run)
            rc = s->ops->remove(s, l->items[i].name, e);
    }
    free(kept);
    return rc;
}

int prune(const struct options *o, struct store *s, void (*each)(const char *name, const char *why),
          struct err *e) {
    struct list l = {.instance = o->instance};
    if (!s->ops->list || !s->ops->remove)
        return err_set(e, EX_USAGE, "%s: cannot be pruned", s->where);
    int rc = s->ops->list(s, take, &l, e);
    if (rc == 0) {
        qsort(l.items, l.n, sizeof *l.items, newest_first);
        rc = remove_old(o, s, &l, each, e);
    }
    for (size_t i = 0; i < l.n; i++)
        free(l.items[i].name);
    free(l.items);
    return rc;
}

// ---- the command

static void usage(FILE *f) {
    fputs(
        "usage: civinit-backup prune [OPTION…]\n\n"
        "Removes the instance's archives that no rule keeps. The newest good one always stays.\n\n"
        "  -c, --config FILE    instead of /etc/civinit/backup.ini\n"
        "  -t, --to DESTINATION instead of the configuration's\n"
        "      --keep-last N, --keep-daily N, --keep-weekly N, --keep-monthly N, --keep-yearly N\n"
        "                       instead of the configuration's\n"
        "  -n, --dry-run        only say what would go\n"
        "  -h, --help\n",
        f);
}

static const struct option longs[] = {{"config", 1, NULL, 'c'},      {"to", 1, NULL, 't'},
                                      {"keep-last", 1, NULL, 'l'},   {"keep-daily", 1, NULL, 'd'},
                                      {"keep-weekly", 1, NULL, 'w'}, {"keep-monthly", 1, NULL, 'm'},
                                      {"keep-yearly", 1, NULL, 'y'}, {"dry-run", 0, NULL, 'n'},
                                      {"help", 0, NULL, 'h'},        {NULL, 0, NULL, 0}};

static int *rule_of(struct keep_rules *k, int c) {
    return c == 'l'   ? &k->last
           : c == 'd' ? &k->daily
           : c == 'w' ? &k->weekly
           : c == 'm' ? &k->monthly
                      : &k->yearly;
}

static void say(const char *name, const char *why) {
    printf("%s %s%s%s\n", why ? "keep  " : "remove", name, why ? "  " : "", why ? why : "");
}

static int parse(struct options *o, int argc, char **argv, struct err *e) {
    const char *config = NULL, *to = NULL;
    struct keep_rules keep = {-1, -1, -1, -1, -1};
    for (int c; (c = getopt_long(argc, argv, "c:t:nh", longs, NULL)) != -1;) {
        int64_t n;
        if (c == 'h')
            return 1;
        if (c == '?')
            return err_set(e, EX_USAGE, "see civinit-backup prune --help");
        if (c == 'c')
            config = optarg;
        else if (c == 't')
            to = optarg;
        else if (c == 'n')
            o->dry_run = true;
        else if (text_int(optarg, 0, 1000000, &n, e) < 0) {
            e->code = EX_USAGE;
            return -1;
        } else
            *rule_of(&keep, c) = (int)n;
    }
    if (optind < argc)
        return err_set(e, EX_USAGE, "\"%s\": prune takes options only", argv[optind]);
    if (options_load(o, config, e) < 0)
        return -1;
    for (const char *c = "ldwmy"; *c; c++)
        if (*rule_of(&keep, *c) >= 0)
            *rule_of(&o->keep, *c) = *rule_of(&keep, *c);
    if (to)
        o->destination = to;
    if (!o->destination)
        return err_set(e, EX_USAGE, "no destination: give --to, or [backup] destination");
    return keep_any(&o->keep) ? 0
                              : err_set(e, EX_USAGE,
                                        "no rule says what to keep: give --keep-last, "
                                        "--keep-daily, … or [backup] keep_…");
}

int prune_main(int argc, char **argv) {
    struct options o = {0};
    struct err e = {0};
    struct store *s = NULL;
    int rc = parse(&o, argc, argv, &e);
    if (rc > 0) {
        usage(stdout);
        rc = 0;
    } else if (rc == 0) {
        rc = store_open(&o, o.destination, &s, &e);
        if (rc == 0 && s->ops->lock)
            rc = s->ops->lock(s, &e);
        if (rc == 0)
            rc = prune(&o, s, say, &e);
    }
    if (rc < 0)
        log_error("%s", e.text);
    store_free(s);
    options_free(&o);
    return rc < 0 ? e.code : 0;
}
