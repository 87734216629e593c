// civinit-jobs-helper: what civinit-jobs asks of the database, of mail servers and over HTTP. One
// command, one answer, one exit code; the heavy libraries are loaded only while it runs.
#include "backlog.h"
#include "due.h"
#include "gate.h"
#include "helper.h"
#include "hold.h"
#include "joblog.h"
#include "lock.h"
#include "precheck.h"
#include "request.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

enum {
    READ_MS = 60000,         // for one answer of the database
    VERDICT_WAIT_MS = 60000, // for a database that restarts at the end of a run
    OUTPUT_MAX = 1 << 26,
};

// What the command line says.
struct options {
    char **args; // behind the command
    int nargs;
    const char *config, *name, *output;
    int64_t wait_ms, mark, exit, signal, job;
    bool no_mailings, mail_held;
};

static int print(struct buf *out, struct err *e) {
    if (out->failed)
        return err_set(e, EX_OSERR, "out of memory"), EX_OSERR;
    if (out->len && file_write(1, out->data, out->len) < 0)
        return err_errno(e, EX_IOERR, "stdout"), EX_IOERR;
    return 0;
}

static int cmd_lock(struct helper *h, const struct options *o, struct err *e) {
    return lock_run(h, o->name, o->wait_ms < 0 ? 0 : o->wait_ms, e);
}

static int cmd_precheck(struct helper *h, const struct options *o, struct err *e) {
    autobuf struct buf why = {0}, version = {0}, out = {0};
    if (precheck(h, &why, &version, e) < 0)
        return e->code;
    buf_printf(&out, why.len ? "hold %s\n" : "ok %s\n", why.len ? why.data : version.data);
    int rc = print(&out, e);
    return rc ? rc : why.len ? EX_TEMPFAIL : 0;
}

static int cmd_gate(struct helper *h, const struct options *o, struct err *e) {
    const char *kind = o->args[0];
    if (strcmp(kind, "smtp") != 0 && strcmp(kind, "imap") != 0 && strcmp(kind, "mail") != 0)
        return err_set(e, EX_USAGE, "gate: smtp, imap or mail, not \"%s\"", kind), EX_USAGE;
    int rc = gate(h, kind, e);
    if (rc) // the one line is what is quoted elsewhere: nothing before it
        log_error("%s", e->text);
    *e->text = 0;
    return rc;
}

static int cmd_begin(struct helper *h, const struct options *o, struct err *e) {
    int64_t mark;
    autobuf struct buf out = {0};
    if (helper_connect(h, READ_MS, e) < 0 || joblog_mark(h, &mark, e) < 0)
        return e->code;
    buf_printf(&out, "mark %lld\n", (long long)mark);
    return print(&out, e);
}

static int cmd_verdict(struct helper *h, const struct options *o, struct err *e) {
    if (o->mark < 0) {
        err_set(e, EX_USAGE, "--mark is missing");
        return EX_USAGE;
    }
    autofree char *output = NULL;
    autobuf struct buf out = {0};
    struct verdict v = {.reason = ""};
    struct err why = {0};
    struct verdict_process p = {.exit = (int)o->exit,
                                .signal = (int)o->signal,
                                .only_job = o->job,
                                .mail_held = o->mail_held};
    if (o->output && file_read(o->output, OUTPUT_MAX, &output, NULL, &why) < 0)
        log_warning("%s", why.text);
    p.output = output;
    if (helper_connect_wait(h, READ_MS, o->wait_ms < 0 ? VERDICT_WAIT_MS : o->wait_ms, &why) < 0 ||
        joblog_judge(h, o->mark, &p, &v, &why) < 0) {
        v.outcome = OUTCOME_BROKEN;
        v.reason = arena_printf(&v.arena, "the job log cannot be read: %s", why.text);
        v.reason = v.reason ? v.reason : "";
    }
    verdict_print(&v, &out);
    int rc = print(&out, e);
    if (!rc)
        rc = v.outcome != OUTCOME_SUCCESS;
    verdict_free(&v);
    return rc;
}

static int cmd_due(struct helper *h, const struct options *o, struct err *e) {
    autobuf struct buf out = {0};
    if (helper_connect(h, READ_MS, e) < 0 || due_print(h, &out, e) < 0)
        return e->code;
    return print(&out, e);
}

