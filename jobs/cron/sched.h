// Which job is due next: a heap of due times, and the rules for clocks that jump. Pure.
#ifndef CRON_SCHED_H
#define CRON_SCHED_H

#include "cron/job.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    // Up to this, a jump of the clock or a suspended machine counts as a delay: what was due
    // meanwhile runs once, what ran already is not run again. Beyond it the clock was set right.
    SCHED_JUMP_MS = 3 * 3600 * 1000
};

struct sched {
    size_t n;
    int64_t *due; // of each job; NEXT_NEVER: not by time
    size_t *heap; // jobs, by due
    size_t *pos;  // of each job in the heap
};

// All NEXT_NEVER. False when out of memory.
bool sched_init(struct sched *s, size_t n);
void sched_set(struct sched *s, size_t job, int64_t due_ms);

// The job that is due first (*ret_job) and when; NEXT_NEVER: none.
int64_t sched_first(const struct sched *s, size_t *ret_job);

enum sched_action {
    SCHED_WAIT,  // not due: the time that sched_take returns is when to look again
    SCHED_RUN,   // run it now
    SCHED_MISSED // it was due so long ago that it is not run
};

// Takes the job that is due at now_ms off the heap and puts its next time in.
enum sched_action sched_take(struct sched *s, const struct jobs *jobs, int64_t now_ms,
                             size_t *ret_job, int64_t *ret_due);

// The clock was set by delta_ms. A jump of more than SCHED_JUMP_MS backwards makes all times anew.
void sched_jumped(struct sched *s, const struct jobs *jobs, int64_t now_ms, int64_t delta_ms);

// Fills in a job's time at the start. last_tick_ms: the last due time that was handled, 0: none. A
// job with catch_up that missed a time since is due at once.
void sched_start(struct sched *s, const struct job *job, size_t index, int64_t now_ms,
                 int64_t last_tick_ms);

void sched_free(struct sched *s);

#endif
