// When a schedule comes due. Pure: no clock, no system call.
//
// Where the clocks change, as in Debian's cron: a schedule of fixed times (neither minute nor hour
// begins with "*") whose local time does not exist that day is due once, right after the gap; one
// whose local time comes twice is due the first time only. Schedules with "*" follow real time:
// every hour stays every hour.
#ifndef CRON_NEXT_H
#define CRON_NEXT_H

#include "cron/expr.h"
#include "cron/zone.h"

#include <stdint.h>

#define NEXT_NEVER INT64_MAX

// The first time after after_ms that x is due, in milliseconds since the epoch. phase_ms is added
// to every time: 0, or an instance's fixed share of its splay. EXPR_START is never due by time.
int64_t next_due(const struct expr *x, const struct zone *z, int64_t phase_ms, int64_t after_ms);

// The fixed phase of a name: from 0 to less than splay_ms, the same at every start (FNV-1a).
int64_t next_phase(const char *name, int64_t splay_ms);

#endif
