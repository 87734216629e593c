// The state machine of one service or task, as data: what happens in a state, which state follows
// and what is to be done. Pure: no system call, no clock, no log.
//
//     down → starting → ready → stopping → down         with backoff, failed and (ended well) done
#ifndef CORE_SVC_H
#define CORE_SVC_H

#include <stdbool.h>

enum svc_state {
    SVC_DOWN,
    SVC_STARTING, // it has a process, but is not ready
    SVC_READY,
    SVC_STOPPING, // its process was told to end, or has ended and left others of its group
    SVC_BACKOFF,  // it will start again when some time has passed
    SVC_FAILED,   // it will not start again by itself
    SVC_DONE,     // it ended with success and is not to start again
    SVC_STATES,
};

enum svc_event {
    SVC_START,    // it is wanted, and all it comes after is ready
    SVC_IS_READY, // its readiness check said so
    SVC_STOP,     // it shall end: unwanted and no longer needed, unhealthy, not ready in time, …
    SVC_LEAVES,   // it says itself that it ends
    SVC_LATE,     // its stop timeout is over
    SVC_LEFTOVER, // its main process has ended, others of its process group have not
    SVC_AGAIN,    // no process is left, and it shall start again: see verdict.h
    SVC_ENDED,    // no process is left, as was asked for
    SVC_FINISHED, // no process is left: it ended well by itself
    SVC_GAVE_UP,  // no process is left: it failed, or has failed too often
    SVC_WAITED,   // its backoff is over
    SVC_RESET,    // a person wants it to start from scratch
    SVC_EVENTS,
};

enum svc_action {
    SVC_SPAWN = 1,      // start its process
    SVC_TERM = 2,       // send its stop signal
    SVC_ARM_STOP = 4,   // start the stop timeout
    SVC_KILL = 8,       // SIGKILL to its process group
    SVC_ARM_AGAIN = 16, // start the backoff
    SVC_FORGET = 32,    // it has no process any more: end its checks and timers
};

struct svc_step {
    enum svc_state next;
    unsigned actions; // of enum svc_action
    bool moved;       // the event means something in this state
};

struct svc_step svc_step(enum svc_state state, enum svc_event event);

// Whether a service in this state has a process.
bool svc_alive(enum svc_state state);

const char *svc_name(enum svc_state state);

#endif
