#include "cron/next.h"

#include <stdbool.h>

enum {
    DAY_S = 86400,
    YEARS = 41 // 29 February on a given weekday: 28 years, 40 around 2100
};

static int64_t floor_div(int64_t a, int64_t b) {
    return a / b - (a % b < 0);
}

// The first minute of the day, from `from` on, that matches; -1: none.
static int minute_of_day(const struct expr *x, int from) {
    for (int hour = from / 60; hour < 24; hour++) {
        int minute = hour == from / 60 ? from % 60 : 0;
        uint64_t left = x->minutes >> minute;
        if (x->hours >> hour & 1 && left)
            return hour * 60 + minute + __builtin_ctzll(left);
    }
    return -1;
}

// The first local time from local_s on that matches, in seconds.
static int64_t next_local(const struct expr *x, int64_t local_s) {
    int64_t minute = floor_div(local_s + 59, 60);
    int64_t day = floor_div(minute, DAY_S / 60);
    int from = (int)(minute - day * (DAY_S / 60));
    for (int64_t last = day + 366LL * YEARS; day <= last; from = 0) {
        int64_t year;
        int month, mday;
        zone_date(day, &year, &month, &mday);
        if (!(x->months >> month & 1)) {
            day = month == 12 ? zone_days(year + 1, 1, 1) : zone_days(year, month + 1, 1);
            continue;
        }
        int weekday = (int)(((day + 4) % 7 + 7) % 7);
        int found = expr_day(x, month, mday, weekday) ? minute_of_day(x, from) : -1;
        if (found >= 0)
            return day * DAY_S + found * 60;
        day++;
    }
    return NEXT_NEVER;
}

// Due right at the beginning of a stretch, because the gap before it swallowed a fixed time.
static bool in_gap(const struct expr *x, const struct zone_stretch *s) {
    return s->offset_s > s->before_s &&
           next_local(x, s->begin + s->before_s) < s->begin + s->offset_s;
}

static int64_t cron_due(const struct expr *x, const struct zone *z, int64_t after_ms) {
    int64_t from = floor_div(after_ms, 1000) + 1;
    for (;;) {
        struct zone_stretch s = zone_at(z, from);
        if (x->fixed && from == s.begin && in_gap(x, &s))
            return from * 1000;
        int64_t local = from + s.offset_s;
        if (x->fixed && s.offset_s < s.before_s && local < s.begin + s.before_s)
            local = s.begin + s.before_s; // the second time round
        int64_t found = next_local(x, local);
        if (found == NEXT_NEVER)
            return NEXT_NEVER;
        if (found - s.offset_s < s.end)
            return (found - s.offset_s) * 1000;
        from = s.end;
    }
}

int64_t next_due(const struct expr *x, const struct zone *z, int64_t phase_ms, int64_t after_ms) {
    after_ms -= phase_ms;
    int64_t due = NEXT_NEVER;
    if (x->kind == EXPR_EVERY)
        due = (floor_div(after_ms, x->every_ms) + 1) * x->every_ms;
    else if (x->kind == EXPR_CRON)
        due = cron_due(x, z, after_ms);
    return due == NEXT_NEVER ? due : due + phase_ms;
}

int64_t next_phase(const char *name, int64_t splay_ms) {
    if (splay_ms <= 0)
        return 0;
    uint64_t h = 0xcbf29ce484222325ULL; // FNV-1a, then a final mix: short names differ in few bits
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 0x100000001b3ULL;
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdULL;
    h ^= h >> 33;
    return (int64_t)(h % (uint64_t)splay_ms);
}