static int cmd_hold(struct helper *h, const struct options *o, struct err *e) {
    autobuf struct buf out = {0};
    struct hold_count count;
    bool smtp = o->nargs == 0, imap = false;
    for (int i = 0; i < o->nargs; i++) {
        smtp |= strcmp(o->args[i], "smtp") == 0 || strcmp(o->args[i], "mail") == 0;
        imap |= strcmp(o->args[i], "imap") == 0 || strcmp(o->args[i], "mail") == 0;
    }
    if (!smtp && !imap)
        return err_set(e, EX_USAGE, "hold-mail: smtp, imap or mail"), EX_USAGE;
    if (helper_connect(h, READ_MS, e) < 0 ||
        hold_begin(h, smtp && !o->no_mailings, smtp, imap, &count, e) < 0)
        return e->code;
    buf_printf(&out, "held %llu mailings %llu jobs\n", (unsigned long long)count.mailings,
               (unsigned long long)count.jobs);
    return print(&out, e);
}

static int put_back(struct helper *h, const char *word, struct err *e) {
    autobuf struct buf out = {0};
    struct hold_count count;
    if (helper_connect(h, READ_MS, e) < 0 || hold_end(h, &count, e) < 0)
        return e->code;
    buf_printf(&out, "%s %llu mailings %llu jobs\n", word, (unsigned long long)count.mailings,
               (unsigned long long)count.jobs);
    return print(&out, e);
}

static int cmd_release(struct helper *h, const struct options *o, struct err *e) {
    return put_back(h, "released", e);
}

static int cmd_recover(struct helper *h, const struct options *o, struct err *e) {
    return put_back(h, "recovered", e);
}

static int cmd_hold_ran(struct helper *h, const struct options *o, struct err *e) {
    const char *ids = o->args[0];
    if (!*ids || strspn(ids, "0123456789,") != strlen(ids) || *ids == ',' || strstr(ids, ",,") ||
        ids[strlen(ids) - 1] == ',')
        return err_set(e, EX_USAGE, "hold-ran: \"%s\" is not like 3,14", ids), EX_USAGE;
    return helper_connect(h, READ_MS, e) < 0 || hold_ran(h, ids, e) < 0 ? e->code : 0;
}

static int cmd_release_ran(struct helper *h, const struct options *o, struct err *e) {
    return helper_connect(h, READ_MS, e) < 0 || hold_ran_end(h, e) < 0 ? e->code : 0;
}

static int cmd_url(struct helper *h, const struct options *o, struct err *e) {
    return request_job(h, o->args[0], e) < 0 ? e->code : 0;
}

static int cmd_hook(struct helper *h, const struct options *o, struct err *e) {
    const char *url = request_target(h, o->args[0], "on_failure", e);
    return !url || request_hook(url, e) < 0 ? e->code : 0;
}

static int cmd_ping(struct helper *h, const struct options *o, struct err *e) {
    const char *url = request_target(h, o->args[0], "ping", e);
    return !url || request_ping(url, o->args[1], e) < 0 ? e->code : 0;
}

static int cmd_backlog(struct helper *h, const struct options *o, struct err *e) {
    autobuf struct buf out = {0};
    if (helper_connect(h, READ_MS, e) < 0 || backlog_print(h, &out, e) < 0)
        return e->code;
    return print(&out, e);
}

static const struct command {
    const char *name;
    int (*run)(struct helper *h, const struct options *o, struct err *e);
    int min, max; // arguments
    const char *usage;
} commands[] = {
    {"lock", cmd_lock, 0, 0, "[--name NAME] [--wait DURATION]   hold a lock until stdin closes"},
    {"precheck", cmd_precheck, 0, 0, "   may jobs run now?"},
    {"gate", cmd_gate, 1, 1, "smtp|imap|mail   would the mail server let us in?"},
    {"begin", cmd_begin, 0, 0, "   mark the job log's end before a run"},
    {"verdict", cmd_verdict, 0, 0,
     "--mark N [--exit CODE] [--signal S] [--output FILE] [--job ID] [--mail-held] [--wait "
     "DURATION]"
     "   judge a run"},
    {"due", cmd_due, 0, 0, "   the scheduled jobs that are due"},
    {"hold-mail", cmd_hold, 0, 2, "[--jobs-only] [smtp] [imap]   pause mail"},
    {"release-mail", cmd_release, 0, 0, "   put back what hold-mail paused"},
    {"hold-ran", cmd_hold_ran, 1, 1, "ID,ID…   these jobs ran: the next run leaves them out"},
    {"release-ran", cmd_release_ran, 0, 0, "   they may run again"},
    {"recover", cmd_recover, 0, 0, "   put back what a killed pod left paused"},
    {"url", cmd_url, 1, 1, "JOB   the HTTP request of [job JOB]"},
    {"hook", cmd_hook, 1, 1, "URL|job:NAME|jobs   POST stdin there"},
    {"ping", cmd_ping, 2, 2, "URL|job:NAME|jobs start|success|fail"},
    {"backlog", cmd_backlog, 0, 0, "   what waits, what failed, what was lost, as JSON"},
};

