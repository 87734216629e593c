#include "backup/restore.h"

#include "backup/command.h"
#include "backup/manifest.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"

#include <fnmatch.h>
#include <jansson.h>
#include <locale.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

static volatile sig_atomic_t stop_signal;
static atomic_bool stopping; // for other threads: a download that hangs

static void on_signal(int number) {
    stop_signal = number;
    stopping = true;
}

static void catch_signals(void) {
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT};
    struct sigaction a = {.sa_handler = on_signal};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        sigaction(numbers[i], &a, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
}

static int stopped(const struct restore *r, struct err *e) {
    return *r->stop ? err_set(e, EX_TEMPFAIL, "stopped by signal %d", (int)*r->stop) : 0;
}

static bool in_list(char **list, const char *word) {
    if (!list)
        return true;
    for (; *list; list++)
        if (strcmp(*list, word) == 0)
            return true;
    return false;
}

// ---- the first pass

static void on_progress(void *arg, int64_t read_bytes, int64_t total) {
    struct restore *r = arg;
    r->progress.total = total;
    progress_add(&r->progress, read_bytes - r->progress.done);
}

// An archive may say that it is small and unpack to anything: sizes are added up as they come.
static int bounded(struct restore *r, const struct reader_entry *x, struct err *e) {
    r->seen_bytes += x->size;
    if (r->wants.max_bytes && r->seen_bytes > r->wants.max_bytes)
        return err_set(e, EX_DATAERR, "%s: the archive holds more than --max-size allows", x->path);
    return stopped(r, e);
}

static bool path_wanted(const struct restore *r, const char *path) {
    if (!r->wants.only_paths)
        return true;
    for (char **p = r->wants.only_paths; *p; p++)
        if (fnmatch(*p, path + strlen(FILES_PREFIX), FNM_LEADING_DIR) == 0)
            return true;
    return false;
}

// Where a root goes; NULL: nowhere. buf holds DIR/ROOT.
static const char *root_path(const struct restore *r, const char *name, char *buf, size_t size) {
    const struct restore_wants *w = &r->wants;
    for (const struct root *m = w->to_root; m->name; m++)
        if (strcmp(m->name, name) == 0)
            return m->path;
    if (w->to_dir)
        return snprintf(buf, size, "%s/%s", w->to_dir, name) < (int)size ? buf : NULL;
    for (const struct root *m = r->o.roots; w->in_place && m && m->name; m++)
        if (strcmp(m->name, name) == 0)
            return m->path;
    return NULL;
}

// What would not be restored is known before anything is written.
static int prove_begin(void *arg, const struct reader_entry *x, struct err *e) {
    struct restore *r = arg;
    struct extract_options o = {.external_links = r->wants.external_links || r->wants.drill};
    char root[256], path[PATH_MAX];
    const char *rest;
    if (bounded(r, x, e) < 0)
        return -1;
    if (x->kind != READER_FILE || (!r->wants.files && !r->wants.drill))
        return 0;
    if (extract_split(x->path, root, &rest) == 0 &&
        (!in_list(r->wants.only_roots, root) || !path_wanted(r, x->path) ||
         (!r->wants.drill && !r->wants.in_place && !root_path(r, root, path, sizeof path))))
        return 0;
    return extract_check(&o, x, e);
}

static int prove_data(void *arg, const struct reader_entry *x, const void *data, size_t len,
                      int64_t offset, struct err *e) {
    return stopped(arg, e);
}

// A list of the manifest as "a, b".
static void names_of(const json_t *list, struct buf *b) {
    size_t i;
    const json_t *x;
    json_array_foreach(list, i, x) {
        const char *name = json_string_value(json_object_get(x, "name"));
        buf_printf(b, "%s%s", i ? ", " : "", name ? name : "?");
    }
    if (!b->len)
        buf_str(b, "none");
}

