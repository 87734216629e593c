// What a run of CiviCRM's scheduled jobs came to: judged from the rows that it left in
// civicrm_job_log together with how its process ended. Pure: no database, no clock.
//
// Exit codes alone lie (a run with a failed job, without a database or with a wrong password ends
// with 0), and the words Success and Failure are translated. What is never translated, as of
// CiviCRM 5.33 and 6.17 (CRM/Core/JobManager.php): "Starting scheduled jobs execution", "Starting
// execution of NAME", "Error while executing NAME: ", "Finished execution of NAME with result: ",
// ", Error message: " after the result's word of a failure, "Finishing scheduled jobs execution.".
#ifndef CIVICRM_VERDICT_H
#define CIVICRM_VERDICT_H

#include "base/arena.h"
#include "base/text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// From good to bad: the worst one decides a run.
enum outcome {
    OUTCOME_SUCCESS,
    OUTCOME_SKIPPED,    // CiviCRM did not run the job (environment is not Production)
    OUTCOME_UNFINISHED, // begun by another process meanwhile: not this run's
    OUTCOME_FAILURE,    // a job failed
    OUTCOME_INCOMPLETE, // the run ended early, with exit code 0
    OUTCOME_CRASHED,    // a job began and never ended, or the process died
    OUTCOME_BROKEN,     // no job began: database, login or settings
};
const char *outcome_word(enum outcome o);

// One row of civicrm_job_log, in the order of id.
struct verdict_row {
    int64_t job_id;                        // 0: the run's own rows
    int64_t time_s;                        // since the epoch
    const char *name, *description, *data; // may be NULL
    int64_t unsent; // "processed 0", while so many parts of mailings wait that nobody keeps back
};

struct verdict_process {
    int exit;           // exit code; 0 when killed by a signal
    int signal;         // that killed it, or 0
    const char *output; // what it wrote, or NULL
    int64_t only_job;   // judge this job's rows only (a process per job); 0: a whole run
    bool mail_held;     // we kept mail back while it ran
};

struct verdict_job {
    const char *name;
    int64_t job_id;
    enum outcome outcome;
    int64_t seconds, began_s;
    const char *message; // "" on success
};

struct verdict {
    struct arena arena;
    struct verdict_job *jobs; // in the order in which they began
    size_t n;
    enum outcome outcome; // SUCCESS, FAILURE, INCOMPLETE, CRASHED or BROKEN
    const char *reason;   // one line; "" on success
};

// Judges. -1: out of memory. The texts live in v's arena.
int verdict_judge(struct verdict *v, const struct verdict_row *rows, size_t n,
                  const struct verdict_process *p);
void verdict_free(struct verdict *v);

// Appends one JSON line per job and the run's line.
void verdict_print(const struct verdict *v, struct buf *out);

// The line of a program's output that says why it failed, without HTML tags, in the arena; "" when
// there is none.
const char *verdict_telling_line(struct arena *a, const char *output);

#endif
