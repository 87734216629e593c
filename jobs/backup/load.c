#include "backup/load.h"

#include "backup/sql.h"
#include "base/arena.h"
#include "base/cleanup.h"
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sysexits.h>

enum {
    STATEMENT_MAX = 1 << 30, // a server takes no more in one packet either
    SHOWN = 60,              // bytes of a failed statement in the message
};

struct load {
    const struct load_options *o;
    struct db *db;
    struct sql *sql;
    struct arena arena;
    struct load_database *databases;
    struct load_table *tables, *last; // last: the one that got rows last
    char current[256]; // database of the archive the next statement belongs to; "": none yet
    bool skipping;
    int64_t statements;
    struct buf edited;
};

const char *load_hint(unsigned number) {
    static const struct {
        unsigned number;
        const char *hint;
    } hints[] = {
        {1227, "the account lacks a right that the dump's statement needs (SUPER, SET USER or "
               "SYSTEM_USER for a DEFINER): leave DEFINER clauses out with --definer drop, or load "
               "as an administrator"},
        {1419, "the server keeps a binary log and the account has no SUPER: an administrator must "
               "run SET GLOBAL log_bin_trust_function_creators = 1 on the server"},
        {1418, "an administrator must run SET GLOBAL log_bin_trust_function_creators = 1 on the "
               "server"},
        {1044, "the account has no rights on that database: GRANT ALL ON `name`.* TO it"},
        {1142, "the account lacks that right: GRANT ALL on its databases"},
        {1370, "the account lacks EXECUTE or ALTER ROUTINE: GRANT ALL on its databases"},
        {1449, "a DEFINER of the dump is no account of this server: leave it out with --definer "
               "drop"},
        {1153, "a row is larger than the server takes: raise max_allowed_packet on the server"},
        {2006,
         "the server ended the connection: was it restarted, is max_allowed_packet too small, "
         "has it enough memory?"},
        {2013, "the server ended the connection: was it restarted, has it enough memory?"},
        {1114, "the server's disk or temporary space is full"},
        {1021, "the server's disk is full"},
        {1273,
         "the dump comes from a newer server, or from the other of MySQL and MariaDB: this one "
         "does not know the collation"},
        {1115, "this server does not know the character set of the dump"},
    };
    for (size_t i = 0; i < sizeof hints / sizeof *hints; i++)
        if (hints[i].number == number)
            return hints[i].hint;
    return NULL;
}

// The exit code of an error of the server.
static int code_of(struct load *l, unsigned number) {
    static const unsigned denied[] = {1044, 1045, 1142, 1143, 1227, 1370, 1418, 1419, 1449};
    for (size_t i = 0; i < sizeof denied / sizeof *denied; i++)
        if (denied[i] == number)
            return EX_NOPERM;
    return db_lost(l->db) ? EX_UNAVAILABLE : EX_DATAERR;
}

// The error of a statement with its place; never its data.
static int refused(struct load *l, const struct sql_statement *s, struct err *e) {
    unsigned number = db_errno(l->db);
    const char *hint = load_hint(number);
    char what[SHOWN + 256];
    struct err why = e ? *e : (struct err){0};
    if (s->kind == SQL_DATA)
        snprintf(what, sizeof what, "INSERT INTO `%s`", s->name);
    else
        snprintf(what, sizeof what, "%.*s%s", (int)(s->len < SHOWN ? s->len : SHOWN), s->text,
                 s->len > SHOWN ? "…" : "");
    return err_set(e, code_of(l, number), "line %lld of the dump (byte %lld): %s: %s%s%s",
                   (long long)s->line, (long long)s->offset, what, why.text, hint ? ". " : "",
                   hint ? hint : "");
}

static int execute(struct load *l, const struct sql_statement *s, struct err *e) {
    bool edited = sqledit_apply(&l->o->edit, s, &l->edited);
    if (l->edited.failed)
        return err_set(e, EX_OSERR, "out of memory");
    l->statements++;
    const char *text = edited ? l->edited.data : s->text;
    return db_execute(l->db, text, edited ? l->edited.len : s->len, e) < 0 ? refused(l, s, e) : 0;
}

static bool wanted(const struct load *l, const char *name) {
    if (!l->o->databases)
        return true;
    for (char **d = l->o->databases; *d; d++)
        if (strcmp(*d, name) == 0)
            return true;
    return false;
}

// -1 with e, 0: not there, 1: empty, 2: not empty.
static int look(struct load *l, const char *name, struct err *e) {
    autofree char *quoted = db_quote(l->db, name), *sql = NULL, *count = NULL;
    if (!quoted ||
        asprintf(
            &sql,
            "SELECT (SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = %1$s) + "
            "(EXISTS (SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = %1$s) OR "
            "EXISTS (SELECT 1 FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = %1$s) OR "
            "EXISTS (SELECT 1 FROM information_schema.EVENTS WHERE EVENT_SCHEMA = %1$s))",
            quoted) < 0)
        return err_set(e, EX_OSERR, "out of memory");
    if (db_value(l->db, sql, &count, e) < 0)
        return err_wrap(e, "database %s", name);
    return count ? atoi(count) : 0;
}

int load_check(struct load *l, const char *name, struct err *e) {
    int is = look(l, name, e);
    if (is < 0)
        return -1;
    if (is == 2 && !l->o->force)
        return err_set(e, EX_CANTCREAT,
                       "database %s is not empty: --force replaces it, --to-db %s=OTHER restores "
                       "beside it",
                       name, name);
    return 0;
}

static bool name_ok(const char *name) {
    return *name && !strpbrk(name, "`/\\\n") && strlen(name) <= 64;
}

