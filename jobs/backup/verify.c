// verify: reads a whole archive and says whether it is what was written.
#include "backup/command.h"
#include "backup/progress.h"
#include "backup/reader.h"
#include "backup/store.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"

#include <getopt.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>

static void usage(FILE *f) {
    fputs(
        "usage: civinit-backup verify [OPTION…] ARCHIVE…\n\n"
        "Reads archives wholly and compares every entry with the manifest: checksums, missing and\n"
        "extra entries, the dump's closing line. ARCHIVE: a path, s3://BUCKET/NAME …, a name in "
        "the\n"
        "configured destination, \"latest\", or - (standard input).\n\n"
        "  -c, --config FILE    instead of /etc/civinit/backup.ini\n"
        "  -i, --identity FILE  opens an encrypted archive\n"
        "  -q, --quiet          no progress on a terminal, nothing about good archives\n"
        "  -h, --help\n\n"
        "Exit code 65: an archive does not verify.\n",
        f);
}

static void on_progress(void *arg, int64_t read_bytes, int64_t total) {
    struct progress *p = arg;
    p->total = total;
    progress_add(p, read_bytes - p->done);
}

static int verify(const struct options *o, const char *archive, struct err *e) {
    static const struct reader_calls calls = {.progress = on_progress};
    struct reader_result r = {0};
    struct progress p;
    struct store *s;
    char *name, size[32], raw[32], took[32];
    int64_t began = clock_mono_ms();
    if (store_open_archive(o, archive, &s, &name, e) < 0)
        return -1;
    progress_start(&p, o->quiet, -1);
    progress_phase(&p, "verify");
    int rc = reader_run(s, name, &calls, &p, &r, e);
    progress_clear(&p);
    if (rc == 0 && !o->quiet)
        printf("%s: good: %lld entries, %s of %s, in %s\n", name, (long long)r.entries,
               text_bytes(r.compressed_bytes, size, sizeof size),
               text_bytes(r.raw_bytes, raw, sizeof raw),
               text_ms(clock_mono_ms() - began, took, sizeof took));
    if (rc == 0)
        reader_result_free(&r);
    free(name);
    store_free(s);
    return rc;
}

static int parse(struct options *o, int argc, char **argv, struct err *e) {
    static const struct option longs[] = {{"config", 1, NULL, 'c'},
                                          {"identity", 1, NULL, 'i'},
                                          {"quiet", 0, NULL, 'q'},
                                          {"help", 0, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    const char *config = NULL, *identity = NULL;
    for (int c; (c = getopt_long(argc, argv, "c:i:qh", longs, NULL)) != -1;) {
        if (c == 'h')
            return 1;
        if (c == '?')
            return err_set(e, EX_USAGE, "see civinit-backup verify --help");
        if (c == 'c')
            config = optarg;
        else if (c == 'i')
            identity = optarg;
        else
            o->quiet = true;
    }
    if (optind == argc)
        return err_set(e, EX_USAGE, "no archive is named");
    if (options_load(o, config, e) < 0)
        return -1;
    if (identity)
        o->identity_file = identity;
    return 0;
}

int verify_main(int argc, char **argv) {
    struct options o = {0};
    struct err e = {0};
    setlocale(LC_CTYPE, "C.UTF-8");
    signal(SIGPIPE, SIG_IGN);
    int rc = parse(&o, argc, argv, &e), code = 0;
    if (rc > 0)
        usage(stdout);
    if (rc < 0) {
        log_error("%s", e.text);
        code = e.code;
    }
    // All are looked at; the first failure decides.
    for (int i = optind; rc == 0 && i < argc; i++)
        if (verify(&o, argv[i], &e) < 0) {
            log_error("%s", e.text);
            code = code ? code : e.code;
        }
    options_free(&o);
    return code;
}
