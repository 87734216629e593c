#include "backup/assemble.h"

#include "backup/listing.h"
#include "backup/progress.h"
#include "backup/tarhead.h"
#include "backup/tree.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

enum {
    THREADS = 3, // of compression, unless told otherwise: no kind then takes more than 32 MB
    PIECE_BYTES = 2 << 20, // of the dump where its header cannot be patched
    // The most that data is known to shrink: less space than this will obviously not do.
    LEAST_SHARE = 30,
};

// One archive being written.
struct work {
    struct assembly *a;
    const struct options *o;
    struct stage *stage;
    struct tar *tar;
    struct tree *tree;
    struct listing listing;
    struct progress progress;
    struct digest *dump_digest;
    struct dumpscan scan;
    int64_t dump_bytes, dump_started_ms, started_ms;
    int pieces;
    bool patch;  // the dump's header comes last
    char *piece; // PIECE_BYTES, where it cannot
    size_t piece_len;
    char dump_sha[TAR_SHA_TEXT];
    json_t *roots;
};

static bool has_databases(const struct options *o) {
    return o->databases[0] != NULL;
}

static int no_memory(struct err *e) {
    return err_set(e, EX_OSERR, "out of memory");
}

static int check_space(const struct assembly *a, struct store *s, struct err *e) {
    int64_t space = s->ops->space ? s->ops->space(s) : -1, least = a->expected / LEAST_SHARE;
    char have[32], need[32], all[32];
    if (space < 0 || space >= least)
        return 0;
    return err_set(e, EX_CANTCREAT, "%s: %s are free, at least %s will be needed for %s", s->where,
                   text_bytes(space, have, sizeof have), text_bytes(least, need, sizeof need),
                   text_bytes(a->expected, all, sizeof all));
}

struct measuring {
    const struct options *o;
    atomic_bool enough; // nobody wants to know any more
    struct tree_counts counts;
    struct err failure;
};

static void *measure_trees(void *arg) {
    struct measuring *m = arg;
    for (const struct root *r = m->o->roots; r->name; r++)
        if (tree_measure(r, m->o->exclude, &m->enough, &m->counts, &m->failure) < 0)
            break;
    return NULL;
}

static int prepare_dump(struct assembly *a, struct err *e) {
    const struct options *o = a->o;
    if (!has_databases(o))
        return 0;
    if (db_options_from_conf(&o->conf, &a->where, e) < 0 ||
        dump_prepare(&a->dump, o, &a->where, e) < 0)
        return -1;
    if (a->dump.missing.len)
        log_warning("the account lacks %s: the dump will be incomplete", a->dump.missing.data);
    return 0;
}

// The trees are measured while the database answers. Signals are the main thread's.
int assembly_prepare(struct assembly *a, struct store *s, struct err *e) {
    struct measuring m = {.o = a->o};
    pthread_t thread;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool apart = pthread_create(&thread, NULL, measure_trees, &m) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    int rc = prepare_dump(a, e);
    m.enough = rc < 0; // an error is told at once, however large the trees
    if (apart)
        pthread_join(thread, NULL);
    else
        measure_trees(&m);
    if (rc < 0)
        return -1;
    if (m.failure.code) {
        *e = m.failure;
        return -1;
    }
    a->expected = m.counts.bytes + a->dump.data_bytes;
    return check_space(a, s, e);
}

void assembly_free(struct assembly *a) {
    dump_free(&a->dump);
}

// ---- the dump

static int write_piece(struct work *w, struct err *e) {
    char name[64], sha[TAR_SHA_TEXT];
    snprintf(name, sizeof name, "%s.%05d", DUMP_NAME, w->pieces++);
    struct manifest_entry m = {
        .path = name, .type = "file", .size = (int64_t)w->piece_len, .sha256 = sha};
    struct tar_text pieces[] = {{w->piece, w->piece_len}, {NULL, 0}};
    if (tar_memory(w->tar, name, pieces, w->dump_started_ms, sha, e) < 0)
        return -1;
    w->piece_len = 0;
    return listing_add(&w->listing, w->tar, &m, e);
}

static int add_to_piece(struct work *w, const char *data, size_t len, struct err *e) {
    while (len) {
        size_t room = PIECE_BYTES - w->piece_len, n = len < room ? len : room;
        memcpy(w->piece + w->piece_len, data, n);
        w->piece_len += n;
        data += n;
        len -= n;
        if (w->piece_len == PIECE_BYTES && write_piece(w, e) < 0)
            return -1;
    }
    return 0;
}

