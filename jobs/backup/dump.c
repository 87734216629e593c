// What is to be known before a dump: the program and its options, the account's grants, what the
// databases hold. Running it: dumprun.c.
#include "backup/dump.h"

#include "backup/dumprun.h"
#include "backup/grants.h"
#include "base/cleanup.h"
#include "base/log.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

static int no_memory(struct err *e) {
    return err_set(e, EX_OSERR, "out of memory");
}

static char *in_path(const char *name) {
    const char *path = getenv("PATH");
    if (strchr(name, '/'))
        return access(name, X_OK) == 0 ? strdup(name) : NULL;
    for (const char *p = path && *path ? path : "/usr/local/bin:/usr/bin:/bin"; *p;) {
        size_t n = strcspn(p, ":");
        char *file = NULL;
        if (n && asprintf(&file, "%.*s/%s", (int)n, p, name) >= 0 && access(file, X_OK) == 0)
            return file;
        free(file);
        p += n + (p[n] == ':');
    }
    return NULL;
}

static int find_program(struct dump *d, struct err *e) {
    const char *const *names = d->mariadb_server
                                   ? (const char *const[]){"mariadb-dump", "mysqldump", NULL}
                                   : (const char *const[]){"mysqldump", "mariadb-dump", NULL};
    if (d->o->dump_program)
        d->program = in_path(d->o->dump_program);
    for (; !d->o->dump_program && !d->program && *names; names++)
        d->program = in_path(*names);
    if (d->program)
        return 0;
    return err_set(e, EX_UNAVAILABLE, "no %s: install the database's client",
                   d->o->dump_program ? d->o->dump_program : "mysqldump or mariadb-dump in PATH");
}

// "… Distrib 10.11.6-MariaDB, for …", "… Ver 9.7.0 for …": the first number with a dot after the
// word.
static int major_of(const char *text) {
    const char *p = strstr(text, "Distrib ");
    p = p ? p + 8 : strstr(text, "from ") ? strstr(text, "from ") + 5 : strstr(text, "Ver ");
    p = p ? p + strcspn(p, "0123456789") : "";
    return atoi(p);
}

// An older client does not know what a newer server's tables need; the other way round is fine.
static int check_version(struct dump *d, struct err *e) {
    const char *const args[] = {"--version", NULL};
    const char *const buffered[] = {DUMP_STDBUF_OPTION, d->program, "--version", NULL};
    d->stdbuf = in_path("stdbuf");
    if (d->stdbuf && dump_ask(d->stdbuf, buffered, &d->version, NULL) < 0) {
        free(d->stdbuf);
        d->stdbuf = NULL;
    }
    if (!d->stdbuf && dump_ask(d->program, args, &d->version, e) < 0)
        return -1;
    d->version[strcspn(d->version, "\n")] = 0;
    d->mariadb = strstr(d->version, "MariaDB") || strstr(d->version, "mariadb");
    int client = major_of(d->version), server = atoi(d->server);
    if (d->mariadb == d->mariadb_server && client < server)
        return err_set(e, EX_UNAVAILABLE,
                       "%s is version %d, the server %s: a dump needs a client at "
                       "least as new",
                       d->program, client, d->server);
    const char *const help[] = {"--no-defaults", "--help", NULL};
    return dump_ask(d->program, help, &d->help, e);
}

static bool knows(const struct dump *d, const char *option) {
    return strstr(d->help, option) != NULL;
}

struct list {
    char **words;
    size_t n;
    bool failed;
};

__attribute__((format(printf, 2, 3))) static void list_add(struct list *l, const char *fmt, ...) {
    char **more = realloc(l->words, (l->n + 2) * sizeof *more), *word = NULL;
    va_list ap;
    va_start(ap, fmt);
    if (!more || vasprintf(&word, fmt, ap) < 0)
        l->failed = true;
    va_end(ap);
    if (more)
        l->words = more;
    if (!l->failed)
        l->words[l->n++] = word;
    if (more)
        l->words[l->n] = NULL;
}

static void add_tls(const struct dump *d, struct list *l) {
    static const char *const modes[] = {"DISABLED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY"};
    enum db_tls tls = d->where->tls;
    if (d->where->socket)
        return;
    if (knows(d, "--ssl-mode"))
        list_add(l, "--ssl-mode=%s", modes[tls]);
    else if (tls == DB_TLS_OFF)
        list_add(l, "--skip-ssl");
    else {
        list_add(l, "--ssl");
        list_add(l, tls >= DB_TLS_VERIFY_CA ? "--ssl-verify-server-cert"
                                            : "--skip-ssl-verify-server-cert");
    }
    if (tls >= DB_TLS_VERIFY_CA && d->where->ca)
        list_add(l, "--ssl-ca=%s", d->where->ca);
}

