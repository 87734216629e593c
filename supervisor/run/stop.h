// The end of the container: what begins it, and that it is over in time.
#ifndef RUN_STOP_H
#define RUN_STOP_H

#include "run/sup.h"

// SIGTERM or SIGINT came.
void stop_asked(struct sup *s, int sig);

// Another signal came: it is the main service's.
void stop_forward(struct sup *s, int sig);

// The main service has ended for good; code is the container's then.
void stop_main_ended(struct sup *s, const struct svc *v, int code);

// Looks whether the container has to end, and how far its end is. Whether something changed.
bool stop_settle(struct sup *s);

void stop_timers(struct sup *s);

// When a service that is told to stop now is killed (monotonic).
int64_t stop_timeout(const struct sup *s, const struct svc *v);

// A signal to its main process; when that has gone: SIGTERM to the rest of its group.
void stop_signal(struct svc *v, int sig);

// SIGKILL to its main process and its group.
void stop_kill(struct svc *v);

#endif
