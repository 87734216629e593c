// The rule for the future at the end of a time zone file: "CET-1CEST,M3.5.0,M10.5.0/3", the TZ
// variable of POSIX with the extensions of RFC 8536, 3.3. Pure.
#ifndef CRON_ZONERULE_H
#define CRON_ZONERULE_H

#include <stdbool.h>
#include <stdint.h>

struct zonerule_date {
    enum {
        RULE_MONTH,     // Mm.w.d: weekday d (0 = Sunday) of week w (5: the last) of month m
        RULE_JULIAN,    // Jn: day 1 to 365, 29 February is never counted
        RULE_ZERO_BASED // n: day 0 to 365
    } kind;
    int month, week, day;
    int time_s; // local time of day; may be negative or more than a day
};

struct zonerule {
    int std_s, dst_s; // offsets from UTC
    bool has_dst;
    struct zonerule_date to_dst, to_std;
};

bool zonerule_parse(const char *text, struct zonerule *ret);

// When the date comes in that year: seconds since the epoch as if local time were UTC.
int64_t zonerule_time(const struct zonerule_date *d, int64_t year);

#endif
