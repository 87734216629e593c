#include "backup/keep.h"

#include <time.h>

enum {
    DAY = 86400,
};

// Each gives two moments of the same period the same number.
static int64_t day_of(int64_t t) {
    return t / DAY;
}

static int64_t week_of(int64_t t) {
    return (t / DAY + 3) / 7; // 1970-01-01 was a Thursday; weeks begin on Monday
}

static int64_t month_of(int64_t t) {
    time_t at = t;
    struct tm tm;
    gmtime_r(&at, &tm);
    return tm.tm_year * 12L + tm.tm_mon;
}

static int64_t year_of(int64_t t) {
    return month_of(t) / 12;
}

static void keep_periods(struct kept *a, size_t n, int count, int64_t (*period)(int64_t),
                         const char *why) {
    bool any = false;
    int64_t last = 0;
    for (size_t i = 0; i < n && count > 0; i++) {
        int64_t p = period(a[i].time);
        if (any && p == last)
            continue;
        any = true;
        last = p;
        count--;
        if (!a[i].keep)
            a[i].why = why;
        a[i].keep = true;
    }
}

bool keep_any(const struct keep_rules *r) {
    return r->last || r->daily || r->weekly || r->monthly || r->yearly;
}

void keep_choose(const struct keep_rules *r, struct kept *a, size_t n) {
    for (size_t i = 0; i < n; i++)
        a[i] = (struct kept){a[i].time, false, NULL};
    for (size_t i = 0; i < n && (i < (size_t)r->last || !keep_any(r)); i++) {
        a[i].keep = true;
        a[i].why = "last";
    }
    keep_periods(a, n, r->daily, day_of, "daily");
    keep_periods(a, n, r->weekly, week_of, "weekly");
    keep_periods(a, n, r->monthly, month_of, "monthly");
    keep_periods(a, n, r->yearly, year_of, "yearly");
    if (n && !a[0].keep) {
        a[0].keep = true;
        a[0].why = "newest";
    }
}