// Every chosen name must be in the archive.
static int chosen(const json_t *list, char *const *names, const char *what, struct err *e) {
    for (; names && *names; names++) {
        bool found = false;
        size_t i;
        const json_t *x;
        json_array_foreach(list, i, x) {
            const char *name = json_string_value(json_object_get(x, "name"));
            found |= name && strcmp(name, *names) == 0;
        }
        if (!found) {
            autobuf struct buf b = {0};
            names_of(list, &b);
            return err_set(e, EX_USAGE, "the archive has no %s \"%s\"; it has: %s", what, *names,
                           b.data ? b.data : "");
        }
    }
    return 0;
}

static int check_choice(struct restore *r, struct err *e) {
    const struct restore_wants *w = &r->wants;
    const json_t *dump = json_object_get(r->proven.manifest, "databases"),
                 *roots = json_object_get(r->proven.manifest, "roots");
    if (chosen(dump, w->only_databases, "database", e) < 0 ||
        chosen(roots, w->only_roots, "root", e) < 0)
        return -1;
    for (const struct sqledit_name *m = w->map; m->from; m++) {
        char *one[] = {(char *)(uintptr_t)m->from, NULL};
        if (chosen(dump, one, "database", e) < 0)
            return -1;
    }
    for (const struct root *m = w->to_root; m->name; m++) {
        char *one[] = {(char *)(uintptr_t)m->name, NULL};
        if (chosen(roots, one, "root", e) < 0)
            return -1;
    }
    return 0;
}

int restore_prove(struct restore *r, struct err *e) {
    static const struct reader_calls calls = {
        .begin = prove_begin, .data = prove_data, .progress = on_progress};
    progress_start(&r->progress, r->o.quiet, -1);
    progress_phase(&r->progress, "verify");
    int rc = reader_run(r->store, r->name, &calls, r, &r->proven, e);
    progress_clear(&r->progress);
    r->seen_bytes = 0;
    return rc < 0 ? -1 : check_choice(r, e);
}

// ---- where things go

// The one database of a dump goes to --to-db NEW.
static int map_single(struct restore *r, struct err *e) {
    const json_t *list = json_object_get(r->proven.manifest, "databases");
    struct restore_wants *w = &r->wants;
    const char *name = NULL;
    size_t n = 0, i;
    const json_t *x;
    json_array_foreach(list, i, x) {
        const char *this = json_string_value(json_object_get(x, "name"));
        if (!this || !in_list(w->only_databases, this))
            continue;
        name = this;
        n++;
    }
    if (!w->single)
        return 0;
    if (n != 1)
        return err_set(e, EX_USAGE,
                       n ? "--to-db %s: the archive has several databases: write OLD=NEW"
                         : "--to-db %s: with one database name only after the archive was proven",
                       w->single);
    w->map[0] = (struct sqledit_name){name, w->single};
    return 0;
}

static int open_databases(struct restore *r, struct err *e) {
    struct restore_wants *w = &r->wants;
    struct load_options *o = &r->load_options;
    if (r->proven.manifest && !r->proven.has_dump)
        return err_set(e, EX_DATAERR, "%s: holds no databases", r->name);
    if (db_options_from_conf(&r->o.conf, &o->db, e) < 0 || map_single(r, e) < 0)
        return -1;
    o->databases = w->only_databases;
    o->single = w->single;
    o->force = w->force;
    o->edit.map = w->map;
    o->edit.drop_definer = strcmp(w->definer, "drop") == 0;
    if (!o->edit.drop_definer && strcmp(w->definer, "keep") != 0) {
        sqledit_definer(w->definer, r->definer, sizeof r->definer);
        o->edit.definer = r->definer;
    }
    if (load_open(o, &r->load, e) < 0)
        return err_wrap(e, "database");
    const json_t *x;
    size_t i;
    json_array_foreach(json_object_get(r->proven.manifest, "databases"), i, x) {
        const char *name = json_string_value(json_object_get(x, "name"));
        if (name && in_list(w->only_databases, name) &&
            load_check(r->load, sqledit_database(&o->edit, name), e) < 0)
            return -1;
    }
    return 0;
}

