// What others left behind: jobs and backups STATE_DIR/jobs.json and backup.json, civinit-forward
// RUN_DIR/forward.json. The only user of jansson.
#ifndef STATUS_STATE_H
#define STATUS_STATE_H

#include "base/arena.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Times are milliseconds since the epoch, 0: never. Figures are -1 when unknown, texts never NULL.
struct state_count {
    const char *outcome;
    int64_t n;
};

struct state_job {
    const char *instance, *name, *schedule;
    int64_t updated_ms; // of its folder
    int64_t next_ms, last_success_ms;
    bool running;
    const struct state_count *runs;
    size_t nruns;
    int64_t started_ms, ended_ms; // of the last run
    const char *outcome, *reason; // "" when it has never run
    int64_t exit, signal, duration_ms, rss_kb, cpu_ms;
};

struct state_civicrm {
    const char *instance, *name;
    int64_t updated_ms; // of its folder
    int64_t last_success_ms, failures_24h, unfinished_24h;
};

struct state_jobs {
    const char *instance, *hold; // hold: why jobs are held, or NULL
    int64_t updated_ms;
    const struct state_job *jobs;
    size_t njobs;
    const struct state_civicrm *civicrm;
    size_t ncivicrm;
    bool has_mail;
    int64_t mail_pending, mail_oldest_due_s, mail_lost_24h;
};

struct state_backup {
    const char *instance;
    int64_t updated_ms, last_success_ms;
    int64_t started_ms, ended_ms; // of the last one
    const char *outcome, *reason, *file;
    int64_t bytes, raw_bytes, entries, warnings;
    int64_t verified_ms; // when it was verified; 0: was not
};

// What became of the records of the log that go to a collector.
struct state_forward {
    int64_t updated_ms, pid;
    bool connected;
    const char *server, *problem;
    int64_t delivered, dropped, resent, connections; // since it started
    int64_t waiting, unacknowledged;                 // records
    int64_t bytes, limit;                            // of its buffer
};

struct state {
    struct state_jobs *jobs; // one per folder that has a jobs.json
    size_t njobs;
    struct state_backup *backups; // one per folder that has a backup.json
    size_t nbackups;
    // Of all folders; what two of them tell of one instance is taken from the one written last.
    const struct state_job **all_jobs;
    size_t nall_jobs;
    const struct state_civicrm **all_civicrm;
    size_t nall_civicrm;
    struct state_forward *forward; // NULL: there is none
    const char **problems;         // files that are there but cannot be used
    size_t nproblems;
};

struct state_options {
    char *const *folders; // NULL-terminated
    const char *run_dir;  // where the log's forwarder tells of itself
    const char *instance; // of a file that names none
    bool jobs, backups;   // what is read
};

// Reads what is there into the arena. Never fails: what cannot be read is in ret->problems.
void state_read(const struct state_options *o, struct arena *arena, struct state *ret);

#endif
