#include "backup/keep.h"
#include "backup/store.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int64_t at(const char *text) {
    struct tm tm = {0};
    char *end = strptime(text, "%Y-%m-%d %H:%M", &tm);
    cr_assert(end && !*end, "%s", text);
    return timegm(&tm);
}

// Newest first; which stay, by their letters.
static const char *const times[] = {
    "2026-03-03 12:00", // a Tuesday
    "2026-03-03 00:00", // b
    "2026-03-02 23:59", // c Monday: the week's first day
    "2026-03-01 12:00", // d Sunday, the week before
    "2026-02-28 12:00", // e
    "2026-02-23 01:00", // f Monday of that week
    "2026-02-22 23:00", // g Sunday of the week before
    "2026-01-31 12:00", // h
    "2026-01-01 00:00", // i
    "2025-12-31 23:59", // j
    "2025-06-01 12:00", // k
    "2023-06-01 12:00", // l
};
enum {
    N = sizeof times / sizeof *times,
};

Test(keep, rules) {
    static const struct {
        struct keep_rules rules;
        const char *stay;
    } rows[] = {
        {{0}, "abcdefghijkl"},
        {{.last = 1}, "a"},
        {{.last = 3}, "abc"},
        {{.last = 100}, "abcdefghijkl"},
        {{.daily = 1}, "a"},
        {{.daily = 3}, "acd"},
        {{.daily = 4}, "acde"},
        {{.weekly = 1}, "a"},
        {{.weekly = 3}, "adg"},
        {{.weekly = 5}, "adghi"},
        {{.monthly = 3}, "aeh"},
        {{.monthly = 4}, "aehj"},
        {{.yearly = 2}, "aj"},
        {{.yearly = 9}, "ajl"},
        {{.last = 2, .monthly = 2}, "abe"},
        {{.daily = 2, .weekly = 2, .monthly = 3, .yearly = 3}, "acdehjl"},
    };
    for (unsigned r = 0; r < sizeof rows / sizeof *rows; r++) {
        struct kept kept[N];
        char stay[N + 1] = "";
        int n = 0;
        for (int i = 0; i < N; i++)
            kept[i].time = at(times[i]);
        keep_choose(&rows[r].rules, kept, N);
        for (int i = 0; i < N; i++) {
            if (kept[i].keep)
                stay[n++] = "abcdefghijkl"[i];
            cr_expect_eq(kept[i].keep, kept[i].why != NULL);
        }
        cr_expect_str_eq(stay, rows[r].stay, "row %u: %s, want %s", r, stay, rows[r].stay);
    }
}

// Whatever the rules: the newest stays, and each rule keeps as many as it says if there are.
Test(keep, any_rules) {
    srand(3);
    for (int round = 0; round < 2000; round++) {
        struct kept kept[60];
        size_t n = 1 + rand() % 60, stay = 0;
        struct keep_rules k = {rand() % 4, rand() % 4, rand() % 4, rand() % 4, rand() % 3};
        int64_t t = 1770000000;
        for (size_t i = 0; i < n; i++)
            kept[i].time = t -= rand() % (86400 * 20);
        keep_choose(&k, kept, n);
        for (size_t i = 0; i < n; i++)
            stay += kept[i].keep;
        cr_expect(kept[0].keep);
        if (keep_any(&k))
            cr_expect(stay <= (size_t)(k.last + k.daily + k.weekly + k.monthly + k.yearly));
        else
            cr_expect_eq(stay, n);
    }
}

Test(store, names) {
    static const struct {
        const char *name, *instance;
        int64_t time; // -1: not an archive's name
    } rows[] = {
        {"paroisse-20260301T120000Z.tar.gz", "paroisse", 1772366400},
        {"paroisse-20260301T120000Z.tar.gz", NULL, 1772366400},
        {"paroisse-20260301T120000Z.tar.zst.age", "paroisse", 1772366400},
        {"paroisse-20260301T120000Z.tar", "paroisse", 1772366400},
        {"st-jean.tar-20260301T120000Z.tar.gz", "st-jean.tar", 1772366400},
        {"paroisse-2-20260301T120000Z.tar.gz", "paroisse", -1}, // another instance's
        {"paroisse-2-20260301T120000Z.tar.gz", "paroisse-2", 1772366400},
        {"-20260301T120000Z.tar.gz", NULL, -1},
        {"paroisse-20260301T120000.tar.gz", NULL, -1},
        {"paroisse-20261301T120000Z.tar.gz", NULL, -1},
        {"paroisse-20260301T120000Z.tar.gz.part", NULL, -1},
        {"paroisse-20260301T120000Z.zip", NULL, -1},
        {"", NULL, -1},
        {".tar.gz", NULL, -1},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t t = -1;
        bool is = store_name_time(rows[i].name, rows[i].instance, &t);
        cr_expect_eq(is, rows[i].time >= 0, "%s", rows[i].name);
        cr_expect_eq(is ? t : -1, rows[i].time, "%s: %lld", rows[i].name, (long long)t);
    }
}
