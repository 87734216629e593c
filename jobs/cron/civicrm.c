// A run of CiviCRM's scheduled jobs: mail gate, mark, command, verdict; or one process per job.
#include "cron/run.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "cron/helper.h"
#include "cron/jsonline.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <sysexits.h>

// Which mail servers the CiviCRM jobs that are due need.
struct due {
    bool smtp, imap;
};

// How a gate that failed is called and paused.
struct gate {
    const char *name;
    bool wanted, closed;
};

int run_hold_mail(struct run *r, int64_t most_ms, char *why, size_t size) {
    // A database that hangs must not use up the grace period.
    int64_t most = r->jobs->grace_ms / 2;
    if (!r->w.drain || most > HELPER_TIMEOUT_MS)
        most = HELPER_TIMEOUT_MS;
    return helper_call(&r->w, r->jobs, (const char *[]){"hold-mail", NULL}, -1,
                       most < most_ms ? most : most_ms, NULL, why, size);
}

// The next run, or the next start, tries again.
static void left_held(struct run *r, const char *what, const char *why) {
    r->o.left_held = true;
    log_error("job %s: %s (the next run does it): %s", r->job->name, what, why);
}

void run_release_mail(struct run *r) {
    char why[300] = "";
    if (run_ask(r, (const char *[]){"release-mail", NULL}, NULL, why, sizeof why) == 0)
        r->o.mail_held = false;
    else
        left_held(r, "the paused mailings cannot be put back now", why);
}

// What a pod that was killed has left paused.
static void recover(struct run *r) {
    char why[300] = "";
    if (!r->order.recover)
        return;
    if (run_ask(r, (const char *[]){"recover", NULL}, NULL, why, sizeof why) == 0)
        r->o.recovered = true;
    else
        log_error("job %s: mailings that an earlier process left paused cannot be put back: %s",
                  r->job->name, why);
}

static bool gate_closed(struct run *r, struct gate *g, char *why, size_t size) {
    char text[300] = "";
    if (!g->wanted)
        return false;
    g->closed = run_ask(r, (const char *[]){"gate", g->name, NULL}, NULL, text, sizeof text) != 0;
    if (g->closed && !*why)
        snprintf(why, size, "%s: %s", g->name, *text ? text : "the login failed");
    return g->closed;
}

bool run_gates(struct run *r, char *why, size_t size) {
    static const unsigned bits[] = {NEEDS_SMTP, NEEDS_IMAP, NEEDS_MAIL};
    struct gate gates[] = {{"smtp", false, false}, {"imap", false, false}, {"mail", false, false}};
    *why = 0;
    for (int i = 0; i < 3; i++) {
        gates[i].wanted = r->job->needs & bits[i];
        if (gate_closed(r, &gates[i], why, size))
            return false;
    }
    return true;
}

// Pauses mail behind the gates that are closed. False: it cannot be paused, so nothing may run.
static bool hold_closed(struct run *r) {
    char why[300] = "";
    const char *args[] = {"hold-mail", r->smtp_closed ? "smtp" : "imap",
                          r->smtp_closed && r->imap_closed ? "imap" : NULL, NULL};
    if (run_ask(r, args, NULL, why, sizeof why) == 0) {
        r->o.mail_held = true;
        return true;
    }
    run_result(r, RESULT_HELD, EX_UNAVAILABLE, "%s; and mailings cannot be paused: %s",
               r->mail_waits, why);
    return false;
}

// Looks at the gates of what is due, and pauses mail behind those that are closed. False: it
// cannot be paused, so nothing may run.
static bool mail_gates(struct run *r, const struct due *due) {
    unsigned needs = r->job->needs;
    struct gate smtp = {"smtp", due->smtp && needs & (NEEDS_SMTP | NEEDS_MAIL), false};
    struct gate imap = {"imap", due->imap && needs & (NEEDS_IMAP | NEEDS_MAIL), false};
    *r->mail_waits = 0;
    gate_closed(r, &smtp, r->mail_waits, sizeof r->mail_waits);
    gate_closed(r, &imap, r->mail_waits, sizeof r->mail_waits);
    r->smtp_closed = smtp.closed;
    r->imap_closed = imap.closed;
    if (!smtp.closed && !imap.closed) {
        if (r->o.mail_held && (smtp.wanted || imap.wanted))
            run_release_mail(r);
        return true;
    }
    return hold_closed(r);
}