static int on_dump(void *arg, const void *data, size_t len, struct err *e) {
    struct work *w = arg;
    digest_add(w->dump_digest, data, len);
    w->dump_bytes += (int64_t)len;
    progress_add(&w->progress, (int64_t)len);
    return w->patch ? stage_write(w->stage, data, len, e) : add_to_piece(w, data, len, e);
}

// Fills the last tar block, and lists the dump.
static int end_dump(struct work *w, struct err *e) {
    static const char zeros[TAR_BLOCK];
    digest_end(w->dump_digest, w->dump_sha);
    if (!w->patch)
        return w->piece_len || w->pieces == 0 ? write_piece(w, e) : 0;
    size_t rest = (size_t)(w->dump_bytes % TAR_BLOCK);
    struct manifest_entry m = {
        .path = DUMP_NAME, .type = "file", .size = w->dump_bytes, .sha256 = w->dump_sha};
    if (rest && stage_write(w->stage, zeros, TAR_BLOCK - rest, e) < 0)
        return -1;
    return listing_add(&w->listing, w->tar, &m, e);
}

static int add_dump(struct work *w, bool *ret_again, struct err *e) {
    struct dump *d = &w->a->dump;
    if (!has_databases(w->o))
        return 0;
    progress_phase(&w->progress, "database");
    w->dump_started_ms = clock_wall_ms();
    if (dump_run(d, on_dump, w, &w->scan, w->a->stop, ret_again, e) < 0)
        return -1;
    return dump_compare(d, &w->scan, e) < 0 ? -1 : end_dump(w, e);
}

// ---- the trees

static int on_entry(void *arg, const struct manifest_entry *x, struct err *e) {
    struct work *w = arg;
    if (*w->a->stop)
        return err_set(e, EX_TEMPFAIL, "told to stop");
    return listing_add(&w->listing, w->tar, x, e);
}

static void on_note(void *arg, const char *path, const char *what) {
    struct work *w = arg;
    progress_clear(&w->progress);
    log_warning("%s: %s", path, what);
    listing_warn(&w->listing, path, what);
}

static void on_bytes(void *arg, int64_t bytes) {
    progress_add(&((struct work *)arg)->progress, bytes);
}

static int add_trees(struct work *w, struct err *e) {
    static const struct tree_calls calls = {on_entry, on_note, on_bytes};
    w->tree = tree_new(w->tar, w->o->exclude, &calls, w);
    if (!w->tree)
        return no_memory(e);
    progress_phase(&w->progress, "files");
    int64_t changed = 0;
    for (const struct root *r = w->o->roots; r->name; r++) {
        struct tree_counts c = {0};
        if (tree_walk(w->tree, r, &c, e) < 0)
            return -1;
        changed += c.changed;
        w->a->excluded += c.excluded;
        json_array_append_new(
            w->roots, json_pack("{s:s,s:s,s:I,s:I,s:I,s:I,s:I}", "name", r->name, "path", r->path,
                                "entries", (json_int_t)c.entries, "bytes", (json_int_t)c.bytes,
                                "skipped", (json_int_t)c.skipped, "excluded",
                                (json_int_t)c.excluded, "changed", (json_int_t)c.changed));
    }
    if (changed && w->o->changed_fail)
        return err_set(e, EX_DATAERR, "%lld file%s changed while being read (changed_files = fail)",
                       (long long)changed, changed == 1 ? "" : "s");
    return 0;
}

// ---- the manifest

static json_t *list_of(char *const *words) {
    json_t *list = json_array();
    for (; words && *words; words++)
        json_array_append_new(list, json_string(*words));
    return list;
}

static json_t *databases_of(const struct work *w) {
    json_t *list = json_array();
    for (int i = 0; i < w->scan.n; i++) {
        const struct object_counts *c = &w->scan.databases[i].counts;
        json_array_append_new(
            list, json_pack("{s:s,s:I,s:I,s:I,s:I,s:I}", "name", w->scan.databases[i].name,
                            "tables", (json_int_t)c->tables, "views", (json_int_t)c->views,
                            "triggers", (json_int_t)c->triggers, "routines",
                            (json_int_t)c->routines, "events", (json_int_t)c->events));
    }
    return list;
}

