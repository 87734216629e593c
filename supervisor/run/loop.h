// The one epoll of process 1: who is told about which descriptor.
#ifndef RUN_LOOP_H
#define RUN_LOOP_H

#include "run/sup.h"

enum loop_kind {
    LOOP_SIGNALS,
    LOOP_CONTROL,
    LOOP_CLIENT,   // index: of the client
    LOOP_NOTIFY,   // index: of the service
    LOOP_READY_FD, // index: of the service
    LOOP_MAIN_PID, // index: of the service
    LOOP_CHECK,    // index: of the service
    LOOP_OOM,
};

// Blocks all signals but those of our own faults: the first thing of all, so that a SIGTERM that
// comes while the configuration is read waits (process 1 would not even see it).
void loop_block(void);

// Makes epoll and signalfd; loop_block has been called.
int loop_init(struct sup *s, struct err *e);

// Watches fd for input; again for the same fd: with a new index. 0, or -1 with errno.
int loop_watch(struct sup *s, int fd, enum loop_kind kind, size_t index);

// Does not watch it any more, until loop_watch.
void loop_ignore(struct sup *s, int fd);

// Waits until something happens or until_ms (monotonic; 0: forever) and lets it be handled.
void loop_once(struct sup *s, int64_t until_ms);

// Gives the pages of the program's own text back: starting up touched most of them, waiting needs
// few, and they come back from the page cache when used (madvise(2), MADV_DONTNEED on a file
// mapping). Worth calling once, when all is started and nothing is due.
void loop_slim(void);

#endif
