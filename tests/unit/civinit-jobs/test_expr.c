#include "cron/expr.h"

#include <criterion/criterion.h>
#include <string.h>

Test(expr, what_is_refused_and_what_is_said) {
    static const struct {
        const char *text, *part;
    } rows[] = {
        {"", "0 fields"},
        {"* * * *", "4 fields"},
        {"0 * * * * *", "6 fields"},
        {"60 * * * *", "minute \"60\": out of the range 0-59"},
        {"* 24 * * *", "hour"},
        {"* * 0 * *", "day \"0\""},
        {"* * 32 * *", "day"},
        {"* * * 13 *", "month"},
        {"* * * 0 *", "month"},
        {"* * * * 8", "weekday"},
        {"*/0 * * * *", "step"},
        {"*/x * * * *", "step"},
        {"*/60 * * * *", "step"},
        {"5/15 * * * *", "needs a range, as in 5-59/N"},
        {"30-10 * * * *", "ends before it begins"},
        {"1,,2 * * * *", "minute"},
        {"1, * * * *", "minute"},
        {"-5 * * * *", "minute"},
        {"1- * * * *", "minute"},
        {"mon * * * *", "minute"},
        {"* * * mon *", "month"},
        {"* * L * *", "day"},
        {"* * * * 1#2", "weekday"},
        {"*1 * * * *", "minute"},
        {"99999999999999999999 * * * *", "out of the range"},
        {"0 0 30 2 *", "never comes"},
        {"0 0 31 4,6,9,11 *", "never comes"},
        {"@hourli", "unknown"},
        {"@every", "unknown"},
        {"@every 5", "@every"},
        {"@every 10ms", "at least 1s"},
        {"@every 400d", "at most 366d"},
        {"@every -5m", "@every"},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct expr x;
        struct err e = {0};
        cr_expect(expr_parse(rows[i].text, &x, &e) < 0, "\"%s\" is taken", rows[i].text);
        cr_expect(strstr(e.text, rows[i].part), "\"%s\": %s", rows[i].text, e.text);
        cr_expect(e.code == 78);
    }
}

Test(expr, nicknames_and_spellings_mean_the_same) {
    static const char *const rows[][2] = {
        {"@hourly", "0 * * * *"},           {"@daily", "0 0 * * *"},
        {"@midnight", "0 0 * * *"},         {"@weekly", "0 0 * * 7"},
        {"@monthly", "0 0 1 * *"},          {"@yearly", "0 0 1 jan *"},
        {"0 0 * * Sat,SUN", "0 0 * * 0,6"}, {"0 0 * * fri-sun", "0 0 * * 5-7"},
        {"  0\t0 *  * * ", "0 0 * * *"},    {"0-59 0 * * *", "0-59/1 0 * * *"},
        {"0 0 1-3,2-5 * *", "0 0 1-5 * *"}};
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct expr a, b;
        struct err e = {0};
        cr_assert(expr_parse(rows[i][0], &a, &e) == 0, "%s", e.text);
        cr_assert(expr_parse(rows[i][1], &b, &e) == 0, "%s", e.text);
        cr_expect(a.kind == b.kind && a.minutes == b.minutes && a.hours == b.hours &&
                      a.days == b.days && a.months == b.months && a.weekdays == b.weekdays &&
                      a.days_begin_any == b.days_begin_any &&
                      a.weekdays_begin_any == b.weekdays_begin_any && a.fixed == b.fixed,
                  "%s", rows[i][0]);
    }
}
