// create: one archive, whole and proven, or none.
#include "backup/assemble.h"
#include "backup/codec.h"
#include "backup/command.h"
#include "backup/jobslock.h"
#include "backup/keep.h"
#include "backup/outcome.h"
#include "backup/prune.h"
#include "backup/reader.h"
#include "backup/store.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"

#include <getopt.h>
#include <locale.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

enum {
    ATTEMPTS = 3, // a table that was altered during the dump (1412)
};

static atomic_bool stop;
static volatile sig_atomic_t stop_signal;

static void on_signal(int number) {
    stop_signal = number;
    stop = true;
}

static void catch_signals(void) {
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT};
    struct sigaction a = {.sa_handler = on_signal};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        sigaction(numbers[i], &a, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); // a file size limit is then an error of write
}

static void usage(FILE *f) {
    fputs("usage: civinit-backup create [OPTION…]\n\n"
          "Makes one archive of the databases and files that the configuration names.\n\n"
          "  -c, --config FILE         instead of /etc/civinit/backup.ini\n"
          "  -t, --to DESTINATION      a folder, - (standard output), s3://…, sftp://…, https://…\n"
          "  -d, --databases NAMES     instead of the configuration's (\"\": none)\n"
          "  -f, --files ROOTS         PATH or NAME=PATH, instead of the configuration's (\"\": "
          "none)\n"
          "  -x, --exclude GLOB        besides the configuration's; may be given again\n"
          "  -C, --compression KIND    default, fast, zstd or none\n"
          "  -j, --threads N           compressing threads\n"
          "      --strict              a file that changed while it was read fails the run\n"
          "      --allow-incomplete    go on without grants that are missing; the manifest tells\n"
          "      --verify              read the archive back afterwards\n"
          "  -q, --quiet               no progress on a terminal\n"
          "  -h, --help\n",
          f);
}

static const struct option longs[] = {
    {"config", 1, NULL, 'c'},  {"to", 1, NULL, 't'},      {"databases", 1, NULL, 'd'},
    {"files", 1, NULL, 'f'},   {"exclude", 1, NULL, 'x'}, {"compression", 1, NULL, 'C'},
    {"threads", 1, NULL, 'j'}, {"strict", 0, NULL, 'S'},  {"allow-incomplete", 0, NULL, 'A'},
    {"verify", 0, NULL, 'V'},  {"quiet", 0, NULL, 'q'},   {"help", 0, NULL, 'h'},
    {NULL, 0, NULL, 0}};
static const char shorts[] = "c:t:d:f:x:C:j:qh";

// The first pass: which configuration.
static const char *config_of(int argc, char **argv) {
    const char *path = NULL;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, shorts, longs, NULL)) != -1;)
        if (c == 'c')
            path = optarg;
    opterr = 1;
    optind = 1;
    return path;
}

static int add_exclude(struct options *o, const char *glob, struct err *e) {
    size_t n = 0;
    while (o->exclude && o->exclude[n])
        n++;
    char **more = arena_alloc(&o->conf.arena, (n + 2) * sizeof *more);
    if (!more)
        return err_set(e, EX_OSERR, "out of memory");
    for (size_t i = 0; i < n; i++)
        more[i] = o->exclude[i];
    more[n] = arena_text(&o->conf.arena, glob);
    o->exclude = more;
    return 0;
}

static int take_option(struct options *o, int c, struct err *e) {
    int64_t n;
    switch (c) {
    case 't':
        o->destination = optarg;
        return 0;
    case 'd':
        o->databases = options_words(o, optarg);
        return o->databases ? 0 : err_set(e, EX_USAGE, "--databases: unclosed quote");
    case 'f':
        return options_roots(o, options_words(o, optarg), e);
    case 'x':
        return add_exclude(o, optarg, e);
    case 'C':
        if (options_compression(optarg) < 0)
            return err_set(e, EX_USAGE, "--compression: \"%s\" is not default, fast, zstd or none",
                           optarg);
        o->compression = options_compression(optarg);
        return 0;
    case 'j':
        if (text_int(optarg, 1, 16, &n, e) < 0)
            return err_wrap(e, "--threads");
        o->threads = (int)n;
        return 0;
    case 'S':
        o->changed_fail = true;
        return 0;
    case 'A':
        o->allow_incomplete = true;
        return 0;
    case 'V':
        o->verify = true;
        return 0;
    case 'q':
        o->quiet = true;
        return 0;
    default:
        return 0;
    }
}