static void usage(FILE *to) {
    fputs("usage: civinit-jobs-helper COMMAND [--config FILE] [ARGUMENTS]\n\n", to);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        fprintf(to, "  %s %s\n", commands[i].name, commands[i].usage);
}

static int bad_usage(const char *text) {
    log_error("%s (--help shows how)", text);
    exit(EX_USAGE);
}

static int64_t number(const char *option, const char *text, int64_t max) {
    int64_t n = 0;
    struct err e;
    if (text_int(text, 0, max, &n, &e) < 0) {
        log_error("--%s: %s", option, e.text);
        exit(EX_USAGE);
    }
    return n;
}

static void take_option(struct options *o, int c) {
    struct err e;
    switch (c) {
    case 'c':
        o->config = optarg;
        break;
    case 'n':
        o->name = optarg;
        break;
    case 'o':
        o->output = optarg;
        break;
    case 'w':
        if (text_duration(optarg, &o->wait_ms, &e) < 0) {
            log_error("--wait: %s", e.text);
            exit(EX_USAGE);
        }
        break;
    case 'm':
        o->mark = number("mark", optarg, INT64_MAX);
        break;
    case 'e':
        o->exit = number("exit", optarg, 255);
        break;
    case 's':
        o->signal = number("signal", optarg, 64);
        break;
    case 'j':
        o->job = number("job", optarg, INT64_MAX);
        break;
    case 'J':
        o->no_mailings = true;
        break;
    case 'H':
        o->mail_held = true;
        break;
    case 'h':
        usage(stdout);
        exit(0);
    case 'V':
        puts("civinit-jobs-helper " CIVINIT_VERSION);
        exit(0);
    default:
        bad_usage("unknown option");
    }
}

static const struct command *parse(int argc, char **argv, struct options *o) {
    static const struct option longs[] = {
        {"config", 1, NULL, 'c'},    {"name", 1, NULL, 'n'},    {"wait", 1, NULL, 'w'},
        {"mark", 1, NULL, 'm'},      {"exit", 1, NULL, 'e'},    {"signal", 1, NULL, 's'},
        {"output", 1, NULL, 'o'},    {"job", 1, NULL, 'j'},     {"help", 0, NULL, 'h'},
        {"jobs-only", 0, NULL, 'J'}, {"version", 0, NULL, 'V'}, {"mail-held", 0, NULL, 'H'},
        {NULL, 0, NULL, 0}};
    int c;
    opterr = 0;
    while ((c = getopt_long(argc, argv, "c:h", longs, NULL)) != -1)
        take_option(o, c);
    if (optind >= argc)
        bad_usage("a command is missing");
    o->args = argv + optind + 1;
    o->nargs = argc - optind - 1;
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(commands[i].name, argv[optind]) != 0)
            continue;
        if (o->nargs < commands[i].min || o->nargs > commands[i].max)
            bad_usage("wrong number of arguments");
        return &commands[i];
    }
    log_error("unknown command \"%s\" (--help shows all)", argv[optind]);
    exit(EX_USAGE);
}

int main(int argc, char **argv) {
    struct options o = {.config = "cron", .name = "jobs", .wait_ms = -1, .mark = -1};
    struct helper h = {0};
    struct err e = {0};
    log_init("civinit-jobs-helper");
    signal(SIGPIPE, SIG_IGN);
    const struct command *c = parse(argc, argv, &o);
    int rc = helper_load(&h, o.config, &e) < 0 ? e.code : c->run(&h, &o, &e);
    if (rc && *e.text)
        log_error("%s: %s", c->name, e.text);
    helper_free(&h);
    return rc;
}
