// The time as records carry it, made once per millisecond.
#ifndef LOG_STAMP_H
#define LOG_STAMP_H

#include <stdint.h>

enum {
    STAMP_LEN = 24 // 2026-03-01T12:00:00.123Z
};

struct stamp {
    int64_t ms; // since the epoch; 0: not set yet
    char text[STAMP_LEN + 8];
};

// Sets s to the current time.
void stamp_now(struct stamp *s);

#endif
