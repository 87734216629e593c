// Starting the process of a service.
#ifndef RUN_LAUNCH_H
#define RUN_LAUNCH_H

#include "run/sup.h"

// Starts it: pid, leader and group are set. -1: v->reason says why not, v->code is the exit code
// that stands for it.
int launch(struct sup *s, struct svc *v);

#endif
