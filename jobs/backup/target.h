// A folder that files are restored into: they grow beside it, unseen, and take its place at the
// end, so that a restore that fails leaves what was there as it was.
#ifndef BACKUP_TARGET_H
#define BACKUP_TARGET_H

#include "base/err.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

struct target {
    char path[PATH_MAX];    // where the files are to be
    char staging[PATH_MAX]; // where they grow: "PATH.new", or within PATH when it is a mount point
    int fd;                 // staging, locked; -1: not begun
    bool inside, force;
};

// Makes the staging folder. The target may be missing (its parent must be there) or empty;
// otherwise force is needed (EX_CANTCREAT). What a killed restore left behind is removed;
// EX_TEMPFAIL when another restore is at work there.
int target_begin(struct target *t, const char *path, bool force, struct err *e);

// Free bytes where the files grow, -1: not known.
int64_t target_space(const struct target *t);

// Makes it durable and puts it in place; with force, what was there is removed afterwards.
int target_publish(struct target *t, struct err *e);

// Removes the staging folder. Harmless before begin and after publish.
void target_discard(struct target *t);

// Removes everything in the folder, links are not followed. 0, or -1 with errno.
int target_empty(int dir);

#endif
