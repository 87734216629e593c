// The dump program of the database's own client: found, its version checked, its options asked
// from its --help, run with the password in a private option file, watched to its end.
#ifndef BACKUP_DUMP_H
#define BACKUP_DUMP_H

#include "backup/dumpscan.h"
#include "backup/options.h"
#include "base/err.h"
#include "base/text.h"
#include "common/db.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

enum {
    DUMP_CHANGED = 1412, // ER_TABLE_DEF_CHANGED: a table was truncated or altered meanwhile
};

struct dump {
    const struct options *o;
    const struct db_options *where;
    char *program; // path
    char *stdbuf;  // path of the program that gives it a larger buffer, or NULL
    char *version; // its --version line
    char *server;  // VERSION() of the server
    char *help;    // what its --help says
    bool mariadb;  // the program; else MySQL's
    bool mariadb_server;
    char **options;               // NULL-terminated, without the databases; none is a secret
    char **structure;             // "db.table": structure only, NULL-terminated
    struct buf missing;           // grants, as text; empty: none
    struct object_counts *before; // of each of o->databases, as information_schema knows them
    int64_t data_bytes;           // information_schema's estimate of tables and indexes
};

// Finds the program, asks the server: versions, grants (EX_NOPERM with the missing ones, unless
// o->allow_incomplete), counts, tables of o->structure_only. where must live as long as d.
int dump_prepare(struct dump *d, const struct options *o, const struct db_options *where,
                 struct err *e);

typedef int dump_sink(void *arg, const void *data, size_t len, struct err *e);

// Runs it to its end. The data goes to sink and through scan; each line of its stderr to
// note(level by its text). -1: it ended with an error, was killed, lacks its closing line, sink
// failed or *stop became true; *ret_changed says that 1412 was the reason.
int dump_run(struct dump *d, dump_sink *sink, void *arg, struct dumpscan *scan,
             const atomic_bool *stop, bool *ret_changed, struct err *e);

// Compares what was dumped with information_schema, before and after: EX_DATAERR with what lacks.
int dump_compare(struct dump *d, const struct dumpscan *scan, struct err *e);

void dump_free(struct dump *d);

#endif