// 1: the root goes somewhere (its target is begun), 0: nowhere.
static int place_root(struct restore *r, const char *name, struct err *e) {
    char buf[PATH_MAX];
    for (int i = 0; i < r->ntargets; i++)
        if (strcmp(r->target_names[i], name) == 0)
            return 1;
    if (!r->wants.files || !in_list(r->wants.only_roots, name))
        return 0;
    const char *path = root_path(r, name, buf, sizeof buf);
    if (!path && r->wants.in_place)
        return err_set(e, EX_CONFIG,
                       "root %s: [backup] files does not name it: choose others with "
                       "--roots, or give --to-root %s=DIR",
                       name, name);
    if (!path)
        return 0;
    if (r->ntargets == RESTORE_ROOTS)
        return err_set(e, EX_DATAERR, "the archive has more than %d roots", RESTORE_ROOTS);
    struct target *t = &r->targets[r->ntargets];
    snprintf(r->target_names[r->ntargets], sizeof r->target_names[0], "%s", name);
    if (target_begin(t, path, r->wants.force, e) < 0)
        return -1;
    r->ntargets++;
    return extract_root(r->extract, name, t->fd, e) < 0 ? -1 : 1;
}

// Before anything is written: every target can be begun, and the files fit.
static int open_files(struct restore *r, struct err *e) {
    const struct restore_wants *w = &r->wants;
    struct extract_options o = {.external_links = w->external_links, .owners = w->owners};
    if (w->to_dir && mkdir(w->to_dir, 0755) < 0 && access(w->to_dir, F_OK) < 0)
        return err_errno(e, EX_CANTCREAT, "%s", w->to_dir);
    if (extract_new(&o, &r->extract, e) < 0)
        return -1;
    const json_t *x;
    size_t i;
    json_array_foreach(json_object_get(r->proven.manifest, "roots"), i, x) {
        const char *name = json_string_value(json_object_get(x, "name"));
        int64_t need = json_integer_value(json_object_get(x, "bytes"));
        int placed = name ? place_root(r, name, e) : 0;
        if (placed < 0)
            return -1;
        int64_t space = placed ? target_space(&r->targets[r->ntargets - 1]) : -1;
        if (space >= 0 && need > space && !w->only_paths)
            return err_set(e, EX_CANTCREAT,
                           "root %s: its %lld bytes do not fit: %lld are free (--no-verify "
                           "leaves this check out)",
                           name, (long long)need, (long long)space);
    }
    return 0;
}

// ---- the second pass

static int write_begin(void *arg, const struct reader_entry *x, struct err *e) {
    struct restore *r = arg;
    char root[256];
    const char *rest;
    r->in_file = false;
    if (bounded(r, x, e) < 0)
        return -1;
    progress_phase(&r->progress, x->kind == READER_DUMP ? "database" : "files");
    if (x->kind != READER_FILE || !r->extract)
        return 0;
    if (extract_split(x->path, root, &rest) < 0)
        return err_set(e, EX_DATAERR, "%s: a path that leads out of its root: not restored",
                       x->path);
    int placed = place_root(r, root, e);
    if (placed <= 0)
        return placed;
    if (*rest && !path_wanted(r, x->path))
        return 0;
    r->in_file = true;
    return extract_begin(r->extract, x, e);
}

static int write_data(void *arg, const struct reader_entry *x, const void *data, size_t len,
                      int64_t offset, struct err *e) {
    struct restore *r = arg;
    if (stopped(r, e) < 0)
        return -1;
    if (x->kind == READER_DUMP && r->load)
        return load_feed(r->load, data, len, e);
    return r->in_file ? extract_data(r->extract, data, len, offset, e) : 0;
}

static int write_end(void *arg, const struct reader_entry *x, struct err *e) {
    struct restore *r = arg;
    if (!r->in_file)
        return 0;
    r->in_file = false;
    return extract_end(r->extract, e);
}

