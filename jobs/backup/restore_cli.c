// The command line of restore.
#include "backup/restore.h"

#include "base/text.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

static void usage(FILE *f) {
    fputs(
        "usage: civinit-backup restore [OPTION…] ARCHIVE\n"
        "       civinit-backup restore --drill [OPTION…] ARCHIVE\n\n"
        "ARCHIVE: a path, s3://BUCKET/NAME …, a name in the configured destination, \"latest\", or "
        "-.\n"
        "It is read and proven first; nothing that is not empty is replaced without --force.\n\n"
        "What goes where:\n"
        "  -D, --db                 the databases, under their names\n"
        "      --to-db OLD=NEW      … under another name (or only NEW, for the only one)\n"
        "  -t, --to-dir DIR         the files, each root into DIR/ROOT\n"
        "      --to-root ROOT=DIR   one root into DIR\n"
        "      --in-place           the roots where [backup] files names them\n"
        "      --databases NAMES, --roots NAMES   only these\n"
        "      --paths GLOB         only files whose ROOT/path matches, or lies in a match\n"
        "How:\n"
        "      --definer drop|keep|USER@HOST   DEFINER clauses (default: drop)\n"
        "      --force              replace databases and folders that are not empty\n"
        "      --owners             give files their uid and gid (as root)\n"
        "      --allow-external-links   symlinks that lead out of their root\n"
        "      --max-size SIZE      refuse archives that hold more\n"
        "      --no-verify          one pass: errors are noticed only when they come\n"
        "      --drill              restore into scratch databases and a scratch folder, compare,\n"
        "                           report, clean up (--scratch DIR: where the folder is made)\n"
        "  -i, --identity FILE      opens an encrypted archive\n"
        "  -c, --config FILE        instead of /etc/civinit/backup.ini\n"
        "  -q, --quiet              no progress on a terminal\n"
        "  -h, --help\n",
        f);
}

enum {
    TO_DB = 256,
    TO_ROOT,
    IN_PLACE,
    DATABASES,
    ROOTS,
    PATHS,
    DEFINER,
    FORCE,
    OWNERS,
    LINKS,
    MAX_SIZE,
    NO_VERIFY,
    DRILL,
    SCRATCH,
};

static const struct option longs[] = {{"db", 0, NULL, 'D'},
                                      {"to-db", 1, NULL, TO_DB},
                                      {"to-dir", 1, NULL, 't'},
                                      {"to-root", 1, NULL, TO_ROOT},
                                      {"in-place", 0, NULL, IN_PLACE},
                                      {"databases", 1, NULL, DATABASES},
                                      {"roots", 1, NULL, ROOTS},
                                      {"paths", 1, NULL, PATHS},
                                      {"definer", 1, NULL, DEFINER},
                                      {"force", 0, NULL, FORCE},
                                      {"owners", 0, NULL, OWNERS},
                                      {"allow-external-links", 0, NULL, LINKS},
                                      {"max-size", 1, NULL, MAX_SIZE},
                                      {"no-verify", 0, NULL, NO_VERIFY},
                                      {"drill", 0, NULL, DRILL},
                                      {"scratch", 1, NULL, SCRATCH},
                                      {"identity", 1, NULL, 'i'},
                                      {"config", 1, NULL, 'c'},
                                      {"quiet", 0, NULL, 'q'},
                                      {"help", 0, NULL, 'h'},
                                      {NULL, 0, NULL, 0}};

static int take_map(struct restore *r, const char *word, struct err *e) {
    struct restore_wants *w = &r->wants;
    const char *eq = strchr(word, '=');
    int n = 0;
    w->databases = true;
    if (!eq) {
        if (w->single)
            return err_set(e, EX_USAGE, "--to-db: write it as OLD=NEW for more than one database");
        w->single = word;
        return 0;
    }
    while (w->map[n].from)
        n++;
    if (n == RESTORE_NAMES || eq == word || !eq[1])
        return err_set(e, EX_USAGE, "--to-db: \"%s\" is not OLD=NEW", word);
    w->map[n].from = arena_textn(&r->o.conf.arena, word, (size_t)(eq - word));
    w->map[n].to = eq + 1;
    for (int i = 0; i < n; i++)
        if (strcmp(w->map[i].to, eq + 1) == 0)
            return err_set(e, EX_USAGE, "--to-db: two databases into \"%s\"", eq + 1);
    return w->map[n].from ? 0 : err_set(e, EX_OSERR, "out of memory");
}

static int take_root(struct restore *r, const char *word, struct err *e) {
    struct restore_wants *w = &r->wants;
    const char *eq = strchr(word, '=');
    int n = 0;
    while (w->to_root[n].name)
        n++;
    if (n == RESTORE_ROOTS || !eq || eq == word || !eq[1])
        return err_set(e, EX_USAGE, "--to-root: \"%s\" is not ROOT=DIR", word);
    w->files = true;
    w->to_root[n].name = arena_textn(&r->o.conf.arena, word, (size_t)(eq - word));
    w->to_root[n].path = eq + 1;
    return w->to_root[n].name ? 0 : err_set(e, EX_OSERR, "out of memory");
}

