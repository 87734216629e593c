// A named lock of the database, held by a process of civinit-jobs-helper whose connection holds
// it: it ends when we close its standard input, or when we die.
#ifndef CRON_LOCK_H
#define CRON_LOCK_H

#include "cron/job.h"

#include <sys/types.h>

enum lock_state {
    LOCK_NONE,
    LOCK_WAITING,
    LOCK_HELD,
};

enum lock_event {
    LOCK_NOTHING,
    LOCK_GOT,
    LOCK_BUSY,   // lock->text: who holds it
    LOCK_LOST,   // lock->text: why; it was held
    LOCK_FAILED, // lock->text: why; it was never held
};

struct lock {
    enum lock_state state;
    pid_t pid; // of the helper: the caller's to reap
    int in;    // its standard input
    int out;   // its answers: poll it for POLLIN, then call lock_read
    char text[512];
    size_t len;
};

// Starts the helper. name NULL: the instance's lock. -1: it cannot be started.
int lock_start(struct lock *l, const struct jobs *j, const char *name, int64_t wait_ms,
               struct err *e);

// Reads what the helper says. After BUSY, LOST and FAILED the lock is released.
enum lock_event lock_read(struct lock *l);

// Gives it up.
void lock_release(struct lock *l);

#endif
