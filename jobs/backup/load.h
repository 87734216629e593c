// A dump on its way into a server: statements are chosen by database, changed and executed one by
// one; the first error ends it, with its place in the dump.
#ifndef BACKUP_LOAD_H
#define BACKUP_LOAD_H

#include "backup/sqledit.h"
#include "base/err.h"
#include "common/db.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct load_options {
    struct db_options db;
    char **databases;    // of the archive, that are wanted; NULL: all. NULL-terminated
    const char *single;  // where statements before any USE go (a dump of one database); may be NULL
    struct sqledit edit; // map: where databases go
    bool force;          // databases that are not empty are dropped first
};

// A table that got rows.
struct load_table {
    const char *database, *name; // the new database
    int64_t rows;
    struct load_table *next;
};

// A database that was loaded, by its new name.
struct load_database {
    const char *name;
    struct load_database *next;
};

struct load;

// Connects. o must outlive it.
int load_open(const struct load_options *o, struct load **ret, struct err *e);

// EX_CANTCREAT when database `name` (its new name) exists, is not empty and force is not given.
int load_check(struct load *l, const char *name, struct err *e);

// The next bytes of the dump. EX_DATAERR or EX_NOPERM: the server refused a statement.
int load_feed(struct load *l, const void *data, size_t len, struct err *e);
int load_end(struct load *l, struct err *e);

// What was loaded. The lists are l's.
const struct load_table *load_tables(const struct load *l);
const struct load_database *load_databases(const struct load *l);
int64_t load_statements(const struct load *l);

// The connection, for comparisons afterwards.
struct db *load_db(struct load *l);

void load_close(struct load *l); // NULL is allowed

// What to do about an error number of the server; NULL: nothing is known.
const char *load_hint(unsigned number);

#endif
