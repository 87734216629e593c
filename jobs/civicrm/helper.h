// What the commands of civinit-jobs-helper share: the configuration and the connection to the
// CiviCRM database.
#ifndef CIVICRM_HELPER_H
#define CIVICRM_HELPER_H

#include "base/err.h"
#include "base/text.h"
#include "common/db.h"
#include "conf/conf.h"

#include <stdint.h>

struct helper {
    struct conf conf;
    const char *config;    // path of the configuration, absolute or as given
    const char *database;  // CiviCRM's; NULL: none is configured
    const char *state_dir; // of [jobs]
    struct db *db;         // NULL before helper_connect
};

// Reads the configuration at path.
int helper_load(struct helper *h, const char *path, struct err *e);

// Connects to the CiviCRM database, the session's time zone set to UTC. read_ms: see db_options.
int helper_connect(struct helper *h, int64_t read_ms, struct err *e);

// helper_connect, again and again for wait_ms while the server is away: databases restart.
int helper_connect_wait(struct helper *h, int64_t read_ms, int64_t wait_ms, struct err *e);

// As helper_connect, but without selecting a database: it need not exist yet.
int helper_connect_server(struct helper *h, int64_t read_ms, struct err *e);

void helper_free(struct helper *h);

// The path of another of civinit's programs: beside this one, or its bare name for PATH. The
// caller's to free.
char *helper_program(const char *name);

// Runs argv with stdin from /dev/null, killed with its process group after timeout_ms. What it
// writes to stderr is added to errors. Its exit code, 128 + N when a signal ended it, -1 with e
// (EX_UNAVAILABLE: too late).
int helper_run(char *const *argv, int64_t timeout_ms, struct buf *errors, struct err *e);

// The cells of one row.
char **helper_row(const struct db_rows *rows, size_t row);
// A cell as a number; 0 for NULL.
int64_t helper_number(const struct db_rows *rows, size_t row, size_t column);

// Server error numbers that mean "not there": no such table, column or database.
int helper_missing(struct db *db);
// … and "not allowed".
int helper_denied(struct db *db);

#endif
