// Changes to the statements of a dump on their way into a database: DEFINER clauses, names of
// databases. Data (INSERT) is never touched, nor are strings and comments.
#ifndef BACKUP_SQLEDIT_H
#define BACKUP_SQLEDIT_H

#include "backup/sql.h"
#include "base/text.h"

#include <stdbool.h>

struct sqledit_name {
    const char *from, *to;
};

struct sqledit {
    bool drop_definer;              // DEFINER=… goes: the account that restores becomes it
    const char *definer;            // with drop_definer false: what it becomes, NULL: it stays
    const struct sqledit_name *map; // databases, ended by one without from; may be NULL
};

// "user@host" → "`user`@`host`" into buf; false: not of this form.
bool sqledit_definer(const char *account, char *buf, size_t size);

// The new name of a database, or its own.
const char *sqledit_database(const struct sqledit *ed, const char *name);

// The changed text into out (emptied first) and true; false: the statement stays as it is. In
// CREATE DATABASE and USE the name is replaced, elsewhere "name." before a table or a routine.
bool sqledit_apply(const struct sqledit *ed, const struct sql_statement *s, struct buf *out);

#endif
