// The life of civinit-log: reads what services write until all streams have ended.
#ifndef LOG_LOOP_H
#define LOG_LOOP_H

#include "base/err.h"
#include "log/options.h"

// Runs to the end. 0: everything is written; EX_IOERR: something could not be; -1 with e: could
// not begin. SIGTERM: what can be read now is written, then it ends, and a successor may go on
// reading. A second SIGTERM ends it at once, also in the middle of a write.
int loop_run(struct options *o, struct err *e);

#endif
