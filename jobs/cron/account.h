// The user a job runs as, from /etc/passwd and /etc/group (no name services).
#ifndef CRON_ACCOUNT_H
#define CRON_ACCOUNT_H

#include "base/arena.h"
#include "base/err.h"

#include <sys/types.h>

struct account {
    const char *user, *home, *shell;
    uid_t uid;
    gid_t gid;
    gid_t *groups; // supplementary ones, and gid
    size_t ngroups;
};

// Finds user (name or number) and, if not NULL, group, which replaces the user's own. A number
// without a line in /etc/passwd is allowed: its home is "/". All memory is the arena's.
int account_find(const char *user, const char *group, struct arena *arena, struct account *ret,
                 struct err *e);

#endif
