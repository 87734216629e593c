#include "log/stamp.h"

#include "base/clock.h"

void stamp_now(struct stamp *s) {
    int64_t now = clock_wall_ms();
    if (now == s->ms)
        return;
    s->ms = now;
    clock_rfc3339(now, s->text, sizeof s->text);
}
