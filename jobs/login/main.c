// civinit-probe-login: the kinds of civinit-probe that need libmysqlclient and libcurl.
#include "base/statusfile.h"
#include "base/text.h"
#include "common/db.h"
#include "common/http.h"
#include "common/mail.h"
#include "conf/conf.h"
#include "probe/probe.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

static int try_mysql(const struct probe *p, enum obstacle *ret_why, struct err *e) {
    autodb struct db *db = NULL;
    autorows struct db_rows rows = {0};
    if (db_open(&p->db, &db, ret_why, e) < 0)
        return -1;
    *ret_why = OBSTACLE_NOT_READY;
    if (db_query(db, p->query, &rows, e) < 0)
        return err_wrap(e, "%s: query", obstacle_word(*ret_why));
    if (rows.n == 0)
        return err_set(e, EX_UNAVAILABLE, "%s: the query gave no row", obstacle_word(*ret_why));
    return 0;
}

static int try_mail(const struct probe *p, enum obstacle *ret_why, struct err *e) {
    return mail_login(&p->mail, ret_why, e);
}

static int try_https(const struct probe *p, enum obstacle *ret_why, struct err *e) {
    struct http_request q = {
        .url = p->target, .ca = p->ca, .timeout_ms = p->timeout_ms, .max_bytes = 1};
    autoanswer struct http_answer a = {0};
    if (http_do(&q, &a, ret_why, e) < 0)
        return -1;
    return web_verdict(p, (int)a.status, ret_why, e);
}

// Where the server is, from TARGET: "PATH", "unix:PATH", "HOST" or "HOST:PORT".
static int set_db_target(struct probe *p, char *target, struct err *e) {
    char *host, *port;
    int64_t number = 0;
    p->db.host = p->db.socket = NULL;
    p->db.port = 0;
    if (*target == '/' || strncmp(target, "unix:", 5) == 0) {
        p->db.socket = *target == '/' ? target : target + 5;
        return 0;
    }
    p->db.host = target;
    if (net_split(target, &host, &port) == 0) {
        if (text_int(port, 1, 65535, &number, e) < 0)
            return err_wrap(e, "the port");
        p->db.host = host;
        p->db.port = (int)number;
    }
    return 0;
}

static int set_db_tls(struct probe *p, const char *word, struct err *e) {
    static const char *const words[] = {"off", "required", "verify-ca", "verify-identity"};
    for (int i = 0; i < 4; i++)
        if (strcmp(word, words[i]) == 0) {
            p->db.tls = (enum db_tls)i;
            return 0;
        }
    return err_set(e, EX_USAGE,
                   "--tls: \"%s\" is none of off, required, verify-ca, verify-identity", word);
}

static int set_mysql(struct probe *p, const struct line *l, struct conf *c, struct err *e) {
    p->try = try_mysql;
    if (l->config) {
        char **names = conf_list(c, "database", "", "names");
        if (db_options_from_conf(c, &p->db, e) < 0)
            return -1;
        p->db.database = names ? names[0] : NULL;
    }
    if (l->target && set_db_target(p, l->target, e) < 0)
        return -1;
    if (!p->db.host && !p->db.socket)
        return err_set(e, EX_USAGE, "mysql needs a target or --config (no civinit runs here)");
    if (l->user)
        p->db.user = l->user;
    if (l->password_file)
        p->db.password_file = l->password_file;
    if (l->ca)
        p->db.ca = l->ca;
    if (l->database)
        p->db.database = l->database;
    p->query = l->query ? l->query : "SELECT 1";
    db_where(&p->db, p->where, sizeof p->where);
    return l->tls ? set_db_tls(p, l->tls, e) : 0;
}

static int set_mail(struct probe *p, const struct line *l, struct conf *c, struct err *e) {
    if (l->config && mail_account_from_conf(c, l->kind, &p->mail, e) < 0)
        return -1;
    if (l->target)
        p->mail.url = l->target;
    if (!p->mail.url)
        return err_set(e, EX_USAGE, "%s needs a URL or --config (no civinit runs here)", l->kind);
    if (l->user)
        p->mail.user = l->user;
    if (l->password_file)
        p->mail.password_file = l->password_file;
    if (l->ca)
        p->mail.ca = l->ca;
    p->try = try_mail;
    http_origin(p->mail.url, p->where, sizeof p->where);
    if (p->mail.timeout_ms && !l->timeout_ms)
        p->timeout_ms = p->mail.timeout_ms;
    return 0;
}

// Who is asked for without a word is who the container is about: CIVINIT_CONFIG, else the
// configuration of the civinit that runs here. NULL: there is none.
static const char *own_config(struct conf *c) {
    struct statusfile f;
    const char *path = getenv("CIVINIT_CONFIG");
    if (path && *path)
        return path;
    if (statusfile_read(statusfile_run_dir(), &f, NULL) < 0)
        return NULL;
    path = *f.config && access(f.config, R_OK) == 0 ? arena_text(&c->arena, f.config) : NULL;
    statusfile_free(&f);
    return path;
}

static int load(struct conf *c, struct line *l, struct err *e) {
    static const char *const database[] = {"database", NULL}, *const mail[] = {"mail", NULL};
    if (!l->config && !l->target)
        l->config = own_config(c);
    if (!l->config)
        return 0;
    const char *path = conf_path(c, l->config);
    return path ? conf_load_strict(c, path, strcmp(l->kind, "mysql") == 0 ? database : mail, e)
                : err_set(e, EX_OSERR, "out of memory");
}

static int prepare(struct probe *p, struct line *l, struct err *e) {
    static struct conf c; // the probe points into it until the program ends
    if (p->kind == PROBE_HTTP) {
        p->try = try_https;
        return 0;
    }
    if (load(&c, l, e) < 0)
        return -1;
    return p->kind == PROBE_MYSQL ? set_mysql(p, l, &c, e) : set_mail(p, l, &c, e);
}

int main(int argc, char **argv) {
    static const struct probe_libraries libraries = {prepare};
    return probe_main(argc, argv, &libraries);
}
