// One connection to a MySQL or MariaDB server: the only include of <mysql.h>. Compiles with
// MySQL's libmysqlclient and with MariaDB's libmariadb.
//
// The libraries write to sockets without MSG_NOSIGNAL: a program that uses them ignores SIGPIPE.
#ifndef COMMON_DB_H
#define COMMON_DB_H

#include "base/err.h"
#include "common/obstacle.h"
#include "conf/conf.h"

#include <stddef.h>
#include <stdint.h>

enum db_tls {
    DB_TLS_OFF,
    DB_TLS_REQUIRED,        // encrypted, whoever answers
    DB_TLS_VERIFY_CA,       // and its certificate is signed by `ca`
    DB_TLS_VERIFY_IDENTITY, // and it carries the host's name
};

struct db_options {
    const char *host;          // TCP, also for "localhost"; unused when socket is set
    const char *socket;        // unix socket; never encrypted, whatever `tls` says
    int port;                  // 0: 3306
    const char *user;          // NULL: the name of the process's user
    const char *password_file; // read at each db_open, so that a rotated secret works; may be NULL
    const char *database;      // NULL: none selected
    enum db_tls tls;
    const char *ca;     // PEM file; NULL: the system's bundle for the two verifying modes
    int64_t connect_ms; // connecting and handshake; 0: 10 s. The libraries count whole seconds
    int64_t read_ms;    // for each answer; 0: without limit. Rounded up to whole seconds
};

// Fills o from [database] of c; its texts live as long as c. Without `tls` in the file: off for a
// socket and for loopback, required for other hosts, verify-identity for other hosts when `ca` is
// given. -1 when neither host nor socket is there, or `tls` verifies nothing (a socket).
int db_options_from_conf(const struct conf *c, struct db_options *o, struct err *e);

// "unix:PATH" or "HOST:PORT", for messages, into buf; returns buf.
const char *db_where(const struct db_options *o, char *buf, size_t size);

struct db;

// Connects and logs in. The connection uses utf8mb4, never reads local files for the server and
// never reconnects by itself. -1: e (EX_NOPERM when access is denied, EX_CONFIG when the password
// file cannot be read, else EX_UNAVAILABLE) begins with the obstacle in words; *ret_why (unless
// NULL) is its kind.
int db_open(const struct db_options *o, struct db **ret, enum obstacle *ret_why, struct err *e);

// The rows of one statement, all in memory.
struct db_rows {
    size_t n, columns;
    char **cells;    // cells[row * columns + column]; NULL: SQL's NULL; NUL-terminated; not to be
                     // freed one by one
    size_t *lengths; // of each cell, in bytes
};

// Runs one statement. rows may be NULL (a result is dropped); for statements without a result it
// is empty. -1: e is set, rows untouched, db_errno tells the number.
int db_query(struct db *db, const char *sql, struct db_rows *rows, struct err *e);
// Runs one statement of len bytes (which may hold NULs, and needs none at its end); a result is
// dropped.
int db_execute(struct db *db, const char *sql, size_t len, struct err *e);
// As db_query, formatted. Texts must have gone through db_quote.
__attribute__((format(printf, 4, 5))) int db_queryf(struct db *db, struct db_rows *rows,
                                                    struct err *e, const char *fmt, ...);
void db_rows_free(struct db_rows *rows);
#define autorows __attribute__((cleanup(db_rows_free)))

// One value: the first cell of the first row, the caller's to free; NULL in *ret for no row or
// NULL.
int db_value(struct db *db, const char *sql, char **ret, struct err *e);

// text as an SQL literal with its quotes, the caller's to free; NULL: out of memory.
char *db_quote(struct db *db, const char *text);

// How many rows the last statement changed.
uint64_t db_changed(struct db *db);

// The number of the last error (ER_… of the server, CR_… of the library), 0 for none.
unsigned db_errno(struct db *db);

// The last error was the loss of the connection.
int db_lost(struct db *db);

// The server's version ("9.7.0", "10.11.6-MariaDB-…") and whether it is MariaDB.
const char *db_version(struct db *db);
int db_is_mariadb(struct db *db);

// The socket, for poll: readable while no statement runs means that the connection ended. -1:
// unknown.
int db_fd(struct db *db);

void db_close(struct db *db); // NULL is allowed
static inline void db_closep(struct db **db) {
    db_close(*db);
}
#define autodb __attribute__((cleanup(db_closep)))

#endif
