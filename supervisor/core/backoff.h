// How long a service waits before it starts again. Pure.
#ifndef CORE_BACKOFF_H
#define CORE_BACKOFF_H

#include <stdbool.h>
#include <stdint.h>

// Before restart number n in a row (from 0): first_ms, doubled each time, at most max_ms.
int64_t backoff_ms(int64_t first_ms, int64_t max_ms, int64_t n);

// Whether a service that was ready for so long has recovered: its restarts count from 0 again.
bool backoff_recovered(int64_t ready_ms, int64_t max_ms);

#endif