// Asks what is due. Without an answer, everything may be.
static struct due ask_due(struct run *r, struct buf *lines) {
    struct due due = {true, true};
    char why[300] = "", needs[16];
    if (run_ask(r, (const char *[]){"due", NULL}, lines, why, sizeof why) != 0) {
        log_warning("job %s: what is due cannot be asked: %s", r->job->name, why);
        buf_free(lines);
        return due;
    }
    due = (struct due){false, false};
    // While mail is held, its jobs are not due: the gate decides whether they are to be again.
    due.smtp = due.imap = r->o.mail_held;
    for (const char *line = lines->data; line && *line; line = strchr(line, '\n') + 1) {
        if (!strchr(line, '\n'))
            break;
        if (!jsonline_text(line, "needs", needs, sizeof needs))
            continue;
        due.smtp |= strcmp(needs, "smtp") == 0;
        due.imap |= strcmp(needs, "imap") == 0;
    }
    return due;
}

static bool begin(struct run *r, char *mark, size_t size) {
    autobuf struct buf out = {0};
    char why[300] = "";
    long long n;
    if (run_ask(r, (const char *[]){"begin", NULL}, &out, why, sizeof why) != 0 || !out.data ||
        sscanf(out.data, "mark %lld", &n) != 1) {
        run_result(r, RESULT_BROKEN, EX_UNAVAILABLE, "the job log cannot be read: %s", why);
        return false;
    }
    snprintf(mark, size, "%lld", n);
    return true;
}

static enum result result_of(const char *word) {
    for (enum result x = RESULT_SUCCESS; x < RESULTS; x++)
        if (strcmp(result_word(x), word) == 0)
            return x;
    return RESULT_BROKEN;
}

// One line per CiviCRM job goes into the log, the last one decides.
static void take_verdict_line(struct run *r, const char *line) {
    char name[300], outcome[32], message[1000], word[32], quoted[600], text[1200];
    if (jsonline_text(line, "run", word, sizeof word)) {
        enum result result = result_of(word);
        if (!jsonline_text(line, "reason", message, sizeof message))
            *message = 0;
        if (result != RESULT_SUCCESS)
            run_result(r, result,
                       r->o.signal ? 128 + r->o.signal
                       : r->o.exit ? r->o.exit
                                   : 1,
                       "%s", *message ? message : word);
        return;
    }
    if (!jsonline_text(line, "job", name, sizeof name) ||
        !jsonline_text(line, "outcome", outcome, sizeof outcome))
        return;
    if (!jsonline_text(line, "message", message, sizeof message))
        *message = 0;
    bool good = strcmp(outcome, "success") == 0 || strcmp(outcome, "skipped") == 0 ||
                strcmp(outcome, "unfinished") == 0;
    log_msg(good ? LOG_INFO : LOG_ERROR,
            "job=%s run=%s civicrm_job=\"%s\" outcome=%s seconds=%lld%s%s%s", r->job->name,
            r->o.run, run_quoted(name, quoted, sizeof quoted), outcome,
            (long long)jsonline_int(line, "seconds", 0), *message ? " message=\"" : "",
            run_quoted(message, text, sizeof text), *message ? "\"" : "");
}

// Judges what ran since mark. id: of the one CiviCRM job that ran, or NULL.
static void verdict(struct run *r, const char *mark, const struct run_end *end, int output,
                    const char *id) {
    autobuf struct buf out = {0};
    char why[300] = "", exit[16], signal[16], path[64];
    snprintf(exit, sizeof exit, "%d", WIFEXITED(end->status) ? WEXITSTATUS(end->status) : 0);
    snprintf(signal, sizeof signal, "%d", WIFSIGNALED(end->status) ? WTERMSIG(end->status) : 0);
    snprintf(path, sizeof path, "/proc/%d/fd/%d", getpid(), output);
    const char *args[14] = {"verdict",  "--mark", mark,       "--exit", exit,
                            "--signal", signal,   "--output", path};
    size_t n = 9;
    if (end->mail_held || r->o.mail_held)
        args[n++] = "--mail-held";
    if (id) {
        args[n++] = "--job";
        args[n++] = id;
    }
    r->o.exit = atoi(exit);
    r->o.signal = atoi(signal);
    if (end->timed_out || end->lost || end->replaced || end->killed || end->failed_to_start)
        run_judge(r, end); // what we did to it is the reason, its jobs are told all the same
    if (end->failed_to_start)
        return;
    // Longer than the helper itself waits for a database that restarts.
    int rc = helper_call(&r->w, r->jobs, args, -1, 3LL * HELPER_TIMEOUT_MS, &out, why, sizeof why);
    bool judged = false;
    for (char *line = out.data, *next; line; line = next) {
        if ((next = strchr(line, '\n')))
            *next++ = 0;
        judged |= strncmp(line, "{\"run\"", 6) == 0;
        take_verdict_line(r, line);
    }
    if (rc > 1 || !judged)
        run_result(r, RESULT_BROKEN, EX_UNAVAILABLE, "the job log cannot be read: %s", why);
}