// The first statement of a database: it must be empty, or is emptied.
static int enter(struct load *l, const char *new, struct err *e) {
    for (const struct load_database *d = l->databases; d; d = d->next)
        if (strcmp(d->name, new) == 0)
            return 0;
    if (!name_ok(new))
        return err_set(e, EX_DATAERR, "\"%s\" is no name for a database", new);
    if (load_check(l, new, e) < 0)
        return -1;
    if (l->o->force && look(l, new, e) == 2 &&
        db_queryf(l->db, NULL, e, "DROP DATABASE `%s`", new) < 0)
        return err_wrap(e, "emptying database %s", new);
    struct load_database *d = arena_alloc(&l->arena, sizeof *d);
    if (!d || !(d->name = arena_text(&l->arena, new)))
        return err_set(e, EX_OSERR, "out of memory");
    d->next = l->databases;
    l->databases = d;
    return 0;
}

static bool is_table(const struct load_table *t, const char *database, const char *name) {
    return t && strcmp(t->name, name) == 0 && strcmp(t->database, database) == 0;
}

static int add_rows(struct load *l, const struct sql_statement *s, struct err *e) {
    const char *database = sqledit_database(&l->o->edit, l->current);
    struct load_table *t = l->last;
    if (!is_table(t, database, s->name))
        for (t = l->tables; t && !is_table(t, database, s->name);)
            t = t->next;
    if (!t) {
        t = arena_alloc(&l->arena, sizeof *t);
        if (!t || !(t->database = arena_text(&l->arena, database)) ||
            !(t->name = arena_text(&l->arena, s->name)))
            return err_set(e, EX_OSERR, "out of memory");
        t->next = l->tables;
        l->tables = t;
    }
    t->rows += s->rows;
    l->last = t;
    return 0;
}

// CREATE DATABASE and USE: what follows belongs to that database.
static int change_database(struct load *l, const struct sql_statement *s, struct err *e) {
    memcpy(l->current, s->name, sizeof l->current);
    l->skipping = !wanted(l, s->name);
    if (l->skipping)
        return 0;
    const char *new = sqledit_database(&l->o->edit, s->name);
    if (enter(l, new, e) < 0)
        return err_wrap(e, "line %lld of the dump", (long long)s->line);
    if (execute(l, s, e) == 0)
        return 0;
    // An account that may not create databases can still use one that is there.
    unsigned number = db_errno(l->db);
    if (s->kind == SQL_DATABASE && (number == 1044 || number == 1007) && look(l, new, NULL) > 0)
        return 0;
    if (l->databases && strcmp(l->databases->name, new) == 0 && look(l, new, NULL) == 0)
        l->databases = l->databases->next; // nothing of it is there
    return -1;
}

// Statements before any database: a dump without USE.
static int settle_single(struct load *l, const struct sql_statement *s, struct err *e) {
    if (!l->o->single)
        return err_set(
            e, EX_DATAERR,
            "line %lld of the dump: it names no database: say where to with --to-db NAME",
            (long long)s->line);
    snprintf(l->current, sizeof l->current, "%s", l->o->single);
    if (enter(l, l->o->single, e) < 0)
        return -1;
    if (look(l, l->o->single, NULL) == 0 &&
        db_queryf(l->db, NULL, e, "CREATE DATABASE `%s`", l->o->single) < 0)
        return err_wrap(e, "database %s", l->o->single);
    return db_queryf(l->db, NULL, e, "USE `%s`", l->o->single);
}

// What only the place where the dump was made needs: replication's bookkeeping.
static bool is_bookkeeping(const struct sql_statement *s) {
    struct sql_token t;
    size_t at = 0;
    while (sql_token(s->text, s->len, &at, &t))
        if (sql_is(s->text, &t, "GTID_PURGED") || sql_is(s->text, &t, "SQL_LOG_BIN") ||
            sql_is(s->text, &t, "GLOBAL"))
            return true;
    return false;
}

static int take(void *arg, const struct sql_statement *s, struct err *e) {
    struct load *l = arg;
    switch (s->kind) {
    case SQL_DATABASE:
    case SQL_USE:
        return change_database(l, s, e);
    case SQL_SET:
        return is_bookkeeping(s) ? 0 : execute(l, s, e);
    case SQL_DATA:
    case SQL_OTHER:
        break;
    }
    if (l->skipping)
        return 0;
    if (!l->current[0] && settle_single(l, s, e) < 0)
        return -1;
    if (execute(l, s, e) < 0)
        return -1;
    return s->kind == SQL_DATA ? add_rows(l, s, e) : 0;
}

int load_open(const struct load_options *o, struct load **ret, struct err *e) {
    struct load *l = calloc(1, sizeof *l);
    if (!l || !(l->sql = sql_new(STATEMENT_MAX, take, l))) {
        free(l);
        return err_set(e, EX_OSERR, "out of memory");
    }
    l->o = o;
    if (db_open(&o->db, &l->db, NULL, e) < 0) {
        load_close(l);
        return -1;
    }
    *ret = l;
    return 0;
}

int load_feed(struct load *l, const void *data, size_t len, struct err *e) {
    return sql_feed(l->sql, data, len, e);
}

int load_end(struct load *l, struct err *e) {
    return sql_end(l->sql, e);
}

const struct load_table *load_tables(const struct load *l) {
    return l->tables;
}

const struct load_database *load_databases(const struct load *l) {
    return l->databases;
}

int64_t load_statements(const struct load *l) {
    return l->statements;
}

struct db *load_db(struct load *l) {
    return l->db;
}

void load_close(struct load *l) {
    if (!l)
        return;
    db_close(l->db);
    sql_free(l->sql);
    arena_free(&l->arena);
    buf_free(&l->edited);
    free(l);
}
