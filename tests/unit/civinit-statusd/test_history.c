#include "status/history.h"
#include "status/report.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct statusfile_service apache = {.name = "apache", .state = "ready", .pid = 10};
static struct proc_usage usage[2];

// One service and civinit; memory and CPU as given.
static struct view view_of(int64_t memory, int64_t cpu_ms, int processes) {
    struct view v = {.running = true, .now_ms = 1767225600000, .instance = "demo", .usage = usage};
    memset(&v.figures, 0xff, sizeof v.figures);
    v.status.services = &apache;
    v.status.n = 1;
    v.status.pid = 1;
    v.status.role = "web";
    usage[0] = (struct proc_usage){.rss_bytes = memory,
                                   .pss_bytes = memory,
                                   .largest_bytes = memory / 3,
                                   .cpu_ms = cpu_ms,
                                   .processes = processes,
                                   .threads = processes};
    usage[1] = (struct proc_usage){1 << 20, 1 << 20, 1 << 20, 0, 1, 1};
    return v;
}

static const struct history_series *find(const struct history *h, const char *name) {
    for (size_t i = 1; i < h->n; i++)
        if (strcmp(h->series[i].name, name) == 0)
            return &h->series[i];
    return NULL;
}

// 100 samples of 15 s: memory 1..100 MiB, a tenth of a core, then a burst.
static void fill(struct history *h) {
    int64_t mono = 1000, cpu = 0;
    cr_assert_eq(history_init(h, 0), 0);
    for (int i = 1; i <= 100; i++, mono += 15000, cpu += i == 50 ? 30000 : 1500) {
        struct view v = view_of((int64_t)i << 20, cpu, 4);
        history_steady_cpu(h, &v);
        history_add(h, &v, mono);
    }
}

static bool near(int64_t got, int64_t want, int percent) {
    return got >= want - want * percent / 100 && got <= want + want * percent / 100;
}

Test(history, percentiles_and_peaks) {
    struct history h;
    fill(&h);
    const struct history_series *s = find(&h, "apache");
    cr_assert_not_null(s);
    cr_expect(near(history_memory(s, 500), 50 << 20, 6), "%lld", (long long)history_memory(s, 500));
    cr_expect(near(history_memory(s, 950), 95 << 20, 6), "%lld", (long long)history_memory(s, 950));
    cr_expect_eq(s->memory_peak, 100 << 20);
    cr_expect_eq(history_memory(s, 1000), 100 << 20);
    cr_expect_eq(s->per_process_peak, (100 << 20) / 3); // not a share of the sum
    cr_expect(near(history_cpu(s, 500), 100, 11), "%lld", (long long)history_cpu(s, 500));
    cr_expect_eq(s->cpu_peak, 2000);
    // The container, without figures of the kernel, is the sum of all.
    cr_expect_eq(h.series[0].memory_peak, 101 << 20);
    cr_expect_eq(h.seconds, 10 + 99 * 15);
    history_free(&h);
}

Test(history, samples_that_come_too_soon_are_left_out) {
    struct history h;
    cr_assert_eq(history_init(&h, 0), 0);
    struct view v = view_of(1 << 20, 0, 1);
    history_add(&h, &v, 1000);
    history_add(&h, &v, 5000);
    cr_expect_eq(h.seconds, 10);
    history_add(&h, &v, 11000);
    cr_expect_eq(h.seconds, 20);
    history_add(&h, &v, 100 * 3600 * 1000); // a long sleep stands for five minutes at most
    cr_expect_eq(h.seconds, 320);
    history_free(&h);
}

Test(history, cpu_time_never_falls) {
    struct history h;
    cr_assert_eq(history_init(&h, 0), 0);
    static const struct {
        int64_t pid, raw, steady;
    } rows[] = {{10, 100, 100}, {10, 150, 150}, {10, 120, 150}, {10, 130, 160},
                {11, 20, 180},  {11, 20, 180},  {0, 0, 180},    {12, 7, 187}};
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct view v = view_of(1 << 20, rows[i].raw, 1);
        apache.pid = rows[i].pid;
        history_steady_cpu(&h, &v);
        cr_expect_eq(usage[0].cpu_ms, rows[i].steady, "row %u: %lld", i,
                     (long long)usage[0].cpu_ms);
    }
    history_free(&h);
}

