// The text of a dump, cut into statements: strings, quoted names, comments and DELIMITER lines are
// understood as the servers' own client does, but no client command ("\!", "source") is.
#ifndef BACKUP_SQL_H
#define BACKUP_SQL_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sql_kind {
    SQL_OTHER,
    SQL_DATA,     // INSERT, REPLACE: never changed
    SQL_SET,      // SET, also in a /*!… */ comment
    SQL_USE,      // name is set
    SQL_DATABASE, // CREATE DATABASE; name is set
};

struct sql_statement {
    const char *text; // without its delimiter, not ended by NUL; lives during the call
    size_t len;
    int64_t line, offset; // of its first character, in the dump; lines count from 1
    enum sql_kind kind;
    char name[256]; // of the database (USE, CREATE DATABASE) or of the table (SQL_DATA)
    int64_t rows;   // SQL_DATA: how many
};

// 0, or -1 with e: the reading stops.
typedef int sql_each(void *arg, const struct sql_statement *s, struct err *e);

struct sql;

// A statement longer than max_bytes is an error. NULL: out of memory.
struct sql *sql_new(size_t max_bytes, sql_each *each, void *arg);

// The next bytes of the dump.
int sql_feed(struct sql *s, const void *data, size_t len, struct err *e);

// The dump ended. EX_DATAERR: in the middle of a statement.
int sql_end(struct sql *s, struct err *e);

void sql_free(struct sql *s); // NULL is allowed

// --- the pieces of one statement ---

enum sql_token_kind {
    SQL_WORD,    // letters, digits, _ $ and everything beyond ASCII
    SQL_NAME,    // `…`
    SQL_STRING,  // '…' or "…"
    SQL_COMMENT, // plain comment
    SQL_OPEN,    // "/*!50003" or "/*M!100000"
    SQL_CLOSE,   // "*/" of such a one
    SQL_SIGN,    // any other character but blanks
};

struct sql_token {
    enum sql_token_kind kind;
    size_t start, len;
};

// The next token from *at on; *at moves behind it. false: the text is over.
bool sql_token(const char *text, size_t len, size_t *at, struct sql_token *ret);

// Whether the token is this word (any case).
bool sql_is(const char *text, const struct sql_token *t, const char *word);

// A token's name without its backticks into buf; false: it is none, or too long.
bool sql_name(const char *text, const struct sql_token *t, char *buf, size_t size);

// Sets kind and name from the text.
void sql_classify(struct sql_statement *s);

#endif