int restore_write(struct restore *r, struct err *e) {
    static const struct reader_calls calls = {
        .begin = write_begin, .data = write_data, .end = write_end, .progress = on_progress};
    struct reader_result result = {0};
    if ((r->wants.databases && open_databases(r, e) < 0) ||
        (r->wants.files && open_files(r, e) < 0))
        return -1;
    progress_start(&r->progress, r->o.quiet, -1);
    int rc = reader_run(r->store, r->name, &calls, r, &result, e);
    bool dump = result.has_dump;
    if (rc == 0)
        reader_result_free(&result);
    if (rc == 0 && r->load)
        rc =
            dump ? load_end(r->load, e) : err_set(e, EX_DATAERR, "%s: holds no databases", r->name);
    if (rc == 0 && r->extract)
        rc = extract_finish(r->extract, e);
    progress_clear(&r->progress);
    if (rc == 0 && r->wants.files && !r->ntargets)
        rc = err_set(e, EX_DATAERR, "%s: holds no files of those roots", r->name);
    return rc;
}

int restore_publish(struct restore *r, struct err *e) {
    int rc = stopped(r, e);
    for (int i = 0; rc == 0 && i < r->ntargets; i++)
        rc = target_publish(&r->targets[i], e);
    return rc;
}

void restore_close(struct restore *r) {
    extract_free(r->extract);
    r->extract = NULL;
    for (int i = 0; i < r->ntargets; i++)
        target_discard(&r->targets[i]);
    r->ntargets = 0;
    load_close(r->load);
    r->load = NULL;
}

// ---- the command

static void report(struct restore *r, int64_t began_ms) {
    char took[32], size[32];
    int64_t rows = 0, tables = 0, databases = 0;
    text_ms(clock_mono_ms() - began_ms, took, sizeof took);
    if (r->load) {
        for (const struct load_table *t = load_tables(r->load); t; t = t->next, tables++)
            rows += t->rows;
        for (const struct load_database *d = load_databases(r->load); d; d = d->next)
            databases++;
        log_notice("%s: %lld database%s loaded: %lld rows in %lld tables, %lld statements", r->name,
                   (long long)databases, databases == 1 ? "" : "s", (long long)rows,
                   (long long)tables, (long long)load_statements(r->load));
    }
    if (r->extract)
        log_notice("%s: %lld entries restored, %s", r->name, (long long)extract_entries(r->extract),
                   text_bytes(extract_bytes(r->extract), size, sizeof size));
    log_notice("%s: restored in %s", r->name, took);
}

// What a failure left behind must be known.
static void tell_damage(struct restore *r) {
    const struct load_database *d = r->load ? load_databases(r->load) : NULL;
    for (; d; d = d->next)
        log_warning("database %s is loaded in part: restore it again with --force", d->name);
    if (r->ntargets)
        log_info("no folder was changed");
}

static int restore(struct restore *r, struct err *e) {
    int64_t began = clock_mono_ms();
    if (store_open_archive(&r->o, r->archive, &r->store, &r->name, e) < 0)
        return -1;
    if (r->wants.drill)
        return drill_run(r, e);
    bool once = r->wants.no_verify || strcmp(r->name, "-") == 0;
    if (!once && restore_prove(r, e) < 0)
        return -1;
    int rc = restore_write(r, e);
    if (rc < 0)
        tell_damage(r);
    if (rc == 0)
        rc = restore_publish(r, e);
    if (rc == 0)
        report(r, began);
    return rc;
}

int restore_main(int argc, char **argv) {
    static struct restore r;
    struct err e = {0};
    setlocale(LC_CTYPE, "C.UTF-8"); // libarchive: names are UTF-8
    mallopt(M_ARENA_MAX, 2);
    catch_signals();
    umask(022);
    r.stop = &stop_signal;
    int rc = restore_parse(&r, argc, argv, &e);
    r.o.stop = &stopping;
    if (rc == 0)
        rc = restore(&r, &e);
    restore_close(&r);
    if (rc < 0)
        log_error("%s", e.text);
    reader_result_free(&r.proven);
    store_free(r.store);
    free(r.name);
    options_free(&r.o);
    if (rc < 0 && stop_signal) {
        signal(stop_signal, SIG_DFL);
        raise(stop_signal);
    }
    return rc < 0 ? e.code : 0;
}
