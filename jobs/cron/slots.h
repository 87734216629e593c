// The jobs of the loop as they run: each has a slot, with the runner that works for it now, or the
// wait for the instance's lock. What becomes of an outcome is decided here too. When a job is due,
// and when to wait for what, is the loop's matter.
#ifndef CRON_SLOTS_H
#define CRON_SLOTS_H

#include "base/err.h"
#include "cron/job.h"
#include "cron/lock.h"
#include "cron/state.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct slot {     // of one job
    pid_t pid;    // its runner, 0: none
    bool waiting; // due, but the instance's lock is not held yet
    bool queued;  // due again while running
    int64_t due_ms;
};

struct slots {
    const struct jobs *jobs;
    struct state state;
    struct slot *v;
    struct lock lock;                // the instance's: taken here, given up by the caller
    int results[2];                  // a pipe: poll [0], then call slots_results
    size_t running, waiting, locked; // runners; jobs that wait; runners under the lock
    bool stopping, recover, mail_held;
    int64_t changed_ms; // monotonic: the first change that the caller has not saved; 0: none
    int worst;          // exit code of the worst outcome
};

// From zero-initialised slots. -1: no memory, no descriptors. Then slots_free.
int slots_init(struct slots *all, const struct jobs *jobs, struct err *e);
void slots_free(struct slots *all);

// Something will have to be saved.
void slots_changed(struct slots *all);

// Runs job i, which is idle: now, when the lock is held, or never. due_ms: 0 when by hand.
void slots_begin(struct slots *all, size_t i, int64_t due_ms);

// A time of job i has come: as slots_begin, or what its overlap says.
void slots_due(struct slots *all, size_t i, int64_t due_ms);

// The lock has something to say.
void slots_lock(struct slots *all);

// Runners have written outcomes.
void slots_results(struct slots *all);

// Children have ended. A runner that ended without an outcome was killed; what it watched over
// comes to us and ends.
void slots_reap(struct slots *all);

// Nothing begins any more; what runs drains. signal: why.
void slots_stop(struct slots *all, int signal);

#endif
