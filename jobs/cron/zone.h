// A time zone as stretches of constant offset, read from the time zone database (RFC 8536) without
// libc's localtime, so that every job may have its own. Known until the year 2200.
#ifndef CRON_ZONE_H
#define CRON_ZONE_H

#include "base/err.h"

#include <stdint.h>

struct zone;

// A stretch of time in which the offset from UTC is the same. Seconds since the epoch.
struct zone_stretch {
    int64_t begin, end; // [begin, end); INT64_MIN and INT64_MAX at the ends of knowledge
    int offset_s;       // local time = UTC + offset_s
    int before_s;       // the offset just before begin; offset_s when begin is INT64_MIN
};

// Loads "Europe/Paris" from $TZDIR or /usr/share/zoneinfo; "UTC" needs no file. zone_free ends it.
int zone_load(const char *name, struct zone **ret, struct err *e);

// The stretch that time_s (seconds since the epoch) lies in.
struct zone_stretch zone_at(const struct zone *z, int64_t time_s);

const char *zone_name(const struct zone *z);

void zone_free(struct zone *z);

// Days since the epoch of a date of the Gregorian calendar; month 1 to 12.
int64_t zone_days(int64_t year, int month, int day);

// The reverse.
void zone_date(int64_t days, int64_t *ret_year, int *ret_month, int *ret_day);

#endif
