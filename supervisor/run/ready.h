// Readiness and health: the checks that run for a service, and what their outcome means.
#ifndef RUN_READY_H
#define RUN_READY_H

#include "run/sup.h"

// A service's process has just been started: begin whatever finds out that it is ready.
void ready_begin(struct sup *s, struct svc *v);

// It has become ready: begin its health checks.
void ready_watch_health(struct sup *s, struct svc *v);

// The time of a check has come: to start it, or to kill it because it takes too long.
void ready_timer(struct sup *s, struct svc *v);

// After a reload: what is asked may be another question (check_anew), asked more often, or nothing.
void ready_anew(struct sup *s, struct svc *v);

// The ready timeout is over.
void ready_late(struct sup *s, struct svc *v);

// The readiness check of service number `index` has printed something: why it still waits.
void ready_check_said(struct sup *s, size_t index);

// A check has ended (wait status).
void ready_check_ended(struct sup *s, struct svc *v, int status);

// Ends all checks.
void ready_cancel(struct svc *v);

#endif
