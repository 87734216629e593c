// A schedule as it is written: five cron fields, @hourly and its like, @every 5m, @start. Pure.
//
//     minute hour day month weekday      * , - / and names: jan-dec, sun-sat; 0 and 7 are Sunday
//
// As in Debian's crontab(5): when neither day nor weekday begins with "*", either may match.
#ifndef CRON_EXPR_H
#define CRON_EXPR_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum expr_kind {
    EXPR_CRON,
    EXPR_EVERY, // at the multiples of every_ms since the epoch
    EXPR_START, // once, when the loop starts
};

struct expr {
    enum expr_kind kind;
    uint64_t minutes;                        // bit n: minute n
    uint32_t hours, days, months;            // bit n: hour n, day n of the month, month n (1 to 12)
    uint32_t weekdays;                       // bit 0: Sunday
    bool days_begin_any, weekdays_begin_any; // the field begins with "*"
    bool fixed;                              // neither minute nor hour begins with "*"
    int64_t every_ms;
};

// Parses text; e says which field is wrong and what would be right. A date that never comes
// (30 February) is an error too.
int expr_parse(const char *text, struct expr *ret, struct err *e);

// Whether the day matches; month 1 to 12, weekday 0 = Sunday.
bool expr_day(const struct expr *x, int month, int day, int weekday);

#endif
