#include "cron/next.h"
#include "cron/sched.h"

#include <criterion/criterion.h>
#include <stdlib.h>

enum {
    HOUR = 3600000
};
static const int64_t NOON = 1772452800000; // 2026-03-02T12:00:00Z

static struct zone *utc(void) {
    static struct zone *z;
    if (!z)
        cr_assert(zone_load("UTC", &z, NULL) == 0);
    return z;
}

static struct job job(const char *schedule) {
    struct job j = {.name = "x", .schedule = schedule, .zone = utc(), .enabled = true};
    struct err e;
    cr_assert(expr_parse(schedule, &j.expr, &e) == 0, "%s", e.text);
    return j;
}

// Against a list that is searched: what comes off the heap is the earliest, in the order of the
// jobs when several are due together.
Test(sched, takes_the_earliest_each_time) {
    enum {
        N = 200
    };
    struct sched s;
    int64_t due[N];
    srand(7);
    cr_assert(sched_init(&s, N));
    cr_expect(sched_first(&s, NULL) == NEXT_NEVER);
    for (int i = 0; i < N; i++)
        sched_set(&s, (size_t)i, due[i] = rand() % 50);
    for (int round = 0; round < 20000; round++) {
        size_t first = 0, got;
        for (size_t i = 1; i < N; i++)
            if (due[i] < due[first])
                first = i;
        cr_assert(sched_first(&s, &got) == due[first]);
        cr_assert(got == first);
        size_t which = rand() % 3 ? first : (size_t)(rand() % N);
        sched_set(&s, which, due[which] = rand() % 10 ? due[first] + rand() % 50 : NEXT_NEVER);
    }
    sched_free(&s);
}

Test(sched, never_early_and_once_after_a_delay) {
    struct job v[] = {job("*/5 * * * *")};
    struct jobs jobs = {.v = v, .n = 1};
    struct sched s;
    size_t i;
    int64_t due;
    cr_assert(sched_init(&s, 1));
    sched_start(&s, &v[0], 0, NOON + 1, 0);
    cr_expect(sched_take(&s, &jobs, NOON + 5 * 60000 - 1, &i, &due) == SCHED_WAIT);
    cr_expect(sched_take(&s, &jobs, NOON + 5 * 60000, &i, &due) == SCHED_RUN);
    cr_expect(due == NOON + 5 * 60000);
    // Two hours later (a suspended machine): once, then the grid again.
    int64_t later = NOON + 2 * HOUR + 7000;
    cr_expect(sched_take(&s, &jobs, later, &i, &due) == SCHED_RUN);
    cr_expect(sched_take(&s, &jobs, later, &i, &due) == SCHED_WAIT);
    cr_expect(sched_first(&s, NULL) == NOON + 2 * HOUR + 5 * 60000);
    sched_free(&s);
}

Test(sched, clocks_that_jump) {
    struct job v[] = {job("0 * * * *"), job("0 * * * *")};
    v[1].catch_up = true;
    struct jobs jobs = {.v = v, .n = 2};
    struct sched s;
    size_t i;
    int64_t due;
    cr_assert(sched_init(&s, 2));
    for (size_t k = 0; k < 2; k++)
        sched_start(&s, &v[k], k, NOON, 0);
    cr_expect(sched_take(&s, &jobs, NOON + HOUR, &i, &due) == SCHED_RUN && i == 0);
    cr_expect(sched_take(&s, &jobs, NOON + HOUR, &i, &due) == SCHED_RUN && i == 1);
    // An hour back: 13:00 comes again and is not run again.
    sched_jumped(&s, &jobs, NOON, -HOUR);
    cr_expect(sched_first(&s, NULL) == NOON + 2 * HOUR);
    // A year back: the clock had been wrong.
    int64_t then = NOON - 365LL * 24 * HOUR;
    sched_jumped(&s, &jobs, then, then - NOON);
    cr_expect(sched_first(&s, NULL) == then + HOUR);
    // A day forward: only who catches up runs, once.
    sched_jumped(&s, &jobs, then + 24LL * HOUR + 1, 24LL * HOUR + 1);
    cr_expect(sched_take(&s, &jobs, then + 24LL * HOUR + 1, &i, &due) == SCHED_MISSED && i == 0);
    cr_expect(sched_take(&s, &jobs, then + 24LL * HOUR + 1, &i, &due) == SCHED_RUN && i == 1);
    cr_expect(sched_take(&s, &jobs, then + 24LL * HOUR + 1, &i, &due) == SCHED_WAIT);
    cr_expect(sched_first(&s, NULL) == then + 25LL * HOUR);
    sched_free(&s);
}

Test(sched, what_was_missed_before_the_start) {
    struct job v[] = {job("0 0 * * *")};
    struct sched s;
    cr_assert(sched_init(&s, 1));
    const int64_t midnight = NOON - 12LL * HOUR, next = midnight + 24LL * HOUR;
    const struct {
        bool catch_up;
        int64_t last, want;
    } rows[] = {{false, midnight - 24LL * HOUR, next},
                {true, midnight - 24LL * HOUR, NOON},
                {true, midnight, next},
                {true, 0, next},            // never ran: nothing is missed
                {true, NOON + HOUR, next}}; // the clock was ahead then
    for (unsigned k = 0; k < sizeof rows / sizeof *rows; k++) {
        v[0].catch_up = rows[k].catch_up;
        sched_start(&s, &v[0], 0, NOON, rows[k].last);
        cr_expect(sched_first(&s, NULL) == rows[k].want, "row %u", k);
    }
    v[0].enabled = false;
    sched_start(&s, &v[0], 0, NOON, 0);
    cr_expect(sched_first(&s, NULL) == NEXT_NEVER);
    sched_free(&s);
}
