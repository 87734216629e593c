// The plan: what a role's configuration means, checked, in order, frozen. All memory that process
// 1 needs while it runs is sized by it.
#ifndef CONF_PLAN_H
#define CONF_PLAN_H

#include "base/arena.h"
#include "base/err.h"
#include "base/spawn.h"
#include "conf/conf.h"
#include "conf/user.h"
#include "core/verdict.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    PLAN_SERVICES = 256,    // most services and tasks
    PLAN_NOTIFY_ROOM = 128, // of the environment's NOTIFY_SOCKET=
    PLAN_GRACE_ROOM = 40,   // of its CIVINIT_GRACE=
    PLAN_LAST_PART = 1000,  // ms of the grace time: for what has to be killed, and the logger
    PLAN_PER_LEVEL = 200,   // ms of it kept for each service that can only be stopped later
};

struct plan_check {
    enum {
        CHECK_NONE,
        CHECK_NOTIFY, // sd_notify datagram
        CHECK_FD,     // a newline on descriptor fd
        CHECK_PROBE,  // argv is civinit-probe, runs as civinit's user, and can wait itself
        CHECK_EXEC,   // argv is the service's own, runs as its user, and is tried again and again
    } kind;
    int fd;
    const char *text; // as written
    char **argv;
};

enum plan_log {
    PLAN_INHERIT,
    PLAN_TEXT,
    PLAN_JSON,
    PLAN_LOGFMT,
};

struct plan_service {
    const char *name;
    bool task;
    bool main;
    size_t *after, nafter; // indices in the plan
    size_t depth;          // how many must be stopped one after the other behind it
    char **argv, **envp;
    char
        *notify_env; // the entry of envp that the address of the notify socket is put into, or NULL
    char *grace_env; // that of CIVINIT_GRACE
    struct plan_check ready, health;
    int64_t ready_timeout_ms; // a task: how long it may run
    int64_t health_interval_ms, health_timeout_ms, health_failures;
    enum verdict_policy restart;
    int64_t backoff_ms, backoff_max_ms, max_restarts; // 0: no limit
    int stop_signal, reload_signal;                   // 0: none
    int64_t stop_timeout_ms;
    int *success;
    unsigned nsuccess;
    bool set_user;
    struct user user;
    const char *cwd;
    struct spawn_rlimit *rlimits;
    size_t nrlimits;
    bool set_nice, set_oom_score_adj;
    int nice, oom_score_adj;
    enum plan_log log;
    uint64_t hash; // of all that its process is started with
};

struct plan {
    struct arena arena;
    struct plan_service *services; // each after what it comes after
    size_t n;
    size_t main; // index, or n: none (only tasks: it ends when they are done)
    int64_t grace_ms, drain_ms;
    enum plan_log log; // of the container
    bool set_umask;
    mode_t umask;
    const char *role, *config, *run_dir, *termination_log;
    bool forward, forward_stdout;
    uint64_t hash; // of what a reload cannot change
};

struct plan_options {
    const char *role;   // as on the command line
    const char *config; // path
    char **words;       // appended to the main service's command, NULL-terminated, or NULL
    bool once;          // the main service runs once, whatever its restart key says
};

// The sections that a plan needs values of, for conf_load.
extern const char *const plan_sections[];

// Makes p (zero-initialised) of c. Problems are added to c->problems; p is usable only if there
// are none. -1 with e: out of memory. p keeps nothing of c.
int plan_make(struct plan *p, struct conf *c, const struct plan_options *o, struct err *e);

// The part of the grace time at its end in which everything is killed.
int64_t plan_last_part(const struct plan *p);

// How long a service has from its stop signal to SIGKILL at the container's end, if those that stop
// before it take no time.
int64_t plan_stop_ms(const struct plan *p, const struct plan_service *s);

void plan_free(struct plan *p);

#endif
