// civinit-probe: one readiness question, asked once or until the answer is yes.
#include "base/cleanup.h"
#include "base/log.h"
#include "base/text.h"
#include "conf/conf.h"
#include "probe/probe.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

static const char usage_text[] =
    "usage: civinit-probe [options] KIND [TARGET]\n"
    "\n"
    "  mysql [HOST[:PORT]|PATH]     log in to MySQL or MariaDB and run a query\n"
    "  http URL                     an HTTP status from 200 to 399\n"
    "  tcp HOST:PORT                somebody listens there\n"
    "  unix PATH                    somebody listens at the socket\n"
    "  smtp|imap [URL]              log in to a mail server\n"
    "  dns NAME[/TYPE][@SERVER]     the name has an address (or a record of that type)\n"
    "  exec -- COMMAND…             the command ends with 0\n"
    "\n"
    "  --wait DURATION              try until it is so, at most this long (else: once)\n"
    "  --timeout DURATION           for one try (5s)\n"
    "  --config ROLE|FILE           mysql: [database], smtp and imap: [mail]\n"
    "  --user NAME  --password-file FILE  --ca FILE\n"
    "  --tls off|required|verify-ca|verify-identity  --database NAME  --query SQL    mysql\n"
    "  --status MIN[-MAX]           http\n"
    "  --verbose                    say so on success, too\n"
    "  --help  --version\n"
    "\n"
    "Exit code: 0 yes, 69 no, 77 no because access is denied, 64 usage, 78 configuration.\n";

enum {
    OPT_WAIT = 1000,
    OPT_TIMEOUT,
    OPT_CONFIG,
    OPT_USER,
    OPT_PASSWORD,
    OPT_CA,
    OPT_TLS,
    OPT_DATABASE,
    OPT_QUERY,
    OPT_STATUS,
};

static const struct option options[] = {
    {"wait", required_argument, NULL, OPT_WAIT},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"config", required_argument, NULL, OPT_CONFIG},
    {"user", required_argument, NULL, OPT_USER},
    {"password-file", required_argument, NULL, OPT_PASSWORD},
    {"ca", required_argument, NULL, OPT_CA},
    {"tls", required_argument, NULL, OPT_TLS},
    {"database", required_argument, NULL, OPT_DATABASE},
    {"query", required_argument, NULL, OPT_QUERY},
    {"status", required_argument, NULL, OPT_STATUS},
    {"verbose", no_argument, NULL, 'v'},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {NULL, 0, NULL, 0},
};

// The command line, before the configuration.
struct line {
    int64_t wait_ms, timeout_ms;
    const char *config, *user, *password_file, *ca, *tls, *database, *query, *status;
    bool verbose, help, version;
    const char *kind, *target;
    char **rest; // the words after KIND
};

static int duration(const char *name, const char *value, int64_t *ret, struct err *e) {
    if (text_duration(value, ret, e) == 0)
        return 0;
    err_wrap(e, "--%s", name);
    if (e)
        e->code = EX_USAGE;
    return -1;
}

static int read_option(int c, const char *value, struct line *l, struct err *e) {
    switch (c) {
    case OPT_WAIT:
        return duration("wait", value, &l->wait_ms, e);
    case OPT_TIMEOUT:
        return duration("timeout", value, &l->timeout_ms, e);
    case OPT_CONFIG:
        l->config = value;
        return 0;
    case OPT_USER:
        l->user = value;
        return 0;
    case OPT_PASSWORD:
        l->password_file = value;
        return 0;
    case OPT_CA:
        l->ca = value;
        return 0;
    case OPT_TLS:
        l->tls = value;
        return 0;
    case OPT_DATABASE:
        l->database = value;
        return 0;
    case OPT_QUERY:
        l->query = value;
        return 0;
    case OPT_STATUS:
        l->status = value;
        return 0;
    case 'v':
        l->verbose = true;
        return 0;
    case 'h':
        l->help = true;
        return 0;
    case 'V':
        l->version = true;
        return 0;
    default:
        return err_set(e, EX_USAGE, "unknown or incomplete option; see civinit-probe --help");
    }
}

