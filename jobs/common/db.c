#include "common/db.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"

#include <ctype.h>
#include <errmsg.h>
#include <errno.h>
#include <mysql.h>
#include <mysqld_error.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

// Numbers that one of the two header sets lacks.
enum {
    NO_SECURE_TRANSPORT = 3159,
    OFFLINE_MODE = 3032,
    ACCOUNT_LOCKED = 3118,
    MARIA_ACCOUNT_LOCKED = 4151,
    DENIED_NO_PASSWORD = 1698,
    PASSWORD_EXPIRED = 1862,
};

enum {
    DEFAULT_CONNECT_MS = 10000,
};

struct db {
    MYSQL *my;
    uint64_t changed; // rows, by the last statement
    char where[160];
};

static bool is_loopback(const char *host) {
    return strcmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0 ||
           strcmp(host, "::1") == 0;
}

static enum db_tls tls_of(const char *word) {
    static const char *const words[] = {"off", "required", "verify-ca", "verify-identity"};
    for (int i = 0; i < 4; i++)
        if (strcmp(word, words[i]) == 0)
            return (enum db_tls)i;
    return DB_TLS_VERIFY_IDENTITY;
}

int db_options_from_conf(const struct conf *c, struct db_options *o, struct err *e) {
    struct db_options new = {
        .host = conf_text(c, "database", "", "host", NULL),
        .socket = conf_text(c, "database", "", "socket", NULL),
        .port = (int)conf_int(c, "database", "", "port", 0),
        .user = conf_text(c, "database", "", "user", NULL),
        .password_file = conf_text(c, "database", "", "password_file", NULL),
        .ca = conf_text(c, "database", "", "ca", NULL),
    };
    const char *tls = conf_text(c, "database", "", "tls", NULL);
    if (!new.host && !new.socket)
        return err_set(e, EX_CONFIG, "[database] has neither host nor socket");
    if (new.socket && tls &&tls_of(tls) >= DB_TLS_VERIFY_CA)
        return err_set(e, EX_CONFIG,
                       "[database] tls = %s verifies nothing over a unix socket; remove socket or "
                       "tls",
                       tls);
    if (tls)
        new.tls = tls_of(tls);
    else if (new.socket || is_loopback(new.host))
        new.tls = DB_TLS_OFF;
    else
        new.tls = new.ca ? DB_TLS_VERIFY_IDENTITY : DB_TLS_REQUIRED;
    *o = new;
    return 0;
}

const char *db_where(const struct db_options *o, char *buf, size_t size) {
    if (o->socket)
        snprintf(buf, size, "unix:%s", o->socket);
    else
        snprintf(buf, size, strchr(o->host, ':') ? "[%s]:%d" : "%s:%d", o->host,
                 o->port ? o->port : 3306);
    return buf;
}

// The library's texts end in "(ERRNO)" or "system error: ERRNO"; 0: they do not.
static int errno_in(const char *text) {
    size_t n = strlen(text);
    while (n && (text[n - 1] == ')' || text[n - 1] == ' ' || text[n - 1] == '"'))
        n--;
    size_t end = n;
    while (n && isdigit((unsigned char)text[n - 1]))
        n--;
    if (n == end || n == 0 || (text[n - 1] != '(' && text[n - 1] != ' '))
        return 0;
    return (int)strtol(text + n, NULL, 10);
}

