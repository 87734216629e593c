// Due times against brute force: every minute of four years is asked of libc's localtime, and a
// reader of expressions that shares nothing with expr.c decides whether it matches.
#include "cron/next.h"

#include <criterion/criterion.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum {
    MINUTES = 4 * 366 * 1440,
    BEGIN = 1671580800 // 2022-12-21T00:00:00Z
};

struct minute {
    short local_minute, month, day, weekday; // minute of the day
    int number;                              // of the local minute, since the epoch
};
static struct minute minutes[MINUTES + 1];

static void fill(const char *zone) {
    setenv("TZ", zone, 1);
    tzset();
    for (int i = 0; i <= MINUTES; i++) {
        time_t t = BEGIN + i * 60LL;
        struct tm tm;
        localtime_r(&t, &tm);
        minutes[i] =
            (struct minute){(short)(tm.tm_hour * 60 + tm.tm_min), (short)(tm.tm_mon + 1),
                            (short)tm.tm_mday, (short)tm.tm_wday, (int)((t + tm.tm_gmtoff) / 60)};
    }
}

static int name_or_number(const char *word) {
    static const char *const names[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat"};
    static const char *const months[] = {"jan", "feb", "mar", "apr", "may", "jun",
                                         "jul", "aug", "sep", "oct", "nov", "dec"};
    for (int i = 0; i < 7; i++)
        if (strncasecmp(word, names[i], 3) == 0)
            return i;
    for (int i = 0; i < 12; i++)
        if (strncasecmp(word, months[i], 3) == 0)
            return i + 1;
    return atoi(word);
}

// Whether value is in a field, the slow way.
static bool in_field(const char *field, int value, int min, int max, bool weekday) {
    char copy[100], *save;
    snprintf(copy, sizeof copy, "%s", field);
    for (char *part = strtok_r(copy, ",", &save); part; part = strtok_r(NULL, ",", &save)) {
        char *slash = strchr(part, '/'), *dash = strchr(part, '-');
        int step = slash ? atoi(slash + 1) : 1;
        int low = *part == '*' ? min : name_or_number(part);
        int high = *part == '*' ? max : dash ? name_or_number(dash + 1) : low;
        for (int v = low; v <= high; v += step)
            if (v == value || (weekday && v == 7 && value == 0))
                return true;
    }
    return false;
}

struct oracle {
    bool minute[60], hour[24], day[32], month[13], weekday[7];
    bool both, fixed;
};

static struct oracle oracle_make(const char *text) {
    char f[5][100];
    struct oracle o = {0};
    sscanf(text, "%99s %99s %99s %99s %99s", f[0], f[1], f[2], f[3], f[4]);
    for (int i = 0; i < 60; i++)
        o.minute[i] = in_field(f[0], i, 0, 59, false);
    for (int i = 0; i < 24; i++)
        o.hour[i] = in_field(f[1], i, 0, 23, false);
    for (int i = 1; i < 32; i++)
        o.day[i] = in_field(f[2], i, 1, 31, false);
    for (int i = 1; i < 13; i++)
        o.month[i] = in_field(f[3], i, 1, 12, false);
    for (int i = 0; i < 7; i++)
        o.weekday[i] = in_field(f[4], i, 0, 6, true);
    o.both = f[2][0] == '*' || f[4][0] == '*';
    o.fixed = f[0][0] != '*' && f[1][0] != '*';
    return o;
}

static bool matches(const struct oracle *o, int local_minute, int month, int day, int weekday) {
    bool d = o->day[day], w = o->weekday[weekday];
    return o->minute[local_minute % 60] && o->hour[local_minute / 60] && o->month[month] &&
           (o->both ? d && w : d || w);
}

// A local minute that no clock showed: its date from its number, by gmtime.
static bool skipped_matches(const struct oracle *o, int number) {
    time_t t = number * 60LL;
    struct tm tm;
    gmtime_r(&t, &tm);
    return matches(o, tm.tm_hour * 60 + tm.tm_min, tm.tm_mon + 1, tm.tm_mday, tm.tm_wday);
}

static bool due(const struct oracle *o, int i) {
    const struct minute *m = &minutes[i];
    bool match = matches(o, m->local_minute, m->month, m->day, m->weekday);
    if (!o->fixed)
        return match;
    for (int n = minutes[i - 1].number + 1; n < m->number && !match; n++)
        match = skipped_matches(o, n);
    for (int back = 1; match && back <= 180 && back <= i; back++)
        if (minutes[i - back].number == m->number)
            return false; // the second time round
    return match;
}

static const char *const expressions[] = {
    "* * * * *",
    "*/5 * * * *",
    "0 * * * *",
    "30 * * * *",
    "0 0 * * *",
    "30 2 * * *",
    "0,30 2 * * *",
    "15 1-3 * * *",
    "*/10 2 * * *",
    "59 1 * * *",
    "0 3 * * *",
    "45 1 * * sun",
    "0 2 1 * *",
    "0 12 29 feb *",
    "0 0 1,15 * mon",
    "0 0 */2 * mon",
    "0 0 13 * */5",
    "5-55/25 8-18/5 * mar-oct mon-fri",
    "0 0 31 * *",
    "0 22 * * 5-7",
    "17 4 28-31 2,10 *",
    "0 2 * 3,10,11 0",
    "30 0-4 * * *",
    "1 2-3 25-31 3 *",
    "7 1 1-7 apr,oct,nov 7",
    "* 2 * * sun",
    "0 2,3 * * *",
};

static void compare(const char *name) {
    fill(name);
    struct zone *z;
    struct err e = {0};
    cr_assert(zone_load(name, &z, &e) == 0, "%s", e.text);
    for (unsigned n = 0; n < sizeof expressions / sizeof *expressions; n++) {
        struct expr x;
        cr_assert(expr_parse(expressions[n], &x, &e) == 0, "%s", e.text);
        struct oracle o = oracle_make(expressions[n]);
        int64_t next = next_due(&x, z, 0, (int64_t)BEGIN * 1000);
        int found = 0;
        for (int i = 1; i < MINUTES; i++) {
            if (!due(&o, i))
                continue;
            int64_t want = (BEGIN + i * 60LL) * 1000;
            cr_assert(next == want, "%s in %s: %lld, want %lld (minute %d)", expressions[n], name,
                      (long long)next, (long long)want, i);
            next = next_due(&x, z, 0, next);
            found++;
        }
        cr_assert(found >= 1, "%s", expressions[n]);
        cr_assert(next >= (BEGIN + MINUTES * 60LL) * 1000, "%s in %s: one too many", expressions[n],
                  name);
    }
    zone_free(z);
}

Test(next, brute_force_paris) {
    compare("Europe/Paris");
}
Test(next, brute_force_new_york) {
    compare("America/New_York");
}
Test(next, brute_force_lord_howe) {
    compare("Australia/Lord_Howe");
}
Test(next, brute_force_utc) {
    compare("UTC");
}

// Far ahead the rule at the end of the file counts; libc reads the same rule.
Test(next, the_zone_rules_of_the_far_future) {
    static const char *const zones[] = {
        "Europe/Paris",      "America/New_York", "Australia/Lord_Howe",
        "Africa/Casablanca", "Asia/Kolkata",     "America/Santiago",
        "Pacific/Apia",      "Etc/GMT+5",        "Asia/Tehran"};
    for (unsigned n = 0; n < sizeof zones / sizeof *zones; n++) {
        struct zone *z;
        struct err e = {0};
        cr_assert(zone_load(zones[n], &z, &e) == 0, "%s", e.text);
        setenv("TZ", zones[n], 1);
        tzset();
        for (time_t t = 0; t < 7000000000; t += 3600 * 7 + 11) {
            struct tm tm;
            localtime_r(&t, &tm);
            struct zone_stretch s = zone_at(z, t);
            cr_assert(s.offset_s == tm.tm_gmtoff, "%s at %lld: %d, want %ld", zones[n],
                      (long long)t, s.offset_s, tm.tm_gmtoff);
            cr_assert(s.begin <= t && t < s.end);
        }
        zone_free(z);
    }
}

Test(next, zones_that_do_not_exist) {
    static const char *const names[] = {
        "",        "Europe/Atlantis", "../etc/passwd", "/etc/passwd",
        "Europe/", "zone.tab",        "Europe",        "a b"};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        struct zone *z;
        struct err e = {0};
        cr_expect(zone_load(names[i], &z, &e) < 0, "%s", names[i]);
        cr_expect(e.code == 78, "%s: %s", names[i], e.text);
    }
}

