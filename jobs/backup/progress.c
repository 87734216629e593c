#include "backup/progress.h"

#include "base/clock.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    DRAW_MS = 100,
    BAR = 24,
};

void progress_start(struct progress *p, bool quiet, int64_t total_bytes) {
    *p = (struct progress){.shown = !quiet && isatty(STDERR_FILENO),
                           .phase = "",
                           .total = total_bytes,
                           .began_ms = clock_mono_ms()};
}

static void draw(struct progress *p, int64_t now) {
    char done[32], total[32], rate[32], left[32], bar[BAR + 1], line[256];
    int64_t ms = now - p->began_ms > 0 ? now - p->began_ms : 1, per_s = p->done * 1000 / ms;
    text_bytes(p->done, done, sizeof done);
    text_bytes(per_s, rate, sizeof rate);
    p->drawn_ms = now;
    if (p->total <= 0) {
        snprintf(line, sizeof line, "%-8s %s  %s/s", p->phase, done, rate);
    } else {
        double part = p->done >= p->total ? 1 : (double)p->done / (double)p->total;
        memset(bar, ' ', BAR);
        memset(bar, '#', (size_t)(part * BAR));
        bar[BAR] = 0;
        text_bytes(p->total, total, sizeof total);
        int64_t rest = per_s > 0 && p->total > p->done ? (p->total - p->done) / per_s * 1000 : 0;
        text_ms(rest, left, sizeof left);
        snprintf(line, sizeof line, "%-8s [%s] %3d%%  %s of about %s  %s/s  %s left", p->phase, bar,
                 (int)(part * 100), done, total, rate, left);
    }
    dprintf(STDERR_FILENO, "\r%s\033[K", line);
}

void progress_phase(struct progress *p, const char *phase) {
    p->phase = phase;
    if (p->shown)
        draw(p, clock_mono_ms());
}

void progress_add(struct progress *p, int64_t bytes) {
    p->done += bytes;
    if (!p->shown)
        return;
    int64_t now = clock_mono_ms();
    if (now - p->drawn_ms >= DRAW_MS)
        draw(p, now);
}

void progress_clear(struct progress *p) {
    if (p->shown)
        dprintf(STDERR_FILENO, "\r\033[K");
}
