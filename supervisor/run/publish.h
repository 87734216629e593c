// The status file: what civinit status, ready, live and civinit-statusd read.
#ifndef RUN_PUBLISH_H
#define RUN_PUBLISH_H

#include "run/sup.h"

// Allocates what writing takes, for s->n services. -1: out of memory.
int publish_room(struct sup *s);

// Makes the run dir if it is not there. A failure is said once, by publish.
void publish_run_dir(struct sup *s);

// Writes the file. What fails is said once and tried again with the next change.
void publish(struct sup *s);

#endif
