// The life of civinit-forward: records from standard input to a server.
#ifndef FORWARD_LOOP_H
#define FORWARD_LOOP_H

#include "base/err.h"
#include "forward/settings.h"

// Runs until standard input has ended, or SIGTERM, and everything has arrived or the time for that
// is over. 0: all has arrived; EX_UNAVAILABLE: some was dropped or has not; -1 with e: could not
// begin.
int loop_run(const struct settings *s, struct err *e);

#endif
