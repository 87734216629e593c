// The jobs' lock in the database, through civinit-jobs-helper: while it is held no scheduled job
// of the instance runs.
#ifndef BACKUP_JOBSLOCK_H
#define BACKUP_JOBSLOCK_H

#include "backup/options.h"
#include "base/err.h"

#include <sys/types.h>

struct jobslock {
    pid_t pid; // 0: not held
    int in;    // closing it gives the lock back
};

// Takes o->lock within o->lock_wait_ms: EX_TEMPFAIL with who holds it.
int jobslock_take(struct jobslock *l, const struct options *o, struct err *e);

// Harmless when not held.
void jobslock_release(struct jobslock *l);

#endif