Test(next, every_keeps_its_grid) {
    struct zone *z;
    struct expr x;
    cr_assert(zone_load("UTC", &z, NULL) == 0 && expr_parse("@every 5m", &x, NULL) == 0);
    cr_expect(next_due(&x, z, 0, 0) == 300000);
    cr_expect(next_due(&x, z, 0, 299999) == 300000);
    cr_expect(next_due(&x, z, 0, 300000) == 600000);
    cr_expect(next_due(&x, z, 1234, 300000) == 301234);
    cr_expect(next_due(&x, z, 1234, 301234) == 601234);
    cr_assert(expr_parse("@start", &x, NULL) == 0);
    cr_expect(next_due(&x, z, 0, 0) == NEXT_NEVER);
    zone_free(z);
}

// A phase moves every time by the same amount, never before the tick.
Test(next, phases) {
    struct zone *z;
    struct expr x;
    cr_assert(zone_load("Europe/Paris", &z, NULL) == 0 && expr_parse("*/5 * * * *", &x, NULL) == 0);
    int tenth[10] = {0};
    for (int i = 0; i < 1000; i++) {
        char name[32];
        snprintf(name, sizeof name, "parish-%d", i);
        int64_t phase = next_phase(name, 300000);
        cr_assert(phase >= 0 && phase < 300000 && phase == next_phase(name, 300000));
        tenth[phase / 30000]++;
        int64_t after = 1700000000000 + i * 977, t = next_due(&x, z, phase, after);
        cr_expect(t > after && t <= after + 300000 && (t - phase) % 300000 == 0);
    }
    for (int i = 0; i < 10; i++)
        cr_expect(tenth[i] > 60 && tenth[i] < 140, "%d of 1000 in tenth %d", tenth[i], i);
    cr_expect(next_phase("x", 0) == 0);
    zone_free(z);
}
