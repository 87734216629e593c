// Starts one process: the only place that makes children and that clears close-on-exec.
//
// A failed step comes back as it is: which one, and errno. For that the caller waits until the
// program is executed, in one of two ways:
// - patience_ms 0: the child shares the caller's memory until then (clone(2) with CLONE_VM and
//   CLONE_VFORK): nothing is copied, but a file system that hangs in chdir or exec holds the
//   caller.
// - else the child has a copy, and the caller waits no longer than that.
#ifndef BASE_SPAWN_H
#define BASE_SPAWN_H

#include "base/err.h"

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/types.h>

// Descriptor `from` of the caller is `to` in the child (may be the same). Several may overlap.
struct spawn_fd {
    int from, to;
};

struct spawn_rlimit {
    int resource;     // RLIMIT_NOFILE …
    const char *name; // what errors call it: "nofile"
    struct rlimit limit;
};

// Zero-initialised fields leave what the caller has. Nothing is kept after the call.
struct spawn {
    char *const *argv; // argv[0] is searched in the PATH of envp when it has no '/'
    char *const *envp; // NULL: the caller's
    const char *cwd;   // entered as the new user
    bool set_user;     // change to uid, gid and exactly these groups
    uid_t uid;
    gid_t gid;
    const gid_t *groups;
    size_t ngroups;
    const struct spawn_rlimit *rlimits;
    size_t nrlimits;
    bool set_nice, set_oom_score_adj, set_umask;
    int nice;          // absolute, -20..19
    int oom_score_adj; // -1000..1000
    mode_t umask;
    const struct spawn_fd *fds; // all others are closed, but 0, 1 and 2
    size_t nfds;
    bool session;         // a session and process group of its own
    bool group;           // a process group of its own (in the caller's session)
    int death_signal;     // sent to the child when the caller's thread ends; 0: none
    const sigset_t *mask; // NULL: empty. All signals get their default action.
    int patience_ms;      // what the caller waits at most; 0: as long as it takes
};

// Starts it: *ret_pid is a child of the caller. When patience_ms is over and no step has failed
// yet, it is taken for started; a step that fails later is its end with code 127. -1: no child is
// left; e says which step failed and why ("cwd /x: No such file or directory"), errno is that of
// the step. e->code: EX_OSERR when no process could be made, EX_NOPERM, else EX_CONFIG.
int spawn_process(const struct spawn *s, pid_t *ret_pid, struct err *e);

// The path of a program of this project: beside the running binary, else its bare name (which
// spawn_process searches in PATH). Into buf; returns buf.
const char *spawn_sibling(const char *name, char *buf, size_t size);

#endif
