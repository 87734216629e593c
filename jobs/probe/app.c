#include "base/cleanup.h"
#include "base/log.h"
#include "base/spawn.h"
#include "base/text.h"
#include "common/http.h"
#include "probe/notify.h"
#include "probe/probe.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sysexits.h>
#include <unistd.h>

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
    if (one_word)
        split_check(l, l->target);
    if (l->target && l->rest[1] && strcmp(l->kind, "exec") != 0)
        return err_set(e, EX_USAGE, "one target too many: %s", l->rest[1]);
    return 0;
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

static int set_target(struct probe *p, const struct line *l, struct err *e) {
    if (!l->target || !*l->target)
        return err_set(e, EX_USAGE, "%s needs a target", l->kind);
    p->target = without_prefix(l->target, l->kind);
    if (p->kind == PROBE_HTTP)
        http_origin(p->target, p->where, sizeof p->where);
    else
        snprintf(p->where, sizeof p->where, "%s", p->target);
    p->ca = l->ca;
    p->status_min = 200;
    p->status_max = 399;
    if (p->kind == PROBE_HTTP && strncmp(p->target, "http://", 7) != 0 &&
        strncmp(p->target, "https://", 8) != 0)
        return err_set(e, EX_USAGE, "\"%s\" is no http:// or https:// URL", p->target);
    return l->status ? set_status(p, l->status, e) : 0;
}

static bool needs_libraries(const struct probe *p, const struct line *l) {
    return p->kind == PROBE_MYSQL || p->kind == PROBE_SMTP || p->kind == PROBE_IMAP ||
           (p->kind == PROBE_HTTP && l->target && strncasecmp(l->target, "https:", 6) == 0);
}

static int prepare(struct probe *p, struct line *l, const struct probe_libraries *libraries,
                   struct err *e) {
    static probe_try *const tries[] = {[PROBE_HTTP] = try_web,
                                       [PROBE_TCP] = try_tcp,
                                       [PROBE_UNIX] = try_unix,
                                       [PROBE_DNS] = try_dns,
                                       [PROBE_EXEC] = try_exec};
    int kind = probe_kind_of(l->kind);
    if (kind < 0)
        return err_set(e, EX_USAGE,
                       "\"%s\" is none of mysql, http, tcp, unix, smtp, imap, dns, exec", l->kind);
    p->kind = (enum probe_kind)kind;
    p->timeout_ms = l->timeout_ms ? l->timeout_ms : 5000;
    if (p->kind == PROBE_EXEC) {
        p->try = try_exec;
        p->command = l->rest;
        if (!l->target)
            return err_set(e, EX_USAGE, "exec needs a command");
        snprintf(p->where, sizeof p->where, "%s", l->target);
        return 0;
    }
    if (p->kind != PROBE_MYSQL && p->kind != PROBE_SMTP && p->kind != PROBE_IMAP &&
        set_target(p, l, e) < 0)
        return -1;
    if (needs_libraries(p, l)) {
        assert(libraries); // else this process has become the other program
        return libraries->prepare(p, l, e);
    }
    p->try = tries[p->kind];
    return 0;
}

// For whoever looks meanwhile: in the log, and as the status of the civinit that started us.
static void not_yet(const struct probe *p, const struct err *e) {
    char text[ERR_TEXT + 32];
    log_notice("not yet: %s", e->text);
    snprintf(text, sizeof text, "STATUS=not yet: %s", e->text);
    notify_send(text);
}

static int ask(const struct line *l, struct probe *p, struct err *e) {
    char took[32];
    int64_t ms;
    p->not_yet = not_yet;
    if (probe_wait(p, l->wait_ms, &ms, e) < 0) {
        if (l->wait_ms && (e->code == EX_UNAVAILABLE || e->code == EX_NOPERM))
            err_wrap(e, "gave up after %s", text_ms(ms, took, sizeof took));
        return -1;
    }
    if (l->verbose)
        printf("%s %s: ready after %s\n", l->kind, p->where, text_ms(ms, took, sizeof took));
    return 0;
}

// Whatever is said, it is said as civinit-probe.
static int become(char **argv) {
    char path[PATH_MAX];
    execvp(spawn_sibling("civinit-probe-login", path, sizeof path), argv);
    log_error("civinit-probe-login: %s", strerror(errno));
    return EX_SOFTWARE;
}

// Which kind it is tells which program it is, before anything else is looked at.
static bool must_become(const struct line *l) {
    struct probe p = {0};
    int kind = probe_kind_of(l->kind);
    p.kind = (enum probe_kind)kind;
    return kind >= 0 && needs_libraries(&p, l);
}

static int answer(struct line *l, const struct probe_libraries *libraries) {
    struct probe p = {0};
    struct err e = {0};
    int rc = prepare(&p, l, libraries, &e);
    if (rc == 0)
        rc = ask(l, &p, &e);
    if (rc < 0)
        log_error("%s: %s", l->kind, e.text);
    return rc < 0 ? e.code : 0;
}

int probe_main(int argc, char **argv, const struct probe_libraries *libraries) {
    struct line l = {0};
    struct err e = {0};
    log_init("civinit-probe");
    signal(SIGPIPE, SIG_IGN);
    char **words = calloc((size_t)argc + 1, sizeof *words); // getopt puts argv in another order
    if (!words) {
        log_error("out of memory");
        return EX_OSERR;
    }
    memcpy(words, argv, (size_t)argc * sizeof *argv);
    int rc = read_line(argc, words, &l, &e);
    if (rc < 0)
        log_error("%s", e.text);
    else if (l.help)
        fputs(usage_text, stdout);
    else if (l.version)
        puts("civinit-probe " CIVINIT_VERSION);
    else if (!l.kind)
        fputs(usage_text, stderr);
    else if (!libraries && must_become(&l))
        rc = become(argv);
    else
        rc = answer(&l, libraries);
    free(words);
    if (rc < 0)
        return e.code;
    return rc == 0 && !l.kind && !l.help && !l.version ? EX_USAGE : rc;
}
