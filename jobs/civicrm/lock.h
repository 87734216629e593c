// A lock between pods: MySQL's GET_LOCK on a connection of its own, so that it ends with its
// holder however that ends.
#ifndef CIVICRM_LOCK_H
#define CIVICRM_LOCK_H

#include "helper.h"

#include <stddef.h>
#include <stdint.h>

enum {
    LOCK_NAME_MAX = 64 // characters, MySQL's limit
};

// The server-wide name of lock `name` of the database: "civinit:DATABASE:NAME"; what does not fit
// is replaced by a hash of it. Into buf (LOCK_NAME_MAX + 1 bytes); returns buf.
const char *lock_name(const char *database, const char *name, char *buf);

// Takes the lock, waiting at most wait_ms, prints "held" or "busy WHO", and keeps it until stdin
// is closed. Returns the exit code: 0; EX_TEMPFAIL when it is busy; else with e set (EX_UNAVAILABLE
// when the connection was lost: "lost WHY" has been printed).
int lock_run(struct helper *h, const char *name, int64_t wait_ms, struct err *e);

#endif