// Adds the words of text to a list.
static int take_list(struct restore *r, const char *text, bool split, char ***list, struct err *e) {
    size_t n = 0, more = 0;
    char *one[] = {(char *)(uintptr_t)text, NULL};
    char **words = split ? options_words(&r->o, text) : one;
    while (*list && (*list)[n])
        n++;
    while (words && words[more])
        more++;
    char **all = arena_alloc(&r->o.conf.arena, (n + more + 1) * sizeof *all);
    if (!words || !all)
        return err_set(e, EX_USAGE, "\"%s\": unclosed quote", text);
    for (size_t i = 0; i < n + more; i++)
        all[i] = i < n ? (*list)[i] : words[i - n];
    *list = all;
    return 0;
}

static int take_definer(struct restore *r, const char *text, struct err *e) {
    char account[160];
    if (strcmp(text, "drop") != 0 && strcmp(text, "keep") != 0 &&
        !sqledit_definer(text, account, sizeof account))
        return err_set(e, EX_USAGE, "--definer: \"%s\" is not drop, keep or USER@HOST", text);
    r->wants.definer = text;
    return 0;
}

static int take_switch(struct restore *r, int c) {
    struct restore_wants *w = &r->wants;
    bool *on = c == 'D'         ? &w->databases
               : c == IN_PLACE  ? &w->in_place
               : c == FORCE     ? &w->force
               : c == OWNERS    ? &w->owners
               : c == LINKS     ? &w->external_links
               : c == NO_VERIFY ? &w->no_verify
               : c == DRILL     ? &w->drill
                                : &r->o.quiet;
    *on = true;
    w->files |= c == IN_PLACE;
    return 0;
}

static int take_option(struct restore *r, int c, const char **config, const char **identity,
                       struct err *e) {
    struct restore_wants *w = &r->wants;
    switch (c) {
    case 'c':
        *config = optarg;
        return 0;
    case 'i':
        *identity = optarg;
        return 0;
    case TO_DB:
        return take_map(r, optarg, e);
    case 't':
        w->to_dir = optarg;
        w->files = true;
        return 0;
    case TO_ROOT:
        return take_root(r, optarg, e);
    case DATABASES:
        return take_list(r, optarg, true, &w->only_databases, e);
    case ROOTS:
        return take_list(r, optarg, true, &w->only_roots, e);
    case PATHS:
        return take_list(r, optarg, false, &w->only_paths, e);
    case DEFINER:
        return take_definer(r, optarg, e);
    case MAX_SIZE:
        return text_size(optarg, &w->max_bytes, e) < 0 ? err_wrap(e, "--max-size") : 0;
    case SCRATCH:
        w->scratch = optarg;
        return 0;
    default:
        return take_switch(r, c);
    }
}

static int check(const struct restore *r, struct err *e) {
    const struct restore_wants *w = &r->wants;
    if (w->drill && (w->databases || w->files || w->force || w->no_verify))
        return err_set(e, EX_USAGE,
                       "--drill chooses its own places: leave --db, --to-…, "
                       "--in-place, --force and --no-verify out");
    if (!w->drill && !w->databases && !w->files)
        return err_set(e, EX_USAGE,
                       "say what goes where: --db or --to-db for the databases, "
                       "--to-dir, --to-root or --in-place for the files");
    if (w->single && w->map[0].from)
        return err_set(e, EX_USAGE, "--to-db: write all as OLD=NEW");
    if (w->only_paths && w->force)
        return err_set(e, EX_USAGE,
                       "--paths with --force would replace a whole folder by a part: "
                       "restore the part into an empty folder");
    if (w->drill && strcmp(r->archive, "-") == 0)
        return err_set(e, EX_USAGE, "--drill reads the archive more than once: not from -");
    return 0;
}

// A path that stays what it is when the working folder changes.
static const char *absolute(struct restore *r, const char *path, struct err *e) {
    char cwd[PATH_MAX];
    if (!path || *path == '/')
        return path;
    const char *whole =
        getcwd(cwd, sizeof cwd) ? arena_printf(&r->o.conf.arena, "%s/%s", cwd, path) : NULL;
    if (!whole)
        err_errno(e, EX_OSERR, "the working folder");
    return whole ? whole : "";
}

static int make_absolute(struct restore *r, struct err *e) {
    struct restore_wants *w = &r->wants;
    e->code = 0;
    w->to_dir = absolute(r, w->to_dir, e);
    w->scratch = absolute(r, w->scratch, e);
    for (struct root *m = w->to_root; m->name; m++)
        m->path = absolute(r, m->path, e);
    return e->code ? -1 : 0;
}

int restore_parse(struct restore *r, int argc, char **argv, struct err *e) {
    const char *config = NULL, *identity = NULL;
    r->wants.definer = "drop";
    for (int c; (c = getopt_long(argc, argv, "Dt:i:c:qh", longs, NULL)) != -1;) {
        if (c == 'h') {
            usage(stdout);
            return 1;
        }
        if (c == '?')
            return err_set(e, EX_USAGE, "see civinit-backup restore --help");
        if (take_option(r, c, &config, &identity, e) < 0) {
            e->code = EX_USAGE;
            return -1;
        }
    }
    if (argc - optind != 1)
        return err_set(e, EX_USAGE, "one archive must be named");
    r->archive = argv[optind];
    if (check(r, e) < 0 || make_absolute(r, e) < 0 || options_load(&r->o, config, e) < 0)
        return -1;
    if (identity)
        r->o.identity_file = identity;
    return 0;
}
