// A day of a fleet on one database server, on a simulated clock, with the schedule code that
// civinit-jobs itself runs: how many jobs are in the database at once, without and with splay.
//
//     fleet INSTANCES [splay]     one line per minute: the most at once in it; last the whole day's
//
// A job holds a connection from its start to its end. How long: CiviCRM's run and Drupal's from
// measurements of real ones (0.7 to 1.7 s and twice that), a backup 20 to 60 s. That a server
// slows down under load is left out: it would make the peak without splay worse.
#include "cron/next.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    DAY_MS = 86400000,
    MINUTES = 1440
};

static const struct {
    const char *name, *schedule;
    int64_t splay_ms;
    int64_t shortest_ms, longest_ms;
} jobs[] = {
    {"civicrm", "*/5 * * * *", 300000, 700, 1700},
    {"drupal", "0 * * * *", 300000, 1400, 3400},
    {"backup", "30 1 * * *", 4 * 3600000, 20000, 60000},
};

struct edge {
    int64_t at_ms;
    int step; // +1: a job begins, -1: it ends
};

struct edges {
    struct edge *v;
    size_t n, cap;
};

static void add(struct edges *e, int64_t at_ms, int step) {
    if (e->n == e->cap) {
        e->cap = e->cap ? e->cap * 2 : 1 << 16;
        e->v = realloc(e->v, e->cap * sizeof *e->v);
        if (!e->v)
            exit(71);
    }
    e->v[e->n++] = (struct edge){at_ms, step};
}

static int by_time(const void *a, const void *b) {
    const struct edge *x = a, *y = b;
    if (x->at_ms != y->at_ms)
        return x->at_ms < y->at_ms ? -1 : 1;
    return x->step - y->step; // what ends at that moment has ended
}

// Every run of the instance from begin_ms (a day before the one that counts: a splay reaches
// over midnight) to end_ms.
static void instance(struct edges *e, int number, bool splay, const struct zone *z,
                     int64_t begin_ms, int64_t end_ms) {
    char name[40];
    for (unsigned i = 0; i < sizeof jobs / sizeof *jobs; i++) {
        struct expr x;
        snprintf(name, sizeof name, i < 2 ? "parish-%d" : "parish-%d/backup", number);
        int64_t phase = splay ? next_phase(name, jobs[i].splay_ms) : 0;
        int64_t spread = jobs[i].longest_ms - jobs[i].shortest_ms;
        if (expr_parse(jobs[i].schedule, &x, NULL) < 0)
            exit(78);
        for (int64_t t = begin_ms; (t = next_due(&x, z, phase, t)) < end_ms;) {
            snprintf(name, sizeof name, "%d %s %lld", number, jobs[i].name, (long long)t);
            add(e, t, 1);
            add(e, t + jobs[i].shortest_ms + next_phase(name, spread), -1);
        }
    }
}

int main(int argc, char **argv) {
    int instances = argc > 1 ? atoi(argv[1]) : 1000, now = 0, most = 0, minute_most[MINUTES] = {0};
    bool splay = argc > 2 && strcmp(argv[2], "splay") == 0;
    const int64_t day_ms = 1772409600000; // 2026-03-02T00:00:00Z, a Monday
    struct edges e = {0};
    struct zone *z;
    struct err why;
    if (zone_load("Europe/Paris", &z, &why) < 0) {
        fprintf(stderr, "fleet: %s\n", why.text);
        return why.code;
    }
    for (int i = 0; i < instances; i++)
        instance(&e, i, splay, z, day_ms - DAY_MS, day_ms + DAY_MS);
    qsort(e.v, e.n, sizeof *e.v, by_time);
    for (size_t i = 0; i < e.n; i++) {
        now += e.v[i].step;
        int64_t minute = (e.v[i].at_ms - day_ms) / 60000;
        if (e.v[i].at_ms < day_ms || minute >= MINUTES)
            continue;
        if (now > minute_most[minute])
            minute_most[minute] = now;
        if (now > most)
            most = now;
    }
    for (int i = 0; i < MINUTES; i++)
        printf("%d\n", minute_most[i]);
    printf("most %d\n", most);
    free(e.v);
    zone_free(z);
    return 0;
}
