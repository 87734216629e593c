// Processes that the kernel has killed because the container's memory was at its limit.
#ifndef RUN_OOM_H
#define RUN_OOM_H

#include "run/sup.h"

// Finds the control group and asks to be told of kills.
void oom_open(struct sup *s);

// The kernel says that something happened.
void oom_event(struct sup *s);

// The time has come to look again.
void oom_timer(struct sup *s);

// Whether there has been a kill since the last look: called for a process that SIGKILL ended.
bool oom_happened(struct sup *s);

// A process that is no service's main one was ended by SIGKILL.
void oom_orphan(struct sup *s, pid_t pid);

#endif