static enum obstacle why_of(unsigned number, const char *text, bool late) {
    int sys = errno_in(text);
    if (sys == EINPROGRESS) // libmariadb says so for refused connections and for late ones
        sys = late ? ETIMEDOUT : ECONNREFUSED;
    switch (number) {
    case CR_UNKNOWN_HOST:
        return OBSTACLE_NAME;
    case CR_CONNECTION_ERROR:
    case CR_CONN_HOST_ERROR:
        // Without a system error it was sent by mysqlrouter: its own server is away.
        return sys ? obstacle_of_errno(sys) : OBSTACLE_NOT_READY;
    case CR_SERVER_LOST:
        return late ? OBSTACLE_TIMEOUT : OBSTACLE_NOT_READY; // its errno may be an old one
    case CR_SERVER_GONE_ERROR:
    case CR_SERVER_HANDSHAKE_ERR:
    case CR_MALFORMED_PACKET: // what libmariadb makes of the router's 2003
    case ER_CON_COUNT_ERROR:
    case ER_TOO_MANY_USER_CONNECTIONS:
    case ER_SERVER_SHUTDOWN:
    case OFFLINE_MODE:
        return OBSTACLE_NOT_READY;
    case CR_SSL_CONNECTION_ERROR:
    case NO_SECURE_TRANSPORT:
        return OBSTACLE_TLS;
    case ER_ACCESS_DENIED_ERROR:
    case ER_DBACCESS_DENIED_ERROR:
    case ER_HOST_NOT_PRIVILEGED:
    case ER_HOST_IS_BLOCKED:
    case ER_NOT_SUPPORTED_AUTH_MODE:
    case ER_MUST_CHANGE_PASSWORD_LOGIN:
    case DENIED_NO_PASSWORD:
    case ACCOUNT_LOCKED:
    case MARIA_ACCOUNT_LOCKED:
    case CR_AUTH_PLUGIN_CANNOT_LOAD:
    case CR_AUTH_PLUGIN_ERR:
        return OBSTACLE_DENIED;
    default:
        return OBSTACLE_OTHER;
    }
}

static unsigned whole_seconds(int64_t ms) {
    return ms <= 0 ? 0 : (unsigned)((ms + 999) / 1000);
}

static void set_tls(MYSQL *my, const struct db_options *o) {
    bool verify = !o->socket && o->tls >= DB_TLS_VERIFY_CA;
    const char *ca = o->ca ? o->ca : verify ? "/etc/ssl/certs/ca-certificates.crt" : NULL;
#ifdef MARIADB_PACKAGE_VERSION
    // With a CA this library checks the chain, with VERIFY_SERVER_CERT also the name.
    char on = 1, identity = o->tls == DB_TLS_VERIFY_IDENTITY;
    if (o->socket || o->tls == DB_TLS_OFF)
        return;
    mysql_optionsv(my, MYSQL_OPT_SSL_ENFORCE, (void *)&on);
    mysql_optionsv(my, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, (void *)&identity);
    if (verify)
        mysql_optionsv(my, MYSQL_OPT_SSL_CA, (void *)ca);
#else
    static const unsigned modes[] = {SSL_MODE_DISABLED, SSL_MODE_REQUIRED, SSL_MODE_VERIFY_CA,
                                     SSL_MODE_VERIFY_IDENTITY};
    unsigned mode = o->socket ? SSL_MODE_DISABLED : modes[o->tls];
    mysql_options(my, MYSQL_OPT_SSL_MODE, &mode);
    if (verify)
        mysql_options(my, MYSQL_OPT_SSL_CA, ca);
    // caching_sha2_password without TLS needs the server's key; asked for only when TLS was
    // declined.
    bool key = !o->socket && o->tls == DB_TLS_OFF;
    mysql_options(my, MYSQL_OPT_GET_SERVER_PUBLIC_KEY, &key);
#endif
}

static void set_options(MYSQL *my, const struct db_options *o) {
    unsigned protocol = o->socket ? MYSQL_PROTOCOL_SOCKET : MYSQL_PROTOCOL_TCP;
    unsigned connect_s = whole_seconds(o->connect_ms ? o->connect_ms : DEFAULT_CONNECT_MS);
    unsigned read_s = whole_seconds(o->read_ms), no = 0;
    mysql_options(my, MYSQL_OPT_PROTOCOL, (void *)&protocol);
    mysql_options(my, MYSQL_OPT_CONNECT_TIMEOUT, (void *)&connect_s);
    if (read_s) {
        mysql_options(my, MYSQL_OPT_READ_TIMEOUT, (void *)&read_s);
        mysql_options(my, MYSQL_OPT_WRITE_TIMEOUT, (void *)&read_s);
    }
    mysql_options(my, MYSQL_OPT_LOCAL_INFILE, (void *)&no);
    mysql_options(my, MYSQL_SET_CHARSET_NAME, "utf8mb4");
    set_tls(my, o);
}

