// What is remembered of the jobs: state_dir/jobs.state for ourselves (one line per job) and
// state_dir/jobs.json for others, both replaced by rename.
#ifndef CRON_STATE_H
#define CRON_STATE_H

#include "base/text.h"
#include "cron/choose.h"
#include "cron/job.h"

#include <stdbool.h>
#include <stdint.h>

enum result {
    RESULT_SUCCESS,
    RESULT_FAILURE,
    RESULT_TIMEOUT,
    RESULT_CRASHED,    // by a signal, or CiviCRM began a job that never finished
    RESULT_INCOMPLETE, // CiviCRM's run did not come to its end
    RESULT_BROKEN,     // CiviCRM could not even begin
    RESULT_SKIPPED,    // not run: still running, or another pod has the lock
    RESULT_HELD,       // not run: a precondition is not met
    RESULTS
};

// "success" …
const char *result_word(enum result r);
// Whether it is one that somebody must look at.
bool result_bad(enum result r);

// How a run ended; of fixed size, so that it goes through a pipe in one piece.
struct outcome {
    uint32_t job; // index in struct jobs
    char run[12]; // id
    enum result result;
    int exit, signal;
    int code; // what --once makes of it: 0, the command's exit code, 128 + signal, sysexits
    int64_t due_ms, started_ms, ended_ms, rss_kb, cpu_ms;
    int attempts;
    bool precheck;            // the preconditions were looked at
    bool recovered;           // mailings that a killed pod left paused are put back
    bool left_held;           // something that was held could not be put back
    bool mail_held;           // mailings are paused until the mail server lets us in
    char hold[300];           // why not, or ""
    char reason[600];         // one line, "" on success
    char choice[CHOICE_TEXT]; // what command = auto came to, and why; or ""
};

struct record {      // of one job
    int64_t tick_ms; // the last due time that was handled
    int64_t last_success_ms;
    int64_t counts[RESULTS];
    bool ran;
    struct outcome last;
    bool running; // not remembered
};

struct state {
    struct record *records; // one per job of the configuration
    char hold[300];         // why jobs are held, or ""
};

// Reads jobs.state; jobs that are new have an empty record. A missing file is no error, a damaged
// line is skipped. -1: memory.
int state_load(struct state *s, const struct jobs *j, struct err *e);

// Counts the outcome in.
void state_count(struct state *s, const struct outcome *o);

// Writes both files. backlog: members that the helper added ("\"mail\":{…}"), or NULL.
int state_save(const struct state *s, const struct jobs *j, const char *backlog, struct err *e);

// The text of jobs.json.
void state_json(const struct state *s, const struct jobs *j, const char *backlog, struct buf *out);

void state_free(struct state *s);

#endif
