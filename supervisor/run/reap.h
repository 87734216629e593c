// Ends of processes: whose they were, and what that means.
#ifndef RUN_REAP_H
#define RUN_REAP_H

#include "run/sup.h"

// Reaps everything that has ended.
void reap_all(struct sup *s);

// What MAINPID= named has ended; it need not have been our child.
void reap_main_pid(struct sup *s, size_t index);

// A service that could not be started.
void reap_unborn(struct sup *s, struct svc *v);

// Its process group was killed and is still there (a zombie of another's, a process in the
// kernel): goes on without it.
void reap_give_up(struct sup *s, struct svc *v);

#endif