// The set that needs neither SUPER nor PROCESS nor RELOAD nor LOCK TABLES.
static int choose_options(struct dump *d, struct err *e) {
    static const char *const always[] = {"--single-transaction",
                                         "--quick",
                                         "--skip-lock-tables",
                                         "--routines",
                                         "--triggers",
                                         "--events",
                                         "--hex-blob",
                                         "--default-character-set=utf8mb4",
                                         "--max-allowed-packet=512M"};
    static const struct {
        const char *known, *option;
    } if_known[] = {{"--no-tablespaces", "--no-tablespaces"},
                    {"--set-gtid-purged", "--set-gtid-purged=OFF"},
                    {"--column-statistics", "--column-statistics=0"},
                    {"masking-policies", "--skip-masking-policies"}};
    struct list l = {0};
    for (size_t i = 0; i < sizeof always / sizeof *always; i++)
        list_add(&l, "%s", always[i]);
    for (size_t i = 0; i < sizeof if_known / sizeof *if_known; i++)
        if (knows(d, if_known[i].known))
            list_add(&l, "%s", if_known[i].option);
    add_tls(d, &l);
    d->options = l.words;
    return l.failed ? no_memory(e) : 0;
}

static int check_grants(struct dump *d, struct db *db, struct err *e) {
    autorows struct db_rows rows = {0};
    if (db_query(db, "SHOW GRANTS", &rows, e) < 0)
        return -1;
    const char **lines = calloc(rows.n + 1, sizeof *lines);
    if (!lines)
        return no_memory(e);
    for (size_t i = 0; i < rows.n; i++)
        lines[i] = rows.cells[i * rows.columns] ? rows.cells[i * rows.columns] : "";
    for (char **name = d->o->databases; *name; name++)
        grants_missing(&d->missing, grants_for(lines, rows.n, *name), *name, d->mariadb_server);
    free(lines);
    if (!d->missing.len || d->o->allow_incomplete)
        return 0;
    return err_set(
        e, EX_NOPERM,
        "the account %s lacks %s: the dump would silently be incomplete. Grant it, or use "
        "--allow-incomplete",
        d->where->user ? d->where->user : "", d->missing.data);
}

static int64_t number(const struct db_rows *rows, size_t row, size_t column) {
    const char *cell = rows->cells[row * rows->columns + column];
    return cell ? strtoll(cell, NULL, 10) : 0;
}

static int count_objects(struct db *db, const char *name, struct object_counts *c, int64_t *bytes,
                         struct err *e) {
    autorows struct db_rows rows = {0};
    autofree char *q = db_quote(db, name);
    if (!q)
        return no_memory(e);
    if (db_queryf(
            db, &rows, e,
            "SELECT COALESCE(SUM(TABLE_TYPE NOT LIKE '%%VIEW%%' AND TABLE_TYPE <> 'SEQUENCE'), "
            "0), COALESCE(SUM(TABLE_TYPE LIKE '%%VIEW%%'), 0), COALESCE(SUM(DATA_LENGTH), 0), "
            "(SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = %s), "
            "(SELECT COUNT(*) FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = %s AND "
            "ROUTINE_TYPE IN ('FUNCTION', 'PROCEDURE')), "
            "(SELECT COUNT(*) FROM information_schema.EVENTS WHERE EVENT_SCHEMA = %s) "
            "FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s",
            q, q, q, q) < 0)
        return -1;
    *c = (struct object_counts){number(&rows, 0, 0), number(&rows, 0, 1), number(&rows, 0, 3),
                                number(&rows, 0, 4), number(&rows, 0, 5)};
    *bytes += number(&rows, 0, 2);
    return 0;
}

static size_t count_names(char *const *names) {
    size_t n = 0;
    while (names[n])
        n++;
    return n;
}

static int count_all(struct dump *d, struct db *db, struct object_counts **ret, int64_t *bytes,
                     struct err *e) {
    struct object_counts *c = calloc(count_names(d->o->databases) + 1, sizeof *c);
    if (!c)
        return no_memory(e);
    for (size_t i = 0; d->o->databases[i]; i++)
        if (count_objects(db, d->o->databases[i], &c[i], bytes, e) < 0) {
            free(c);
            return -1;
        }
    *ret = c;
    return 0;
}