static int open_failed(MYSQL *my, const char *where, bool late, enum obstacle *ret_why,
                       struct err *e) {
    enum obstacle why = why_of(mysql_errno(my), mysql_error(my), late);
    err_set(e, why == OBSTACLE_DENIED ? EX_NOPERM : EX_UNAVAILABLE, "%s: %s (%u) at %s",
            obstacle_word(why), mysql_error(my), mysql_errno(my), where);
    mysql_close(my);
    if (ret_why)
        *ret_why = why;
    return -1;
}

int db_open(const struct db_options *o, struct db **ret, enum obstacle *ret_why, struct err *e) {
    autofree char *password = NULL;
    if (ret_why)
        *ret_why = OBSTACLE_OTHER;
    if (o->password_file && file_secret(o->password_file, &password, e) < 0) {
        if (e)
            e->code = EX_CONFIG;
        return err_wrap(e, "the database's password");
    }
    struct db *db = calloc(1, sizeof *db);
    MYSQL *my = db ? mysql_init(NULL) : NULL;
    if (!my) {
        free(db);
        return err_set(e, EX_OSERR, "out of memory");
    }
    db_where(o, db->where, sizeof db->where);
    set_options(my, o);
    int64_t begin = clock_mono_ms();
    MYSQL *ok =
        mysql_real_connect(my, o->socket ? "localhost" : o->host, o->user, password ? password : "",
                           o->database, (unsigned)o->port, o->socket, CLIENT_MULTI_RESULTS);
    if (password)
        explicit_bzero(password, strlen(password));
    if (!ok) {
        int64_t limit = o->connect_ms ? o->connect_ms : DEFAULT_CONNECT_MS;
        int rc = open_failed(my, db->where, clock_mono_ms() - begin >= limit, ret_why, e);
        free(db);
        return rc;
    }
    db->my = my;
    if (!o->socket && o->tls != DB_TLS_OFF && !mysql_get_ssl_cipher(my)) {
        if (ret_why)
            *ret_why = OBSTACLE_TLS;
        err_set(e, EX_UNAVAILABLE, "TLS: the connection to %s is not encrypted", db->where);
        db_close(db);
        return -1;
    }
    if (ret_why)
        *ret_why = OBSTACLE_NONE;
    *ret = db;
    return 0;
}

static int query_failed(struct db *db, struct err *e) {
    enum obstacle why = why_of(mysql_errno(db->my), mysql_error(db->my), false);
    return err_set(e, why == OBSTACLE_DENIED ? EX_NOPERM : EX_UNAVAILABLE, "%s (%u)",
                   mysql_error(db->my), mysql_errno(db->my));
}

// The size of all texts of a stored result, with their NULs.
static size_t texts_size(MYSQL_RES *res, size_t columns) {
    size_t sum = 0;
    while (mysql_fetch_row(res)) {
        const unsigned long *sizes = mysql_fetch_lengths(res);
        for (size_t i = 0; i < columns; i++)
            sum += sizes[i] + 1;
    }
    mysql_data_seek(res, 0);
    return sum;
}

// All in one block: the pointers, the lengths, the texts.
static int take_rows(MYSQL_RES *res, struct db_rows *rows) {
    size_t columns = mysql_num_fields(res), count = mysql_num_rows(res) * columns;
    void *block =
        calloc(1, count * (sizeof(char *) + sizeof(size_t)) + texts_size(res, columns) + 1);
    if (!block)
        return -1;
    struct db_rows got = {0, columns, block, (size_t *)((char **)block + count)};
    char *text = (char *)(got.lengths + count);
    MYSQL_ROW row;
    while ((row = mysql_fetch_row(res))) {
        const unsigned long *sizes = mysql_fetch_lengths(res);
        for (size_t i = 0; i < columns; i++) {
            size_t at = got.n * columns + i;
            if (!row[i])
                continue;
            got.cells[at] = memcpy(text, row[i], sizes[i]);
            got.lengths[at] = sizes[i];
            text += sizes[i] + 1;
        }
        got.n++;
    }
    *rows = got;
    return 0;
}