Test(history, survives_its_file) {
    struct history h, again;
    char path[] = "/tmp/history-XXXXXX";
    struct err e = {0};
    close(mkstemp(path));
    fill(&h);
    cr_assert_eq(history_write(&h, path, &e), 0, "%s", e.text);
    cr_assert_eq(history_init(&again, 5), 0);
    cr_assert_eq(history_read(&again, path, &e), 0, "%s", e.text);
    cr_expect_eq(again.n, h.n);
    cr_expect_eq(again.seconds, h.seconds);
    const struct history_series *a = find(&h, "apache"), *b = find(&again, "apache");
    cr_expect_arr_eq(a->memory, b->memory, sizeof a->memory);
    cr_expect_arr_eq(a->cpu, b->cpu, sizeof a->cpu);
    cr_expect_eq(b->memory_peak, a->memory_peak);
    history_free(&h);
    history_free(&again);
    unlink(path);
}

Test(history, damaged_files_are_refused) {
    static const char *const texts[] = {
        "",
        "civinit-history 2\nsince=1 updated=1 seconds=1\ncontainer 1 1 1 1 1 memory= cpu=\n",
        "civinit-history 1\n",
        "civinit-history 1\nsince=1 updated=1 seconds=1\n",
        "civinit-history 1\nsince=1 updated=1 seconds=1\napache 1 1 1 1 1 memory= cpu=\n",
        "civinit-history 1\nsince=1 updated=1 seconds=1\ncontainer 1 1 1 1 1 memory=999:1 cpu=\n",
        "civinit-history 1\nsince=1 updated=1 seconds=1\ncontainer 1 1 1 1 1 memory=-1:1 cpu=\n",
        "civinit-history 1\nsince=1 updated=1 seconds=1\ncontainer 1 1 1 1 1 memory=x cpu=\n",
        "civinit-history 1\nsince=1 updated=1 seconds=1\ncontainer 1 1\n",
    };
    for (unsigned i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct history h;
        struct err e = {0};
        char path[] = "/tmp/history-XXXXXX";
        int fd = mkstemp(path);
        cr_assert(write(fd, texts[i], strlen(texts[i])) == (ssize_t)strlen(texts[i]));
        close(fd);
        cr_assert_eq(history_init(&h, 42), 0);
        cr_expect_eq(history_read(&h, path, &e), -1, "text %u", i);
        cr_expect(e.code != 0);
        cr_expect_eq(h.since_ms, 42); // as it was
        history_free(&h);
        unlink(path);
    }
}

Test(report, advice) {
    struct history h;
    struct advice a;
    fill(&h);
    struct view v = view_of(1 << 20, 0, 1);
    report_advice(&h, &v.figures, &a);
    cr_expect_not(a.trusted);
    cr_expect(a.memory_request > 100 << 20 && a.memory_request <= 128 << 20, "%lld",
              (long long)a.memory_request);
    cr_expect_eq(a.memory_limit, 128 << 20); // 101 MiB + 20 %, rounded up
    cr_expect(a.cpu_request >= 100 && a.cpu_request <= 120, "%lld", (long long)a.cpu_request);
    v.figures.oom_kills = 1;
    v.figures.memory_limit_bytes = 200 << 20;
    report_advice(&h, &v.figures, &a);
    cr_expect_eq(a.memory_limit, 304 << 20); // half as much again as what was too little
    history_free(&h);
    cr_assert_eq(history_init(&h, 0), 0);
    report_advice(&h, &v.figures, &a);
    cr_expect_eq(a.memory_request, -1);
    history_free(&h);
}
