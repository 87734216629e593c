// The supervisor: the imperative shell around core/. It owns every service's process, feeds the
// state table with what happens, and does what the table says.
//
//     signals · exits · readiness · control · clock → sup_feed → (state, actions) → fork · kill ·
//     timer
//
// After sup_init nothing is allocated: all is sized by the plan. Only reload.c makes a second plan.
#ifndef RUN_SUP_H
#define RUN_SUP_H

#include "base/cgroup.h"
#include "base/statusfile.h"
#include "conf/plan.h"
#include "core/svc.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    SUP_CLIENTS = 8,
    SUP_STATUS = 160, // longest STATUS= text that is kept
    SUP_REASON = 240,
    SUP_PATIENCE_MS = 100, // with a file system that hangs while a process is started
};

// Why a service was told to stop.
enum svc_cause {
    CAUSE_NONE,
    CAUSE_ASKED, // the container ends, a person, or a reload
    CAUSE_UNHEALTHY,
    CAUSE_NOT_READY,
};

// One service at run time.
struct svc {
    const struct plan_service *def;
    const struct plan_service *next; // what it becomes when it is down (after a reload), or NULL
    enum svc_state state;
    bool wanted;
    bool removed; // by a reload: it goes when it is down
    enum svc_cause cause;
    bool was_ready;     // at least once, in any of its lives
    bool unavailable;   // its last failure was that of a check or of its time, not of its process
    pid_t pid;          // the main process; 0: none, or it has ended and left others of its group
    pid_t leader;       // who we started, until it has ended; differs from pid after MAINPID=
    pid_t group;        // process group of all it started that stayed there; 0: none
    bool killed;        // SIGKILL has been sent
    int64_t timer_ms;   // monotonic: ready timeout, stop timeout or backoff, by state; 0: none
    int64_t started_ms; // monotonic
    int64_t ready_at_ms;
    int64_t since_ms; // wall clock
    int64_t in_row, restarts;
    int64_t took_ms;  // from start to ready; -1: never yet
    int code, signal; // of the last end; code -1: none yet
    bool oom;
    pid_t check; // running readiness or health check; 0: none
    int check_fd;
    bool check_late;        // it was killed because it took too long
    bool check_anew;        // a reload has made it another one
    int64_t check_ms;       // when the next one starts, or when the running one is killed; 0: never
    int64_t check_pause_ms; // between two tries of readiness
    int64_t unhealthy;
    int ready_fd;       // read end of fd:N
    int pid_fd;         // tells the end of a pid of MAINPID=, which need not be our child; or -1
    int notify_fd;      // receives its sd_notify datagrams
    int out[2], err[2]; // pipes to civinit-log: read end, write end; -1: inherits
    char status[SUP_STATUS], reason[SUP_REASON];
    char waits[SUP_REASON]; // before it is ready: what for, in our words or in its check's
    bool check_said;        // in its check's
};

enum sup_phase {
    SUP_RUNNING,
    SUP_DRAINING, // not ready any more, nothing stopped yet
    SUP_STOPPING, // services stop in reverse order
    SUP_REST,     // processes that left their groups are told to end
    SUP_LOGS,     // the logger writes what it has
    SUP_GONE,
};

struct client {
    int fd; // -1: free
    size_t len;
    int64_t until_ms;
    char line[300];
};

// A helper of the supervisor itself: civinit-log, civinit-forward.
struct aide {
    const char *name;
    char path[512];
    pid_t pid;
    int64_t again_ms, backoff_ms, started_ms;
};

struct sup {
    struct plan *plan;
    struct plan *old; // until the last service of it is down after a reload
    struct plan_options options;
    struct svc *svc; // in the plan's order; removed ones behind them
    size_t n;
    int epoll, signals, control, oom_fd, spare; // spare: given up when descriptors run out
    int64_t control_ms; // when the control socket is looked at again; 0: it is
    struct client clients[SUP_CLIENTS];
    struct cgroup cgroup;
    int64_t oom_base, oom_seen; // the kernel's count at our start and at the last look; -1: none
    int64_t oom_kills;          // since our start
    int64_t oom_ms;             // when the kernel's count is looked at again; 0: not
    int oom_tries;
    int64_t oom_unnamed; // of these: not yet credited to a process
    enum sup_phase phase;
    int64_t now_ms;      // monotonic, as of this round
    int64_t drain_ms;    // when draining ends
    int64_t kill_ms;     // when all that is left is killed, 0: not stopping
    int64_t deadline_ms; // when we are gone, whatever happens
    int64_t scan_ms;     // when the rest is looked at again; 0: not
    int64_t publish_ms;  // while stopping: when the status file is written, if need be
    bool rest_killed;
    bool no_children;  // the last wait said so
    bool reaped;       // something has been, since the last look
    int code;          // of the container
    bool code_of_main; // the main service's end may still replace it
    char reason[SUP_REASON];
    int64_t started_ms; // wall clock
    bool dirty;         // the status file is to be written
    bool announced;     // run dir and control socket have been made
    bool slim;          // loop_slim was called
    bool publish_failed;
    struct statusfile_service *lines;
    char *text;
    size_t text_size;
    struct aide log, forward;
    int own_log[2], log_control[2], records[2];
    char **log_argv;
    struct spawn_fd *log_fds;
};

// Prepares all that running p takes; signals are blocked already (loop_block). e says what is not
// to be had.
int sup_init(struct sup *s, struct plan *p, const struct plan_options *o, struct err *e);

// Runs until everything has ended; the container's exit code.
int sup_run(struct sup *s);

// An event for a service: what the table says happens.
void sup_feed(struct sup *s, struct svc *v, enum svc_event event);

// Says why a service is or will be in a state.
__attribute__((format(printf, 2, 3))) void sup_because(struct svc *v, const char *fmt, ...);

// The service of that name, or NULL.
struct svc *sup_find(struct sup *s, const char *name);

// A fresh service in the state down.
void sup_blank(struct svc *v, const struct plan_service *def);

#endif
