#include "lock.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

enum {
    READ_MS = 20000,  // a server that is silent for so long is lost
    CHECK_MS = 10000, // how often the lock is asked about while nothing happens
    STEP_S = 1,       // of waiting for the lock: stdin may be closed meanwhile
};

const char *lock_name(const char *database, const char *name, char *buf) {
    int n = snprintf(buf, LOCK_NAME_MAX + 1, "civinit:%s:%s", database, name);
    if (n > LOCK_NAME_MAX) {
        uint64_t hash = 14695981039346656037u; // FNV-1a
        for (const char *p = database; *p; p++)
            hash = (hash ^ (unsigned char)*p) * 1099511628211u;
        hash = (hash ^ ':') * 1099511628211u;
        for (const char *p = name; *p; p++)
            hash = (hash ^ (unsigned char)*p) * 1099511628211u;
        snprintf(buf + LOCK_NAME_MAX - 17, 18, "~%016llx", (unsigned long long)hash);
    }
    return buf;
}

static void say(const char *text) {
    fputs(text, stdout);
    fputc('\n', stdout);
    fflush(stdout);
}

// Who we are, for others to read: a table, if the account may have one. Best effort.
static void sign(struct helper *h, const char *quoted) {
    char host[256] = "";
    if (!h->database || gethostname(host, sizeof host - 1) < 0)
        return;
    autofree char *holder = db_quote(h->db, host);
    if (holder &&
        db_queryf(h->db, NULL, NULL,
                  "CREATE TABLE IF NOT EXISTS `%s`.civinit_lock (name VARCHAR(64) NOT NULL PRIMARY "
                  "KEY, connection BIGINT UNSIGNED NOT NULL, holder VARCHAR(255) NOT NULL, since "
                  "DATETIME NOT NULL) COMMENT='civinit: who holds or held a lock'",
                  h->database) == 0)
        db_queryf(h->db, NULL, NULL,
                  "REPLACE INTO `%s`.civinit_lock VALUES (%s, CONNECTION_ID(), %s, NOW())",
                  h->database, quoted, holder);
}

// "POD since TIME", or what the server knows of the connection that holds the lock.
static char *holder_of(struct helper *h, const char *quoted) {
    autofree char *id = NULL, *sql = NULL;
    char *who = NULL;
    if (h->database &&
        asprintf(&sql,
                 "SELECT CONCAT(holder, ' since ', DATE_FORMAT(since, '%%Y-%%m-%%dT%%TZ')) FROM "
                 "`%s`.civinit_lock WHERE name = %s AND connection = IS_USED_LOCK(%s)",
                 h->database, quoted, quoted) < 0)
        sql = NULL;
    if (sql && db_value(h->db, sql, &who, NULL) == 0 && who)
        return who;
    free(sql);
    if (asprintf(&sql,
                 "SELECT CONCAT('connection ', ID, ' of ', USER, '@', HOST) FROM "
                 "information_schema.PROCESSLIST WHERE ID = IS_USED_LOCK(%s)",
                 quoted) < 0)
        sql = NULL;
    if (sql && db_value(h->db, sql, &who, NULL) == 0 && who)
        return who;
    return strdup("another connection");
}

// Whether stdin was closed; whatever it says is read and dropped.
static bool stdin_closed(int revents) {
    char drop[256];
    ssize_t n;
    if (!revents)
        return false;
    n = read(0, drop, sizeof drop);
    return n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN);
}

// 1: taken, 0: busy until the end, 2: stdin was closed first.
static int take(struct helper *h, const char *quoted, int64_t wait_ms, struct err *e) {
    int64_t end = clock_mono_ms() + wait_ms;
    for (;;) {
        autorows struct db_rows rows = {0};
        struct pollfd in = {.fd = 0, .events = POLLIN};
        int64_t left = end - clock_mono_ms();
        if (db_queryf(h->db, &rows, e, "SELECT GET_LOCK(%s, %d)", quoted, left > 0 ? STEP_S : 0) <
            0)
            return -1;
        if (!rows.n || !rows.cells[0])
            return err_set(e, EX_UNAVAILABLE, "GET_LOCK failed");
        if (*rows.cells[0] == '1')
            return 1;
        if (clock_mono_ms() >= end)
            return 0;
        if (poll(&in, 1, 0) > 0 && stdin_closed(in.revents))
            return 2;
    }
}

// 0 when stdin was closed; -1: the lock is gone.
static int keep(struct helper *h, const char *quoted, struct err *e) {
    struct pollfd p[2] = {{.fd = 0, .events = POLLIN}, {.fd = db_fd(h->db), .events = POLLIN}};
    for (;;) {
        int n = poll(p, 2, CHECK_MS);
        if (n < 0 && errno != EINTR)
            return err_errno(e, EX_OSERR, "poll");
        if (n > 0 && stdin_closed(p[0].revents))
            return 0;
        if (n > 0 && !p[1].revents)
            continue;
        autorows struct db_rows rows = {0};
        if (db_queryf(h->db, &rows, e, "SELECT IS_USED_LOCK(%s) = CONNECTION_ID()", quoted) < 0)
            return -1;
        if (!rows.n || !rows.cells[0] || *rows.cells[0] != '1')
            return err_set(e, EX_UNAVAILABLE, "the server has given it up");
    }
}

static int busy(struct helper *h, const char *quoted) {
    autofree char *who = holder_of(h, quoted), *line = NULL;
    if (asprintf(&line, "busy %s", who ? who : "somebody") < 0)
        line = NULL;
    say(line ? line : "busy");
    return EX_TEMPFAIL;
}

int lock_run(struct helper *h, const char *name, int64_t wait_ms, struct err *e) {
    char full[LOCK_NAME_MAX + 1];
    if (helper_connect_server(h, READ_MS, e) < 0)
        return e->code;
    const char *instance = conf_text(&h->conf, "container", "", "instance", "");
    autofree char *quoted =
        db_quote(h->db, lock_name(h->database ? h->database : instance, name, full));
    if (!quoted)
        return err_set(e, EX_OSERR, "out of memory"), EX_OSERR;
    // A server may end connections that are silent for long.
    db_query(h->db, "SET SESSION wait_timeout = 86400", NULL, NULL);
    int got = take(h, quoted, wait_ms, e);
    if (got < 0)
        return e->code;
    if (got != 1)
        return got == 2 ? 0 : busy(h, quoted);
    sign(h, quoted);
    say("held");
    if (keep(h, quoted, e) == 0)
        return 0;
    autofree char *line = NULL;
    if (asprintf(&line, "lost %s", e->text) < 0)
        line = NULL;
    say(line ? line : "lost");
    e->code = EX_UNAVAILABLE;
    err_wrap(e, "the lock \"%s\" is lost", name);
    return EX_UNAVAILABLE;
}