static json_t *dump_of(const struct work *w) {
    const struct dump *d = &w->a->dump;
    return json_pack("{s:s,s:s,s:s,s:o,s:I,s:s,s:i,s:o,s:s,s:i,s:s}", "program", d->program,
                     "version", d->version, "server", d->server, "options", list_of(d->options),
                     "size", (json_int_t)w->dump_bytes, "sha256", w->dump_sha, "pieces", w->pieces,
                     "structure_only", list_of(d->structure), "missing_grants",
                     d->missing.data ? d->missing.data : "", "attempts", w->a->attempt, "closing",
                     "-- Dump completed");
}

static json_t *head_of(const struct work *w, int64_t now) {
    static const char *const kinds[] = {"default", "fast", "zstd", "none"};
    char started[32], ended[32];
    clock_rfc3339(w->started_ms, started, sizeof started);
    clock_rfc3339(now, ended, sizeof ended);
    json_t *head =
        json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:o,s:o}", "format", "civinit-backup 1", "program",
                  "civinit-backup " CIVINIT_VERSION, "instance", w->o->instance, "started", started,
                  "ended", ended, "compression", kinds[w->o->compression], "changed_policy",
                  w->o->changed_fail ? "fail" : "warn", "excludes", list_of(w->o->exclude),
                  "databases", databases_of(w));
    json_object_set(head, "roots", w->roots);
    if (has_databases(w->o))
        json_object_set_new(head, "dump", dump_of(w));
    return head;
}

// The manifest begins a block, so that a reader finds it from the archive's end.
static int add_manifest(struct work *w, struct err *e) {
    int64_t now = clock_wall_ms();
    progress_phase(&w->progress, "manifest");
    json_t *head = head_of(w, now);
    if (!head)
        return no_memory(e);
    int rc = stage_flush(w->stage, e);
    if (rc == 0)
        rc = listing_write(&w->listing, w->tar, head, now, e);
    json_decref(head);
    return rc == 0 ? tar_close(w->tar, e) : -1;
}

// ---- all of it

static int threads_of(const struct options *o) {
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 2;
    return o->threads ? o->threads : n > THREADS ? THREADS : n;
}

static int begin(struct work *w, struct store *s, struct err *e) {
    w->patch = s->can_patch && has_databases(w->o);
    w->dump_digest = digest_new();
    w->roots = json_array();
    if (!w->patch && has_databases(w->o))
        w->piece = malloc(PIECE_BYTES);
    if (!w->dump_digest || !w->roots || (has_databases(w->o) && !w->patch && !w->piece))
        return no_memory(e);
    if (listing_new(&w->listing, e) < 0)
        return -1;
    if (stage_start(s, w->o->compression, threads_of(w->o), w->patch ? TARHEAD_BYTES : 0,
                    w->a->stop, &w->stage, e) < 0)
        return -1;
    return tar_new(w->stage, &w->tar, e);
}

static int finish(struct work *w, struct err *e) {
    uint8_t head[TARHEAD_BYTES];
    tarhead_make(head, DUMP_NAME, (uint64_t)w->dump_bytes, w->dump_started_ms);
    if (stage_finish(w->stage, head, e) < 0)
        return -1;
    w->a->bytes = (int64_t)stage_written_bytes(w->stage);
    w->a->raw_bytes = (int64_t)stage_raw_bytes(w->stage);
    w->a->entries = w->listing.count;
    w->a->warnings = w->listing.nwarnings;
    return 0;
}

int assemble(struct assembly *a, struct store *s, bool *ret_again, struct err *e) {
    struct work *w = calloc(1, sizeof *w);
    if (!w)
        return no_memory(e);
    w->a = a;
    w->o = a->o;
    w->started_ms = clock_wall_ms();
    a->excluded = 0;
    progress_start(&w->progress, w->o->quiet, a->expected);
    int rc = begin(w, s, e);
    if (rc == 0)
        rc = add_dump(w, ret_again, e);
    if (rc == 0)
        rc = add_trees(w, e);
    if (rc == 0)
        rc = add_manifest(w, e);
    if (rc == 0)
        rc = finish(w, e);
    progress_clear(&w->progress);
    // Told to stop: the writer may hang in the store for ever; the caller ends the process.
    if (rc < 0 && *a->stop)
        return -1;
    tar_free(w->tar);
    tree_free(w->tree);
    stage_free(w->stage);
    listing_free(&w->listing);
    digest_free(w->dump_digest);
    json_decref(w->roots);
    free(w->piece);
    free(w);
    return rc;
}