// Procedures send more results after the first one: all must be read.
static int drop_more(struct db *db, struct err *e) {
    int next;
    while ((next = mysql_next_result(db->my)) == 0) {
        MYSQL_RES *res = mysql_store_result(db->my);
        if (res)
            mysql_free_result(res);
    }
    return next > 0 ? query_failed(db, e) : 0;
}

static int query(struct db *db, const char *sql, size_t len, struct db_rows *rows, struct err *e) {
    struct db_rows got = {0};
    if (mysql_real_query(db->my, sql, len) != 0)
        return query_failed(db, e);
    MYSQL_RES *res = mysql_store_result(db->my);
    if (!res && mysql_errno(db->my))
        return query_failed(db, e);
    db->changed = mysql_affected_rows(db->my); // asking for more results resets it
    if (res && rows && take_rows(res, &got) < 0) {
        mysql_free_result(res);
        return err_set(e, EX_OSERR, "out of memory");
    }
    if (res)
        mysql_free_result(res);
    if (drop_more(db, e) < 0) {
        db_rows_free(&got);
        return -1;
    }
    if (rows)
        *rows = got;
    return 0;
}

int db_query(struct db *db, const char *sql, struct db_rows *rows, struct err *e) {
    return query(db, sql, strlen(sql), rows, e);
}

int db_execute(struct db *db, const char *sql, size_t len, struct err *e) {
    return query(db, sql, len, NULL, e);
}

int db_queryf(struct db *db, struct db_rows *rows, struct err *e, const char *fmt, ...) {
    autofree char *sql = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&sql, fmt, ap);
    va_end(ap);
    if (n < 0) {
        sql = NULL;
        return err_set(e, EX_OSERR, "out of memory");
    }
    return db_query(db, sql, rows, e);
}

void db_rows_free(struct db_rows *rows) {
    free(rows->cells);
    *rows = (struct db_rows){0};
}

int db_value(struct db *db, const char *sql, char **ret, struct err *e) {
    autorows struct db_rows rows = {0};
    if (db_query(db, sql, &rows, e) < 0)
        return -1;
    char *value = NULL;
    if (rows.n && rows.cells[0] && !(value = strdup(rows.cells[0])))
        return err_set(e, EX_OSERR, "out of memory");
    *ret = value;
    return 0;
}

char *db_quote(struct db *db, const char *text) {
    size_t n = strlen(text);
    char *quoted = malloc(2 * n + 3);
    if (!quoted)
        return NULL;
    quoted[0] = '\'';
    size_t len = mysql_real_escape_string(db->my, quoted + 1, text, n);
    quoted[len + 1] = '\'';
    quoted[len + 2] = 0;
    return quoted;
}

uint64_t db_changed(struct db *db) {
    return db->changed == (uint64_t)-1 ? 0 : db->changed;
}

unsigned db_errno(struct db *db) {
    return mysql_errno(db->my);
}

int db_lost(struct db *db) {
    unsigned n = mysql_errno(db->my);
    return n == CR_SERVER_GONE_ERROR || n == CR_SERVER_LOST || n == ER_SERVER_SHUTDOWN;
}

const char *db_version(struct db *db) {
    return mysql_get_server_info(db->my);
}

int db_is_mariadb(struct db *db) {
    return strstr(mysql_get_server_info(db->my), "MariaDB") != NULL;
}

int db_fd(struct db *db) {
#ifdef MARIADB_PACKAGE_VERSION
    return (int)mysql_get_socket(db->my);
#else
    return (int)db->my->net.fd;
#endif
}

void db_close(struct db *db) {
    if (!db)
        return;
    mysql_close(db->my);
    free(db);
}
