// Time: the monotonic clock for deadlines, the wall clock for people.
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

// Milliseconds of CLOCK_MONOTONIC.
int64_t clock_mono_ms(void);

// Milliseconds since the epoch.
int64_t clock_wall_ms(void);

// RFC 3339 in UTC with milliseconds, "2026-03-01T12:00:00.123Z"; needs 32 bytes. Returns buf.
// Does not use the time zone database.
const char *clock_rfc3339(int64_t wall_ms, char *buf, size_t size);

#endif
