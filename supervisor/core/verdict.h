// What the end of a service's process means. Pure.
#ifndef CORE_VERDICT_H
#define CORE_VERDICT_H

#include "core/svc.h"

#include <stdbool.h>
#include <stdint.h>

enum verdict_policy {
    VERDICT_ALWAYS,
    VERDICT_ON_FAILURE,
    VERDICT_NEVER,
};

struct verdict {
    bool main;          // of the container
    bool asked;         // it was stopped because a person or the container's end wants it
    bool failed_check;  // it was stopped because it was unhealthy or not ready in time
    bool never_ready;   // … in time, and it had not been ready once before
    int code;           // its exit code, if signal is 0
    int signal;         // what killed it, or 0
    int stop_signal;    // what it is asked to stop with
    const int *success; // further exit codes that are success
    unsigned nsuccess;
    enum verdict_policy policy; // a task: VERDICT_ON_FAILURE
    int64_t restarts;           // in a row, until now
    int64_t max_restarts;       // 0: no limit
};

// Whether it ended well. One that was asked to stop may die of the stop signal, or say 128 + its
// number; a sidecar that was asked has always ended well.
bool verdict_ok(const struct verdict *v);

// SVC_AGAIN, SVC_ENDED, SVC_FINISHED or SVC_GAVE_UP.
enum svc_event verdict_event(const struct verdict *v);

// The container's exit code when the service decides it: 0 if it ended well, its own code, or
// 128 + the signal's number.
int verdict_code(const struct verdict *v);

#endif
