// Who a service runs as, from /etc/passwd and /etc/group alone: no name service, no network.
#ifndef CONF_USER_H
#define CONF_USER_H

#include "base/arena.h"
#include "base/err.h"

#include <stddef.h>
#include <sys/types.h>

struct user {
    uid_t uid;
    gid_t gid;
    gid_t *groups; // supplementary groups of /etc/group, in the arena
    size_t ngroups;
    const char *name, *home; // NULL when the number has no entry
};

// `user` is a name or a number, `group` a name, a number or NULL: the user's own. A number without
// an entry works: its group is then `group`, or the same number, and it has no other groups.
// Unknown names fail with EX_CONFIG and the nearest known one.
int user_find(const char *user, const char *group, struct arena *a, struct user *ret,
              struct err *e);

#endif
