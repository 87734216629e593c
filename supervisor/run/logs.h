// The plumbing of the services' output: one pipe per service and stream, of which process 1 keeps
// both ends (a restart of anything loses nothing), read by civinit-log; and civinit-forward behind
// it. With log = inherit there is none of this.
#ifndef RUN_LOGS_H
#define RUN_LOGS_H

#include "run/sup.h"

// Makes the pipes and turns our own log into one of them.
int logs_init(struct sup *s, struct err *e);

// Starts civinit-log and civinit-forward, if they are to run.
void logs_begin(struct sup *s);

// Tells civinit-log the process whose lines come from now on.
void logs_pid(struct sup *s, const char *name, pid_t pid);

// Whether the process that has ended was one of them.
bool logs_ended(struct sup *s, pid_t pid, int status);

void logs_timers(struct sup *s);

// The services have changed: civinit-log gets their streams.
void logs_reload(struct sup *s);

// Closes the pipes of a service that is gone.
void logs_drop(struct sup *s, struct svc *v);

// No more lines will come: our own log goes to stderr again, the logger may end.
void logs_finish(struct sup *s);

// Whether it has.
bool logs_gone(const struct sup *s);

void logs_kill(struct sup *s);

#endif