// 0: go on, 1: help was asked for, -1: wrong.
static int parse(struct options *o, int argc, char **argv, struct err *e) {
    if (options_load(o, config_of(argc, argv), e) < 0)
        return -1;
    for (int c; (c = getopt_long(argc, argv, shorts, longs, NULL)) != -1;) {
        if (c == 'h')
            return 1;
        if (c == '?')
            return err_set(e, EX_USAGE, "see civinit-backup create --help");
        if (take_option(o, c, e) < 0) {
            e->code = e->code == EX_CONFIG ? EX_USAGE : e->code;
            return -1;
        }
    }
    if (optind < argc)
        return err_set(e, EX_USAGE, "\"%s\": create takes options only", argv[optind]);
    if (!o->destination)
        return err_set(e, EX_USAGE, "no destination: give --to, or [backup] destination");
    if (!o->databases[0] && !o->roots[0].name)
        return err_set(e, EX_CONFIG, "nothing to back up: no databases and no files are named");
    return 0;
}

// <instance>-<UTC time>.tar.gz[.age]
static void make_name(const struct options *o, int64_t wall_ms, char *name, size_t size) {
    time_t t = wall_ms / 1000;
    struct tm tm;
    char stamp[32];
    gmtime_r(&t, &tm);
    strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%SZ", &tm);
    snprintf(name, size, "%s-%s%s%s", o->instance, stamp, codec_ending(o->compression),
             o->encrypt_to && o->encrypt_to[0] ? ".age" : "");
}

// Begins the archive under a name nobody has yet: two runs within a second get two seconds.
static int begin(const struct options *o, struct store *s, struct outcome *x, char *name,
                 size_t size, struct err *e) {
    int64_t at = x->started_ms;
    for (int tries = 0;; tries++, at += 1000) {
        make_name(o, at, name, size);
        if (s->ops->create(s, name, e) == 0)
            break;
        if (e->code != EX_CANTCREAT || !strstr(e->text, "is there already") || tries == 60)
            return -1;
    }
    return 0;
}

static int attempts(const struct options *o, struct store *s, struct assembly *a, struct outcome *x,
                    char *name, size_t size, struct err *e) {
    for (int n = 1;; n++) {
        bool again = false;
        if (begin(o, s, x, name, size, e) < 0)
            return -1;
        a->attempt = n;
        if (assemble(a, s, &again, e) == 0)
            return s->ops->commit(s, e);
        // Told to stop: a thread may still be writing, so that only die() may end the store.
        if (stop)
            return -1;
        s->ops->abort(s);
        if (!again || n == ATTEMPTS)
            return -1;
        log_warning("%s; beginning again (attempt %d of %d)", e->text, n + 1, ATTEMPTS);
    }
}

// Only an archive that was read to its end is proven: a signal ends that too.
static int go_on(void *arg, const struct reader_entry *x, const void *data, size_t len,
                 int64_t offset, struct err *e) {
    return stop ? err_set(e, EX_TEMPFAIL, "told to stop") : 0;
}

static int verify_written(const struct options *o, struct store *s, const char *name,
                          struct outcome *x, struct err *e) {
    static const struct reader_calls calls = {.data = go_on};
    if (!o->verify && !(o->verify_remote && strstr(o->destination, "://")))
        return 0;
    // Without the identity the archive cannot be opened here, and need not be: it was checked block
    // by block before it was encrypted.
    bool closed = o->encrypt_to && o->encrypt_to[0] && !o->identity_file;
    int rc = closed ? store_age_same(s, name, e) : reader_run(s, name, &calls, NULL, NULL, e);
    if (rc < 0) {
        err_wrap(e, "%s: written, but %s, and is removed", name,
                 stop ? "not proven" : "does not verify");
        s->ops->remove(s, name, NULL);
        return -1;
    }
    x->verified = true;
    return 0;
}

