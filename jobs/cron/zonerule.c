#include "cron/zonerule.h"

#include "cron/zone.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

// "CET" or "<+1030>".
static bool skip_name(const char **p) {
    const char *s = *p;
    if (*s == '<') {
        while (*s && *s != '>')
            s++;
        if (*s != '>')
            return false;
        *p = s + 1;
        return true;
    }
    while (isalpha((unsigned char)*s))
        s++;
    bool found = s - *p >= 3;
    *p = s;
    return found;
}

static bool number(const char **p, int *ret) {
    if (!isdigit((unsigned char)**p))
        return false;
    int n = 0;
    for (; isdigit((unsigned char)**p) && n < 10000; ++*p)
        n = n * 10 + (**p - '0');
    *ret = n;
    return true;
}

// [+-]hh[:mm[:ss]] in seconds.
static bool clock_time(const char **p, int *ret_s) {
    int sign = **p == '-' ? -1 : 1, n, seconds = 0;
    if (**p == '-' || **p == '+')
        ++*p;
    for (int unit = 3600; unit; unit /= 60) {
        if (!number(p, &n))
            return false;
        seconds += n * unit;
        if (**p != ':')
            break;
        ++*p;
    }
    *ret_s = sign * seconds;
    return seconds <= 7 * 86400; // RFC 8536, 3.3.1: up to 167 hours
}

static bool expect(const char **p, char c) {
    if (**p != c)
        return false;
    ++*p;
    return true;
}

static bool date_parse(const char **p, struct zonerule_date *d) {
    d->time_s = 7200;
    if (**p == 'M') {
        ++*p;
        d->kind = RULE_MONTH;
        if (!number(p, &d->month) || !expect(p, '.') || !number(p, &d->week) || !expect(p, '.') ||
            !number(p, &d->day) || d->month < 1 || d->month > 12 || d->week < 1 || d->week > 5 ||
            d->day > 6)
            return false;
    } else {
        d->kind = **p == 'J' ? RULE_JULIAN : RULE_ZERO_BASED;
        if (**p == 'J')
            ++*p;
        if (!number(p, &d->day))
            return false;
    }
    return **p != '/' || (++*p, clock_time(p, &d->time_s));
}

bool zonerule_parse(const char *text, struct zonerule *ret) {
    struct zonerule r = {0};
    const char *p = text;
    if (!skip_name(&p) || !clock_time(&p, &r.std_s))
        return false;
    r.std_s = -r.std_s; // POSIX counts westwards
    if (*p) {
        r.has_dst = true;
        if (!skip_name(&p))
            return false;
        r.dst_s = -(r.std_s + 3600);
        if (*p != ',' && !clock_time(&p, &r.dst_s))
            return false;
        r.dst_s = -r.dst_s;
        if (!expect(&p, ',') || !date_parse(&p, &r.to_dst) || !expect(&p, ',') ||
            !date_parse(&p, &r.to_std) || *p)
            return false;
    }
    *ret = r;
    return true;
}

static bool leap(int64_t year) {
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

int64_t zonerule_time(const struct zonerule_date *d, int64_t year) {
    int64_t day;
    if (d->kind == RULE_MONTH) {
        int64_t first = zone_days(year, d->month, 1);
        int64_t next =
            d->month == 12 ? zone_days(year + 1, 1, 1) : zone_days(year, d->month + 1, 1);
        int weekday = (int)((first + 4) % 7); // day 0 of the epoch was a Thursday
        day = first + (d->day - weekday + 7) % 7 + 7 * (d->week - 1);
        if (day >= next)
            day -= 7;
    } else {
        day = zone_days(year, 1, 1) + d->day;
        if (d->kind == RULE_JULIAN)
            day += leap(year) && d->day >= 60 ? 0 : -1;
    }
    return day * 86400 + d->time_s;
}
