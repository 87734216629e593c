// Services that say themselves that they are ready: sd_notify(3) datagrams and fd:N.
#ifndef RUN_NOTIFY_H
#define RUN_NOTIFY_H

#include "run/sup.h"

// Before a start: makes what the service's `ready` needs. *ret_write: the end of a pipe that the
// child gets, the caller's to close; untouched if it needs none.
int notify_open(struct sup *s, struct svc *v, int *ret_write, struct err *e);

// Something came from service number `index`.
void notify_read(struct sup *s, size_t index);
void notify_fd_read(struct sup *s, size_t index);

// The process that MAINPID= named is no matter any more.
void notify_forget_main(struct svc *v);

void notify_close(struct sup *s, struct svc *v);

#endif
