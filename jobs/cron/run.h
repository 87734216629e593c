// One run of a job, from its preconditions to its hooks, in a process of its own: the runner.
// It watches over everything below it (watch.h), so that a run never outlives itself.
//
// Signals to the runner: SIGTERM drains it (the command may end by itself within the grace
// period), SIGUSR1 tells that the instance's lock is lost, SIGUSR2 ends the run.
#ifndef CRON_RUN_H
#define CRON_RUN_H

#include "cron/state.h"
#include "cron/watch.h"

struct run_order {
    int64_t due_ms;
    bool recover;               // a killed pod, or an earlier run, may have left mailings paused
    bool mail_held;             // the last run paused mailings because the mail server refuses us
    const struct outcome *last; // the last run's; zeroed when there was none
};

struct run {
    struct watcher w;
    const struct jobs *jobs;
    const struct job *job;
    struct run_order order;
    struct outcome o;
    char mail_waits[400]; // why no mail goes out in this run, or ""
    bool smtp_closed, imap_closed;
    char civicrm[32];            // its version as precheck saw it, or ""
    struct lines_search *search; // in the command's output, or NULL
    struct watch *pinging;       // the start is being told, or NULL
};

// How a command ended.
struct run_end {
    int status;           // of wait4
    bool failed_to_start; // why is in e
    bool timed_out, replaced, lost, killed;
    bool mail_held; // mailings were paused while it ran, so that it could end
    struct err e;
};

// Runs the job and returns its outcome; reports it in the log and by the hooks.
void run_job(struct run *r);

// Runs argv as the job's command and waits for its end, or ends it (timeout, drain, …). The first
// bytes of its output also go to copy (-1: nowhere).
void run_command(struct run *r, char *const *argv, int copy, struct run_end *ret);

// The job's own command line, NULL-terminated, the caller's to free; NULL with e. Of a job whose
// command is auto: what this chooses (automatic.c).
char **run_argv(struct run *r, struct err *e);
char **run_automatic(struct run *r, struct err *e);

// Runs argv as the job's user, in its folder and environment, with its standard output added to
// out. Its exit code, 128 + N when a signal ended it; -1 with e when it could not start or took
// longer than timeout_ms.
int run_quiet(struct run *r, char *const *argv, int64_t timeout_ms, struct buf *out, struct err *e);

// Sets the outcome once: a later, less bad result does not replace it.
__attribute__((format(printf, 4, 5))) void run_result(struct run *r, enum result result, int code,
                                                      const char *fmt, ...);

// text as it stands between quotes in a log line, into buf; returns buf.
const char *run_quoted(const char *text, char *buf, size_t size);

// The outcome of a command by its end alone.
void run_judge(struct run *r, const struct run_end *end);

// Asks the helper; its exit code. Fills why unless 0.
int run_ask(struct run *r, const char *const *args, struct buf *out, char *why, size_t size);

// The run must not begin anything new.
bool run_stopping(const struct run *r);

// A run of CiviCRM's scheduled jobs (civicrm.c).
void run_civicrm(struct run *r);

// Whether what the job needs answers; else the reason. NEEDS_DATABASE is not looked at.
bool run_gates(struct run *r, char *why, size_t size);

// Pauses the mailings that are being sent, in most_ms if that is less than usual, or puts them back
// (civicrm.c).
int run_hold_mail(struct run *r, int64_t most_ms, char *why, size_t size);
void run_release_mail(struct run *r);

// Tells ping and on_failure (hooks.c).
void run_hook_start(struct run *r);
void run_hook_end(struct run *r);

#endif