// Options may stand before and after KIND; for exec those after the command are the command's.
static int read_line(int argc, char **argv, struct line *l, struct err *e) {
    int c;
    opterr = 0;
    while ((c = getopt_long(argc, argv, "+vhV", options, NULL)) != -1)
        if (read_option(c, optarg, l, e) < 0)
            return -1;
    if (l->help || l->version || optind == argc)
        return 0;
    // "tcp:127.0.0.1:80" and "http://…" are "tcp 127.0.0.1:80" and "http http://…".
    l->kind = argv[optind];
    bool one_word = probe_kind_of(l->kind) < 0 && strchr(l->kind, ':');
    int first = one_word ? optind : optind + 1;
    const char *order = strcmp(l->kind, "exec") == 0 ? "+vhV" : "vhV";
    argv += first - 1; // getopt skips a program's name
    argc -= first - 1;
    optind = 0; // start again, with another order
    while ((c = getopt_long(argc, argv, order, options, NULL)) != -1)
        if (read_option(c, optarg, l, e) < 0)
            return -1;
    l->rest = argv + optind;
    l->target = l->rest[0];
    if (l->target && l->rest[1] && strcmp(l->kind, "exec") != 0)
        return err_set(e, EX_USAGE, "one target too many: %s", l->rest[1]);
    return 0;
}

// Splits the word of a check ("unix:/run/x") into kind and target, in place.
static void split_check(struct line *l, char *word) {
    if (strncmp(word, "https://", 8) == 0 || strncmp(word, "http://", 7) == 0) {
        l->kind = "http";
        l->target = word;
        return;
    }
    size_t n = strcspn(word, ":");
    l->kind = word;
    l->target = word + n + 1; // read_line saw the colon
    word[n] = 0;
}

// "tcp tcp:HOST:PORT" is meant as "tcp HOST:PORT".
static const char *without_prefix(const char *target, const char *kind) {
    size_t n = strlen(kind);
    return strncmp(target, kind, n) == 0 && target[n] == ':' && strncmp(target + n, "://", 3) != 0
               ? target + n + 1
               : target;
}

static int set_status(struct probe *p, const char *text, struct err *e) {
    int min = 0, max = 0, used = 0;
    int n = sscanf(text, "%d-%d%n", &min, &max, &used);
    if (n == 1) {
        max = min;
        sscanf(text, "%d%n", &min, &used);
    }
    if (n < 1 || text[used] || min < 100 || max > 599 || min > max)
        return err_set(e, EX_USAGE, "--status: \"%s\" is not like 200 or 200-399", text);
    p->status_min = min;
    p->status_max = max;
    return 0;
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
    if (l->config) {
        char **names = conf_list(c, "database", "", "names");
        if (db_options_from_conf(c, &p->db, e) < 0)
            return -1;
        p->db.database = names ? names[0] : NULL;
    }
    if (l->target && set_db_target(p, (char *)l->target, e) < 0)
        return -1;
    if (!p->db.host && !p->db.socket)
        return err_set(e, EX_USAGE, "mysql needs a target or --config");
    if (l->user)
        p->db.user = l->user;
    if (l->password_file)
        p->db.password_file = l->password_file;
    if (l->ca)
        p->db.ca = l->ca;
    if (l->database)
        p->db.database = l->database;
    p->query = l->query ? l->query : "SELECT 1";
    return l->tls ? set_db_tls(p, l->tls, e) : 0;
}

static int set_mail(struct probe *p, const struct line *l, struct conf *c, struct err *e) {
    if (l->config && mail_account_from_conf(c, l->kind, &p->mail, e) < 0)
        return -1;
    if (l->target)
        p->mail.url = l->target;
    if (!p->mail.url)
        return err_set(e, EX_USAGE, "%s needs a URL or --config", l->kind);
    if (l->user)
        p->mail.user = l->user;
    if (l->password_file)
        p->mail.password_file = l->password_file;
    if (l->ca)
        p->mail.ca = l->ca;
    if (p->mail.timeout_ms && !l->timeout_ms)
        p->timeout_ms = p->mail.timeout_ms;
    return 0;
}

