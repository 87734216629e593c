#include "core/backoff.h"

int64_t backoff_ms(int64_t first_ms, int64_t max_ms, int64_t n) {
    int64_t ms = first_ms;
    for (; n > 0 && ms < max_ms && ms > 0; n--)
        ms = ms > INT64_MAX / 2 ? INT64_MAX : ms * 2;
    return ms < max_ms ? ms : max_ms;
}

// Longer than the longest wait: one that always fails right after it was ready stays counted.
bool backoff_recovered(int64_t ready_ms, int64_t max_ms) {
    enum {
        AT_LEAST = 10000
    };
    return ready_ms >= (max_ms > AT_LEAST ? max_ms : AT_LEAST);
}
