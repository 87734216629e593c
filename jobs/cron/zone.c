#include "cron/zone.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "cron/zonerule.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

enum {
    LAST_YEAR = 2200,
    FILE_LIMIT = 1 << 20,
    DAY_S = 86400
};
static const int64_t LATEST = 1LL << 40; // seconds; beyond it nothing is a date

struct zone {
    char name[64];
    int first_s; // offset before the first change
    size_t n, cap;
    struct change {
        int64_t at; // seconds since the epoch
        int offset_s;
    } * changes;
};

// Days of the civil calendar: https://howardhinnant.github.io/date_algorithms.html
int64_t zone_days(int64_t year, int month, int day) {
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t of_era = year - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

void zone_date(int64_t days, int64_t *ret_year, int *ret_month, int *ret_day) {
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t of_era = days - era * 146097;
    int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year + year / 4 - year / 100);
    int month = (int)((5 * of_year + 2) / 153);
    *ret_day = (int)(of_year - (153 * month + 2) / 5 + 1);
    *ret_month = month < 10 ? month + 3 : month - 9;
    *ret_year = year + era * 400 + (*ret_month <= 2);
}

static bool add(struct zone *z, int64_t at, int offset_s) {
    int last = z->n ? z->changes[z->n - 1].offset_s : z->first_s;
    if (offset_s == last)
        return true; // only the name or the DST flag changes
    if (z->n == z->cap) {
        size_t cap = z->cap ? z->cap * 2 : 64;
        void *p = realloc(z->changes, cap * sizeof *z->changes);
        if (!p)
            return false;
        z->changes = p;
        z->cap = cap;
    }
    z->changes[z->n++] = (struct change){at, offset_s};
    return true;
}

static int64_t big_endian(const unsigned char *p, int bytes) {
    uint64_t v = (*p & 0x80) ? UINT64_MAX : 0;
    for (int i = 0; i < bytes; i++)
        v = v << 8 | p[i];
    return (int64_t)v;
}

// The counts of a TZif header, section 3.1 of RFC 8536.
struct head {
    int64_t isut, isstd, leap, time, type, chars;
};

static bool head_read(const unsigned char *p, size_t len, struct head *h) {
    if (len < 44 || memcmp(p, "TZif", 4) != 0 || p[4] < '2')
        return false;
    int64_t *const into[] = {&h->isut, &h->isstd, &h->leap, &h->time, &h->type, &h->chars};
    for (int i = 0; i < 6; i++)
        if ((*into[i] = big_endian(p + 20 + 4 * i, 4)) < 0 || *into[i] > FILE_LIMIT)
            return false;
    return true;
}

static size_t body_size(const struct head *h, int time_size) {
    return (size_t)(h->time * time_size + h->time + h->type * 6 + h->chars +
                    h->leap * (time_size + 4) + h->isstd + h->isut);
}

// Changes from year on, by the rule at the end of the file, until LAST_YEAR.
static bool add_rule(struct zone *z, const char *text) {
    struct zonerule r;
    if (!*text)
        return true;
    if (!zonerule_parse(text, &r))
        return false;
    int64_t after = z->n ? z->changes[z->n - 1].at : INT64_MIN;
    if (!r.has_dst)
        return z->n ? add(z, after + 1, r.std_s) : (z->first_s = r.std_s, true);
    int64_t year = 1970;
    int month, day;
    if (after > 0)
        zone_date(after / 86400, &year, &month, &day);
    for (; year <= LAST_YEAR; year++) {
        int64_t to_dst = zonerule_time(&r.to_dst, year) - r.std_s;
        int64_t to_std = zonerule_time(&r.to_std, year) - r.dst_s;
        struct change c[2] = {{to_dst, r.dst_s}, {to_std, r.std_s}};
        if (to_std < to_dst) {
            c[0] = (struct change){to_std, r.std_s};
            c[1] = (struct change){to_dst, r.dst_s};
        }
        for (int i = 0; i < 2; i++)
            if (c[i].at > after && !add(z, c[i].at, c[i].offset_s))
                return false;
    }
    return true;
}