static void summary(const struct outcome *x, const struct assembly *a) {
    char size[32], raw[32], rate[32], took[32];
    int64_t ms = x->ended_ms - x->started_ms > 0 ? x->ended_ms - x->started_ms : 1;
    text_bytes(x->bytes, size, sizeof size);
    text_bytes(x->raw_bytes, raw, sizeof raw);
    text_bytes(x->raw_bytes * 1000 / ms, rate, sizeof rate);
    text_ms(ms, took, sizeof took);
    log_notice("%s: %s of %s (%.1f %%), %lld entries in %s, %s/s, %lld warning%s%s", x->file, size,
               raw, x->raw_bytes ? 100.0 * (double)x->bytes / (double)x->raw_bytes : 0.0,
               (long long)x->entries, took, rate, (long long)x->warnings,
               x->warnings == 1 ? "" : "s", x->verified ? ", verified" : "");
    if (a->excluded)
        log_info("%lld excluded", (long long)a->excluded);
}

// A signal ends the process as the signal does, so that whoever waits sees it; nothing may hang
// on the way: the threads are left where they are.
static void die(struct store *s) {
    s->ops->abort(s);
    signal(stop_signal, SIG_DFL);
    raise(stop_signal);
    _exit(128 + stop_signal);
}

static int prepare_store(const struct options *o, struct store *s, struct err *e) {
    int swept = 0;
    if (s->ops->lock && s->ops->lock(s, e) < 0)
        return -1;
    if (s->ops->sweep && s->ops->sweep(s, &swept, e) < 0)
        return -1;
    if (swept)
        log_notice("%s: %d unfinished archive%s of earlier runs removed", s->where, swept,
                   swept == 1 ? "" : "s");
    return 0;
}

static int run(const struct options *o, struct store *s, struct outcome *x, struct err *e) {
    struct jobslock lock = {0};
    struct assembly a = {.o = o, .stop = &stop};
    static char name[300];
    if (prepare_store(o, s, e) < 0 || (o->lock && jobslock_take(&lock, o, e) < 0))
        return -1;
    int rc = assembly_prepare(&a, s, e);
    if (rc == 0)
        rc = attempts(o, s, &a, x, name, sizeof name, e);
    jobslock_release(&lock);
    if (rc == 0) {
        x->file = name;
        x->bytes = a.bytes;
        x->raw_bytes = a.raw_bytes;
        x->entries = a.entries;
        x->warnings = a.warnings;
        rc = verify_written(o, s, name, x, e);
    }
    if (rc == 0) {
        x->ended_ms = clock_wall_ms();
        summary(x, &a);
    }
    assembly_free(&a);
    return rc;
}

static int create(const struct options *o, struct err *e) {
    struct store *s;
    struct outcome x = {.started_ms = clock_wall_ms(), .file = ""};
    if (store_open(o, o->destination, &s, e) < 0)
        return -1;
    outcome_begin(o);
    int rc = run(o, s, &x, e);
    if (rc < 0 && stop_signal)
        err_set(e, EX_TEMPFAIL, "stopped by signal %d", (int)stop_signal);
    x.ended_ms = clock_wall_ms();
    if (rc < 0)
        x.error = *e;
    outcome_end(o, &x);
    if (rc < 0 && stop_signal) {
        log_error("%s", e->text);
        die(s);
    }
    // What is too old goes only after a good new one.
    if (rc == 0 && keep_any(&o->keep) && s->ops->list && prune(o, s, NULL, e) < 0)
        rc = err_wrap(e, "the archive is there, but pruning failed");
    store_free(s);
    return rc;
}

int create_main(int argc, char **argv) {
    struct options o = {0};
    struct err e = {0};
    setlocale(LC_CTYPE, "C.UTF-8");       // libarchive: names are UTF-8
    mallopt(M_ARENA_MAX, 2);              // memory is a promise
    mallopt(M_MMAP_THRESHOLD, 128 << 10); // what is freed goes back, however large
    catch_signals();
    int rc = parse(&o, argc, argv, &e);
    if (rc > 0) {
        usage(stdout);
        rc = 0;
    } else if (rc == 0) {
        o.stop = &stop;
        rc = create(&o, &e);
    }
    if (rc < 0)
        log_error("%s", e.text);
    options_free(&o);
    return rc < 0 ? e.code : 0;
}
