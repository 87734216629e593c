// list: the archives of a destination, or the entries of an archive.
#include "backup/command.h"
#include "backup/reader.h"
#include "backup/store.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"

#include <getopt.h>
#include <jansson.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

static void usage(FILE *f) {
    fputs("usage: civinit-backup list [OPTION…] [ARCHIVE]\n\n"
          "Without ARCHIVE the archives of the destination; else what the archive holds. Names as "
          "for\n"
          "verify. An archive in a folder is listed from its end, without being read wholly.\n\n"
          "  -c, --config FILE    instead of /etc/civinit/backup.ini\n"
          "  -t, --to DESTINATION instead of the configuration's\n"
          "  -i, --identity FILE  opens an encrypted archive\n"
          "      --json           one JSON object per line\n"
          "      --manifest       how the archive was made, as JSON\n"
          "  -h, --help\n",
          f);
}

struct listing_options {
    const char *archive;
    bool json, manifest;
};

static void print_json(json_t *j, size_t flags) {
    char *text = json_dumps(j, flags);
    puts(text ? text : "");
    free(text);
}

static int print_archive(void *arg, const char *name, int64_t size, int64_t mtime_ms) {
    const struct listing_options *l = arg;
    int64_t t;
    char bytes[32], when[40];
    if (!store_name_time(name, NULL, &t))
        return 0;
    clock_rfc3339(t * 1000, when, sizeof when);
    if (l->json) {
        json_t *j =
            json_pack("{s:s,s:I,s:s}", "name", name, "bytes", (json_int_t)size, "time", when);
        print_json(j, JSON_COMPACT);
        json_decref(j);
    } else
        printf("%10s  %.19sZ  %s\n", text_bytes(size, bytes, sizeof bytes), when, name);
    return 0;
}

// Control characters do not reach a terminal.
static void print_path(const char *path) {
    for (const char *p = path; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            printf("\\%03o", (unsigned char)*p);
        else
            putchar(*p);
}

static int print_entry(void *arg, json_t *x) {
    const struct listing_options *l = arg;
    if (l->json) {
        print_json(x, JSON_COMPACT);
        return 0;
    }
    const char *link = json_string_value(json_object_get(x, "link"));
    const char *path = json_string_value(json_object_get(x, "path"));
    printf("%-8s %12lld  ", json_string_value(json_object_get(x, "type")),
           (long long)json_integer_value(json_object_get(x, "size")));
    print_path(path);
    if (link) {
        printf(" -> ");
        print_path(link);
    }
    putchar('\n');
    return 0;
}

static int list_archives(const struct options *o, struct listing_options *l, struct err *e) {
    struct store *s;
    if (!o->destination)
        return err_set(e, EX_USAGE, "no destination: give --to, or [backup] destination");
    if (store_open(o, o->destination, &s, e) < 0)
        return -1;
    int rc = s->ops->list ? s->ops->list(s, print_archive, l, e)
                          : err_set(e, EX_USAGE, "%s: cannot be listed", s->where);
    store_free(s);
    return rc;
}

static int list_entries(const struct options *o, struct listing_options *l, struct err *e) {
    struct reader_result r = {0};
    struct store *s;
    char *name;
    if (store_open_archive(o, l->archive, &s, &name, e) < 0)
        return -1;
    int rc = reader_list(s, name, l->manifest ? NULL : print_entry, l, &r, e);
    if (rc == 0) {
        if (l->manifest)
            print_json(r.manifest, JSON_INDENT(2));
        reader_result_free(&r);
    }
    free(name);
    store_free(s);
    return rc;
}

static int parse(struct options *o, struct listing_options *l, int argc, char **argv,
                 struct err *e) {
    static const struct option longs[] = {{"config", 1, NULL, 'c'},   {"to", 1, NULL, 't'},
                                          {"identity", 1, NULL, 'i'}, {"json", 0, NULL, 'j'},
                                          {"manifest", 0, NULL, 'm'}, {"help", 0, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    const char *config = NULL, *identity = NULL, *to = NULL;
    for (int c; (c = getopt_long(argc, argv, "c:t:i:h", longs, NULL)) != -1;) {
        switch (c) {
        case 'h':
            return 1;
        case 'c':
            config = optarg;
            break;
        case 't':
            to = optarg;
            break;
        case 'i':
            identity = optarg;
            break;
        case 'j':
            l->json = true;
            break;
        case 'm':
            l->manifest = true;
            break;
        default:
            return err_set(e, EX_USAGE, "see civinit-backup list --help");
        }
    }
    if (argc - optind > 1)
        return err_set(e, EX_USAGE, "list takes one archive");
    if (options_load(o, config, e) < 0)
        return -1;
    l->archive = argv[optind];
    o->identity_file = identity ? identity : o->identity_file;
    o->destination = to ? to : o->destination;
    return 0;
}

int list_main(int argc, char **argv) {
    struct options o = {0};
    struct listing_options l = {0};
    struct err e = {0};
    setlocale(LC_CTYPE, "C.UTF-8");
    int rc = parse(&o, &l, argc, argv, &e);
    if (rc > 0) {
        usage(stdout);
        rc = 0;
    } else if (rc == 0) {
        rc = l.archive ? list_entries(&o, &l, &e) : list_archives(&o, &l, &e);
    }
    if (rc == 0 && fflush(stdout) != 0)
        rc = err_set(&e, EX_IOERR, "standard output");
    if (rc < 0)
        log_error("%s", e.text);
    options_free(&o);
    return rc < 0 ? e.code : 0;
}
