#include "cron/expr.h"

#include "base/text.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sysexits.h>

struct field {
    const char *what;
    int min, max;
    const char *names; // three letters each; the first is `first`
    int first;
};

static const struct field fields[] = {
    {"minute", 0, 59, "", 0},
    {"hour", 0, 23, "", 0},
    {"day", 1, 31, "", 0},
    {"month", 1, 12, "janfebmaraprmayjunjulaugsepoctnovdec", 1},
    {"weekday", 0, 7, "sunmontuewedthufrisat", 0},
};

static const struct {
    const char *name, *fields;
} nicknames[] = {
    {"@yearly", "0 0 1 1 *"}, {"@annually", "0 0 1 1 *"}, {"@monthly", "0 0 1 * *"},
    {"@weekly", "0 0 * * 0"}, {"@daily", "0 0 * * *"},    {"@midnight", "0 0 * * *"},
    {"@hourly", "0 * * * *"},
};

// A number or name at *p, which moves behind it; -1: neither.
static int value(const struct field *f, const char **p) {
    const char *s = *p;
    if (isdigit((unsigned char)*s)) {
        int n = 0;
        for (; isdigit((unsigned char)*s); s++)
            n = n < 1000 ? n * 10 + (*s - '0') : n;
        *p = s;
        return n;
    }
    for (int i = 0; f->names[i]; i += 3)
        if (strncasecmp(s, f->names + i, 3) == 0) {
            *p = s + 3;
            return f->first + i / 3;
        }
    return -1;
}

static int wrong(const struct field *f, const char *text, struct err *e) {
    return err_set(e, EX_CONFIG,
                   "%s \"%s\": use *, %d-%d%s, lists with \",\", ranges with \"-\" and "
                   "steps as in */5 or 10-50/20",
                   f->what, text, f->min, f->max, *f->names ? " or names" : "");
}

// "*", "5", "1-5", each but the second with "/2", at *p. Adds to *bits.
static int element(const struct field *f, const char *text, const char **p, uint64_t *bits,
                   struct err *e) {
    int low = f->min, high = f->max, step = 1;
    bool single = false;
    if (**p == '*') {
        ++*p;
        if (f->max == 7)
            high = 6;
    } else {
        if ((low = high = value(f, p)) < 0)
            return wrong(f, text, e);
        single = **p != '-';
        if (!single) {
            ++*p;
            if ((high = value(f, p)) < 0)
                return wrong(f, text, e);
            if (f->max == 7 && high == 0)
                high = 7; // fri-sun
        }
    }
    if (**p == '/') {
        ++*p;
        if (single)
            return err_set(e, EX_CONFIG, "%s \"%s\": a step needs a range, as in %d-%d/N", f->what,
                           text, low, f->max);
        if (!isdigit((unsigned char)**p) || (step = value(f, p)) < 1 || step > f->max)
            return err_set(e, EX_CONFIG, "%s \"%s\": a step is from 1 to %d", f->what, text,
                           f->max);
    }
    if (low < f->min || high > f->max)
        return err_set(e, EX_CONFIG, "%s \"%s\": out of the range %d-%d", f->what, text, f->min,
                       f->max);
    if (low > high)
        return err_set(e, EX_CONFIG, "%s \"%s\": the range ends before it begins", f->what, text);
    for (int i = low; i <= high; i += step)
        *bits |= 1ULL << (f->max == 7 ? i % 7 : i);
    return 0;
}

static int field_parse(const struct field *f, const char *text, uint64_t *ret_bits, struct err *e) {
    uint64_t bits = 0;
    const char *p = text;
    for (;;) {
        if (element(f, text, &p, &bits, e) < 0)
            return -1;
        if (*p != ',')
            break;
        p++;
    }
    if (*p)
        return wrong(f, text, e);
    *ret_bits = bits;
    return 0;
}

bool expr_day(const struct expr *x, int month, int day, int weekday) {
    if (!(x->months >> month & 1))
        return false;
    bool by_day = x->days >> day & 1, by_weekday = x->weekdays >> weekday & 1;
    if (x->days_begin_any || x->weekdays_begin_any)
        return by_day && by_weekday;
    return by_day || by_weekday;
}

// Whether one of the months has one of the days (weekdays come in every month).
static bool possible(const struct expr *x) {
    static const int longest[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (!x->days_begin_any && !x->weekdays_begin_any)
        return true;
    for (int m = 1; m <= 12; m++)
        if (x->months >> m & 1 && x->days & ((1ULL << (longest[m - 1] + 1)) - 1))
            return true;
    return false;
}

static int cron_parse(const char *text, struct expr *ret, struct err *e) {
    char words[5][100];
    uint64_t bits[5];
    const char *p = text;
    int n = 0;
    for (;; n++) {
        p += strspn(p, " \t");
        size_t len = strcspn(p, " \t");
        if (!len)
            break;
        if (n < 5 && len >= sizeof words[0])
            return err_set(e, EX_CONFIG, "the %s field is too long", fields[n].what);
        if (n < 5)
            snprintf(words[n], sizeof words[n], "%.*s", (int)len, p);
        p += len;
    }
    if (n != 5)
        return err_set(e, EX_CONFIG,
                       "\"%s\" has %d field%s; a schedule has five: minute hour day month weekday",
                       text, n, n == 1 ? "" : "s");
    for (int i = 0; i < 5; i++)
        if (field_parse(&fields[i], words[i], &bits[i], e) < 0)
            return -1;
    struct expr x = {.kind = EXPR_CRON,
                     .minutes = bits[0],
                     .hours = (uint32_t)bits[1],
                     .days = (uint32_t)bits[2],
                     .months = (uint32_t)bits[3],
                     .weekdays = (uint32_t)bits[4],
                     .days_begin_any = *words[2] == '*',
                     .weekdays_begin_any = *words[4] == '*',
                     .fixed = *words[0] != '*' && *words[1] != '*'};
    if (!possible(&x))
        return err_set(e, EX_CONFIG, "\"%s\" never comes: no such day in these months", text);
    *ret = x;
    return 0;
}

static int every_parse(const char *text, struct expr *ret, struct err *e) {
    int64_t ms;
    text += strspn(text, " \t");
    if (text_duration(text, &ms, e) < 0)
        return err_wrap(e, "@every");
    if (ms < 1000 || ms > 366LL * 86400000)
        return err_set(e, EX_CONFIG, "@every %s: at least 1s and at most 366d", text);
    *ret = (struct expr){.kind = EXPR_EVERY, .every_ms = ms};
    return 0;
}

int expr_parse(const char *text, struct expr *ret, struct err *e) {
    text += strspn(text, " \t");
    if (*text != '@')
        return cron_parse(text, ret, e);
    if (strncmp(text, "@every", 6) == 0 && (text[6] == ' ' || text[6] == '\t'))
        return every_parse(text + 6, ret, e);
    if (strcmp(text, "@start") == 0 || strcmp(text, "@reboot") == 0) {
        *ret = (struct expr){.kind = EXPR_START};
        return 0;
    }
    for (unsigned i = 0; i < sizeof nicknames / sizeof *nicknames; i++)
        if (strcmp(text, nicknames[i].name) == 0)
            return cron_parse(nicknames[i].fields, ret, e);
    return err_set(e, EX_CONFIG,
                   "\"%s\" is unknown: use @hourly, @daily, @weekly, @monthly, "
                   "@yearly, @every DURATION, @start or five fields",
                   text);
}