static bool file_parse(struct zone *z, const unsigned char *p, size_t len) {
    struct head h;
    if (!head_read(p, len, &h))
        return false;
    size_t skip = 44 + body_size(&h, 4); // the first block is for old readers
    if (skip > len)
        return false;
    p += skip;
    len -= skip;
    if (!head_read(p, len, &h) || !h.type || 44 + body_size(&h, 8) > len)
        return false;
    const unsigned char *times = p + 44, *kinds = times + h.time * 8, *types = kinds + h.time;
    int64_t first = big_endian(types, 4);
    if (first < -DAY_S || first > DAY_S)
        return false;
    z->first_s = (int)first;
    for (int64_t i = 0; i < h.time; i++) {
        int64_t at = big_endian(times + i * 8, 8), offset_s;
        if (kinds[i] >= h.type || at > LATEST || (z->n && at <= z->changes[z->n - 1].at))
            return false;
        offset_s = big_endian(types + kinds[i] * 6, 4);
        if (offset_s < -DAY_S || offset_s > DAY_S || !add(z, at, (int)offset_s))
            return false;
    }
    const char *rule =
        (const char *)p + 44 + body_size(&h, 8); // "\nRULE\n"; the text ends with NUL
    char text[128] = "";
    if (*rule == '\n')
        snprintf(text, sizeof text, "%.*s", (int)strcspn(rule + 1, "\n"), rule + 1);
    return add_rule(z, text);
}

static bool name_good(const char *name) {
    return *name && *name != '/' && *name != '.' && !strstr(name, "..") &&
           strlen(name) < sizeof((struct zone *)0)->name &&
           !name[strspn(name,
                        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-/")];
}

int zone_load(const char *name, struct zone **ret, struct err *e) {
    if (!name_good(name))
        return err_set(e, EX_CONFIG, "\"%s\" is no time zone: write it as Europe/Paris", name);
    struct zone *z = calloc(1, sizeof *z);
    if (!z)
        return err_set(e, EX_OSERR, "out of memory");
    snprintf(z->name, sizeof z->name, "%s", name);
    if (strcmp(name, "UTC") == 0) {
        *ret = z;
        return 0;
    }
    char path[PATH_MAX];
    const char *dir = getenv("TZDIR");
    snprintf(path, sizeof path, "%s/%s", dir && *dir ? dir : "/usr/share/zoneinfo", name);
    autofree char *data = NULL;
    size_t len;
    struct err why;
    if (file_read(path, FILE_LIMIT, &data, &len, &why) < 0) {
        zone_free(z);
        return err_set(e, EX_CONFIG,
                       "time zone %s is not known here (%s; is the package tzdata installed?)",
                       name, why.text);
    }
    if (!file_parse(z, (const unsigned char *)data, len)) {
        zone_free(z);
        return err_set(e, EX_CONFIG, "time zone %s: %s is no time zone file of version 2 or newer",
                       name, path);
    }
    *ret = z;
    return 0;
}

struct zone_stretch zone_at(const struct zone *z, int64_t time_s) {
    size_t low = 0, high = z->n; // the number of changes at or before time_s
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (z->changes[mid].at <= time_s)
            low = mid + 1;
        else
            high = mid;
    }
    struct zone_stretch s = {INT64_MIN, INT64_MAX, z->first_s, z->first_s};
    if (low) {
        s.begin = z->changes[low - 1].at;
        s.offset_s = z->changes[low - 1].offset_s;
        s.before_s = low > 1 ? z->changes[low - 2].offset_s : z->first_s;
    }
    if (low < z->n)
        s.end = z->changes[low].at;
    return s;
}

const char *zone_name(const struct zone *z) {
    return z->name;
}

void zone_free(struct zone *z) {
    if (!z)
        return;
    free(z->changes);
    free(z);
}