static int check_exist(struct dump *d, struct db *db, struct err *e) {
    for (char **name = d->o->databases; *name; name++) {
        autorows struct db_rows rows = {0};
        autofree char *q = db_quote(db, *name);
        if (!q)
            return no_memory(e);
        if (db_queryf(db, &rows, e,
                      "SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = %s", q) < 0)
            return -1;
        if (rows.n == 0)
            return err_set(e, EX_NOINPUT,
                           "database %s: is not there, or the account %s may not see it", *name,
                           d->where->user ? d->where->user : "");
    }
    return 0;
}

static bool is_structure_only(const struct dump *d, const char *full, const char *table) {
    for (char **glob = d->o->structure_only; glob && *glob; glob++)
        if (fnmatch(*glob, strchr(*glob, '.') ? full : table, 0) == 0)
            return true;
    return false;
}

static int find_structure_in(struct dump *d, struct db *db, const char *name, struct list *l,
                             struct err *e) {
    autorows struct db_rows rows = {0};
    autofree char *q = db_quote(db, name);
    if (!q)
        return no_memory(e);
    if (db_queryf(db, &rows, e,
                  "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s AND "
                  "TABLE_TYPE NOT LIKE '%%VIEW%%'",
                  q) < 0)
        return -1;
    for (size_t i = 0; i < rows.n; i++) {
        autofree char *full = NULL;
        if (asprintf(&full, "%s.%s", name, rows.cells[i]) < 0)
            return no_memory(e);
        if (is_structure_only(d, full, rows.cells[i]))
            list_add(l, "%s", full);
    }
    return 0;
}

// Which tables the globs of structure_only mean.
static int find_structure(struct dump *d, struct db *db, struct err *e) {
    struct list l = {.words = calloc(1, sizeof *l.words)};
    int rc = l.words ? 0 : no_memory(e);
    for (char **name = d->o->databases; rc == 0 && *name; name++)
        rc = find_structure_in(d, db, *name, &l, e);
    d->structure = l.words;
    return rc == 0 && l.failed ? no_memory(e) : rc;
}

static int ask_server(struct dump *d, struct err *e) {
    autodb struct db *db = NULL;
    if (db_open(d->where, &db, NULL, e) < 0)
        return -1;
    d->server = strdup(db_version(db));
    d->mariadb_server = db_is_mariadb(db);
    if (!d->server)
        return no_memory(e);
    if (check_exist(d, db, e) < 0 || check_grants(d, db, e) < 0 || find_structure(d, db, e) < 0)
        return -1;
    return count_all(d, db, &d->before, &d->data_bytes, e);
}

int dump_prepare(struct dump *d, const struct options *o, const struct db_options *where,
                 struct err *e) {
    d->o = o;
    d->where = where;
    if (ask_server(d, e) < 0 || find_program(d, e) < 0 || check_version(d, e) < 0)
        return -1;
    return choose_options(d, e);
}

static int compare(const char *database, const char *what, int64_t before, int64_t after,
                   int64_t dumped, struct err *e) {
    int64_t low = before < after ? before : after, high = before < after ? after : before;
    if (dumped >= low && dumped <= high)
        return 0;
    return err_set(e, EX_DATAERR,
                   "the dump holds %lld %s of database %s, information_schema knows %lld",
                   (long long)dumped, what, database, (long long)after);
}

int dump_compare(struct dump *d, const struct dumpscan *scan, struct err *e) {
    struct object_counts *after, none = {0};
    int64_t bytes = 0;
    autodb struct db *db = NULL;
    if (db_open(d->where, &db, NULL, e) < 0 || count_all(d, db, &after, &bytes, e) < 0)
        return -1;
    int rc = 0;
    for (size_t i = 0; rc == 0 && d->o->databases[i]; i++) {
        const char *name = d->o->databases[i];
        const struct object_counts *x = dumpscan_find(scan, name), *b = &d->before[i],
                                   *a = &after[i];
        x = x ? x : &none;
        rc = compare(name, "tables", b->tables, a->tables, x->tables, e) ||
                     compare(name, "views", b->views, a->views, x->views, e) ||
                     compare(name, "triggers", b->triggers, a->triggers, x->triggers, e) ||
                     compare(name, "routines", b->routines, a->routines, x->routines, e) ||
                     compare(name, "events", b->events, a->events, x->events, e)
                 ? -1
                 : 0;
    }
    free(after);
    return rc;
}

static void free_list(char **list) {
    for (size_t i = 0; list && list[i]; i++)
        free(list[i]);
    free(list);
}

void dump_free(struct dump *d) {
    free(d->program);
    free(d->stdbuf);
    free(d->version);
    free(d->server);
    free(d->help);
    free(d->before);
    free_list(d->options);
    free_list(d->structure);
    buf_free(&d->missing);
}