static int set_target(struct probe *p, const struct line *l, struct err *e) {
    if (!l->target || !*l->target)
        return err_set(e, EX_USAGE, "%s needs a target", l->kind);
    p->target = without_prefix(l->target, l->kind);
    p->ca = l->ca;
    p->status_min = 200;
    p->status_max = 399;
    if (p->kind == PROBE_HTTP && strncmp(p->target, "http://", 7) != 0 &&
        strncmp(p->target, "https://", 8) != 0)
        return err_set(e, EX_USAGE, "\"%s\" is no http:// or https:// URL", p->target);
    return l->status ? set_status(p, l->status, e) : 0;
}

static int load(struct conf *c, const struct line *l, struct err *e) {
    static const char *const database[] = {"database", NULL}, *const mail[] = {"mail", NULL};
    if (!l->config)
        return 0;
    const char *path = conf_path(c, l->config);
    return path ? conf_load_strict(c, path, strcmp(l->kind, "mysql") == 0 ? database : mail, e)
                : err_set(e, EX_OSERR, "out of memory");
}

static int prepare(struct probe *p, struct line *l, struct conf *c, struct err *e) {
    if (l->rest && l->target == l->kind)
        split_check(l, l->rest[0]);
    int kind = probe_kind_of(l->kind);
    if (kind < 0)
        return err_set(e, EX_USAGE,
                       "\"%s\" is none of mysql, http, tcp, unix, smtp, imap, dns, exec", l->kind);
    p->kind = (enum probe_kind)kind;
    p->timeout_ms = l->timeout_ms ? l->timeout_ms : 5000;
    if (load(c, l, e) < 0)
        return -1;
    switch (p->kind) {
    case PROBE_MYSQL:
        return set_mysql(p, l, c, e);
    case PROBE_SMTP:
    case PROBE_IMAP:
        return set_mail(p, l, c, e);
    case PROBE_EXEC:
        p->command = l->rest;
        return l->target ? 0 : err_set(e, EX_USAGE, "exec needs a command");
    default:
        return set_target(p, l, e);
    }
}

static int ask(const struct line *l, struct probe *p, struct err *e) {
    char where[256], took[32];
    int64_t ms;
    probe_where(p, where, sizeof where);
    if (probe_wait(p, l->wait_ms, &ms, e) < 0) {
        if (l->wait_ms && (e->code == EX_UNAVAILABLE || e->code == EX_NOPERM))
            err_wrap(e, "gave up after %s", text_ms(ms, took, sizeof took));
        return -1;
    }
    if (l->verbose)
        printf("%s %s: ready after %s\n", l->kind, where, text_ms(ms, took, sizeof took));
    return 0;
}

int main(int argc, char **argv) {
    struct line l = {0};
    struct probe p = {0};
    struct conf c = {0};
    struct err e = {0};
    log_init("civinit-probe");
    signal(SIGPIPE, SIG_IGN);
    int rc = read_line(argc, argv, &l, &e);
    if (rc == 0 && l.help) {
        fputs(usage_text, stdout);
        return 0;
    }
    if (rc == 0 && l.version) {
        puts("civinit-probe " CIVINIT_VERSION);
        return 0;
    }
    if (rc == 0 && !l.kind) {
        fputs(usage_text, stderr);
        return EX_USAGE;
    }
    if (rc == 0)
        rc = prepare(&p, &l, &c, &e);
    if (rc == 0)
        rc = ask(&l, &p, &e);
    if (rc < 0)
        log_error("%s: %s", l.kind ? l.kind : "usage", e.text);
    conf_free(&c);
    return rc < 0 ? e.code : 0;
}