// Runs argv between mark and verdict.
static void judged_command(struct run *r, char *const *argv, const char *id) {
    struct run_end end;
    char mark[32];
    autoclose int output = memfd_create("output", MFD_CLOEXEC);
    if (!begin(r, mark, sizeof mark) || run_stopping(r))
        return;
    run_command(r, argv, output, &end);
    verdict(r, mark, &end, output, id);
}

// [civicrm] isolate_command with {id} filled in, the caller's to free with its words.
static char **isolate_argv(const struct run *r, const char *id, struct arena *arena) {
    char *const *from = r->jobs->isolate_command;
    size_t n = 0;
    while (from[n])
        n++;
    char **argv = calloc(n + 1, sizeof *argv);
    for (size_t i = 0; argv && i < n; i++) {
        const char *hole = strstr(from[i], "{id}");
        argv[i] =
            hole ? arena_printf(arena, "%.*s%s%s", (int)(hole - from[i]), from[i], id, hole + 4)
                 : from[i];
        if (!argv[i]) {
            free(argv);
            return NULL;
        }
    }
    return argv;
}

// Whether this due job would need a server that refuses us.
static bool waits(const struct run *r, const char *line) {
    char needs[16] = "";
    jsonline_text(line, "needs", needs, sizeof needs);
    return (*needs == 's' && r->smtp_closed) || (*needs == 'i' && r->imap_closed);
}

// Each due job in a process of its own: one that crashes or leaks harms no other. Their ids:
// "3,14".
static void run_isolated(struct run *r, char *lines, struct buf *ids) {
    for (char *line = lines, *next; line && *line && !run_stopping(r); line = next) {
        char id[24];
        if ((next = strchr(line, '\n')))
            *next++ = 0;
        if (!jsonline_text(line, "id", id, sizeof id) || waits(r, line))
            continue;
        struct arena arena = {0};
        char **argv = isolate_argv(r, id, &arena);
        if (argv) {
            judged_command(r, argv, id);
            buf_printf(ids, "%s%s", ids->len ? "," : "", id);
        }
        free(argv);
        arena_free(&arena);
    }
}

// The command for the rest: what ran already is not to run in it again, and mail still waits behind
// a closed gate, also when a job that took too long has meanwhile put it back.
static void run_rest(struct run *r, const char *ran) {
    struct err e;
    char why[300] = "";
    bool closed = r->smtp_closed || r->imap_closed;
    if (closed && !r->o.mail_held && !hold_closed(r))
        return;
    char **argv = run_argv(r, &e);
    if (!argv) {
        run_result(r, RESULT_BROKEN, e.code, "%s", e.text);
        return;
    }
    bool held =
        ran && run_ask(r, (const char *[]){"hold-ran", ran, NULL}, NULL, why, sizeof why) == 0;
    if (ran && !held)
        log_warning("job %s: what ran by itself may run again: %s", r->job->name, why);
    judged_command(r, argv, NULL);
    free(argv);
    if (held && run_ask(r, (const char *[]){"release-ran", NULL}, NULL, why, sizeof why) != 0)
        left_held(r, "jobs that ran by themselves wait for a day", why);
}

// For `civinit-jobs list` and the status page, where the loop finds it.
static void keep_backlog(struct run *r) {
    autobuf struct buf out = {0};
    char path[PATH_MAX];
    if (run_stopping(r))
        return;
    helper_backlog(r->jobs, &r->w, &out);
    snprintf(path, sizeof path, "%s/backlog.part", r->jobs->state_dir);
    if (!out.failed && out.len)
        file_replace(path, out.data, out.len, 0644, 0, NULL);
}

void run_civicrm(struct run *r) {
    autobuf struct buf lines = {0}, ran = {0};
    struct due due = {0};
    recover(r);
    if (r->job->isolate || r->job->needs & (NEEDS_SMTP | NEEDS_IMAP | NEEDS_MAIL))
        due = ask_due(r, &lines);
    if (!mail_gates(r, &due) || run_stopping(r))
        return;
    if (r->job->isolate)
        run_isolated(r, lines.data, &ran);
    if (!run_stopping(r))
        run_rest(r, ran.failed ? NULL : ran.data);
    if (*r->mail_waits)
        run_result(r, RESULT_FAILURE, EX_UNAVAILABLE, "mail waits: %s", r->mail_waits);
    keep_backlog(r);
}
