#include "status/history.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

enum {
    SMALLEST_MEMORY = 256 << 10, // upper end of the first step
    SPACING_MS = 10000,          // between samples at least
    LONGEST_S = 300,             // what one sample can stand for
    WINDOW_S = 30 * 86400,
};

static const double memory_step = 1.05, cpu_step = 1.1;

int history_init(struct history *h, int64_t now_ms) {
    *h = (struct history){.since_ms = now_ms, .updated_ms = now_ms, .n = 1};
    h->series = calloc(HISTORY_SERIES, sizeof *h->series);
    if (!h->series)
        return -1;
    snprintf(h->series[0].name, sizeof h->series[0].name, "container");
    return 0;
}

void history_free(struct history *h) {
    free(h->series);
    h->series = NULL;
}

static struct history_series *series_of(struct history *h, const char *name) {
    // [0] is the container's: a service of that name is another one.
    for (size_t i = 1; i < h->n; i++)
        if (strcmp(h->series[i].name, name) == 0)
            return &h->series[i];
    size_t size = strlen(name) + 1;
    if (h->n == HISTORY_SERIES || size > sizeof h->series[0].name)
        return NULL;
    struct history_series *s = &h->series[h->n++];
    *s = (struct history_series){.pid = 0};
    memcpy(s->name, name, size);
    return s;
}

void history_steady_cpu(struct history *h, struct view *v) {
    for (size_t i = 0; v->running && i <= v->status.n; i++) {
        struct history_series *s = series_of(h, view_name(v, i));
        struct proc_usage *u = &v->usage[i];
        int64_t pid = i < v->status.n ? v->status.services[i].pid : v->status.pid;
        if (!s)
            continue;
        if (u->cpu_ms > s->raw_cpu_ms && pid == s->pid)
            s->cpu_ms += u->cpu_ms - s->raw_cpu_ms;
        else if (pid != s->pid)
            s->cpu_ms += u->cpu_ms;
        s->raw_cpu_ms = u->cpu_ms;
        s->pid = pid;
        u->cpu_ms = s->cpu_ms;
    }
}

// By multiplication: log(3) and pow(3) would keep 0.3 MB of libm in memory.
static int step_of(double value, double first, double step, int steps) {
    int i = 0;
    for (double end = first; end < value * (1 - 1e-9) && i < steps - 1; end *= step)
        i++;
    return i;
}

// The upper end of a step, rounded up.
static int64_t end_of(int i, double first, double step) {
    double end = first;
    while (i-- > 0)
        end *= step;
    return (int64_t)end + ((double)(int64_t)end < end);
}

// One sample: what the service used, and for how long that stands.
struct sample {
    int64_t memory, cpu_ms, processes, largest;
    uint32_t seconds;
    int64_t elapsed_ms, now_ms;
};

static void note_cpu(struct history_series *s, const struct sample *x) {
    if (x->cpu_ms < 0)
        return;
    if (x->elapsed_ms > 0 && x->cpu_ms >= s->sample_cpu_ms) {
        int64_t milli = (x->cpu_ms - s->sample_cpu_ms) * 1000 / x->elapsed_ms;
        s->cpu[step_of((double)milli, 1, cpu_step, HISTORY_CPU)] += x->seconds;
        if (milli > s->cpu_peak)
            s->cpu_peak = milli;
    }
    s->sample_cpu_ms = x->cpu_ms;
}

static void note(struct history_series *s, const struct sample *x) {
    if (x->memory >= 0)
        s->memory[step_of((double)x->memory, SMALLEST_MEMORY, memory_step, HISTORY_MEMORY)] +=
            x->seconds;
    if (x->memory > s->memory_peak) {
        s->memory_peak = x->memory;
        s->memory_peak_ms = x->now_ms;
    }
    if (x->processes > s->processes_peak)
        s->processes_peak = x->processes;
    if (x->largest > s->per_process_peak)
        s->per_process_peak = x->largest;
    note_cpu(s, x);
}

static void fade(struct history *h) {
    h->seconds /= 2;
    for (size_t i = 0; i < h->n; i++) {
        for (int k = 0; k < HISTORY_MEMORY; k++)
            h->series[i].memory[k] /= 2;
        for (int k = 0; k < HISTORY_CPU; k++)
            h->series[i].cpu[k] /= 2;
    }
}

static int64_t memory_of(const struct proc_usage *u) {
    return u->pss_bytes >= 0 ? u->pss_bytes : u->rss_bytes;
}

void history_add(struct history *h, const struct view *v, int64_t mono_ms) {
    int64_t elapsed = h->sampled_ms ? mono_ms - h->sampled_ms : 0;
    if (!v->running || (h->sampled_ms && elapsed < SPACING_MS))
        return;
    uint32_t seconds = h->sampled_ms ? (uint32_t)(elapsed / 1000) : SPACING_MS / 1000;
    if (seconds > LONGEST_S)
        seconds = LONGEST_S;
    struct sample all = {.seconds = seconds, .elapsed_ms = elapsed, .now_ms = v->now_ms};
    for (size_t i = 0; i <= v->status.n; i++) {
        const struct proc_usage *u = &v->usage[i];
        struct history_series *s = series_of(h, view_name(v, i));
        struct sample x = all;
        x.memory = memory_of(u);
        x.cpu_ms = u->cpu_ms;
        x.processes = u->processes;
        x.largest = u->largest_bytes;
        all.memory += x.memory;
        all.processes += x.processes;
        all.cpu_ms += x.cpu_ms;
        if (x.largest > all.largest)
            all.largest = x.largest;
        // A service that is down says nothing about what it needs.
        if (s && u->processes)
            note(s, &x);
    }
    const struct figures *f = &v->figures;
    if (f->memory_working_bytes >= 0)
        all.memory = f->memory_working_bytes;
    if (f->cpu_us >= 0)
        all.cpu_ms = f->cpu_us / 1000;
    note(&h->series[0], &all);
    h->sampled_ms = mono_ms;
    h->updated_ms = v->now_ms;
    h->seconds += seconds;
    if (h->seconds > WINDOW_S)
        fade(h);
}

static int64_t quantile(const uint32_t *counts, int n, double first, double step, int per_mille) {
    uint64_t total = 0, seen = 0;
    for (int i = 0; i < n; i++)
        total += counts[i];
    for (int i = 0; total && i < n; i++) {
        seen += counts[i];
        if (counts[i] && seen * 1000 >= total * (uint64_t)per_mille)
            return end_of(i, first, step);
    }
    return -1;
}

int64_t history_memory(const struct history_series *s, int per_mille) {
    int64_t bytes = quantile(s->memory, HISTORY_MEMORY, SMALLEST_MEMORY, memory_step, per_mille);
    return bytes > s->memory_peak ? s->memory_peak : bytes;
}

int64_t history_cpu(const struct history_series *s, int per_mille) {
    int64_t milli = quantile(s->cpu, HISTORY_CPU, 1, cpu_step, per_mille);
    return milli > s->cpu_peak ? s->cpu_peak : milli;
}

static void write_counts(struct buf *b, const char *key, const uint32_t *counts, int n) {
    const char *separator = "";
    buf_printf(b, " %s=", key);
    for (int i = 0; i < n; i++)
        if (counts[i]) {
            buf_printf(b, "%s%d:%" PRIu32, separator, i, counts[i]);
            separator = ",";
        }
}

int history_write(const struct history *h, const char *path, struct err *e) {
    autobuf struct buf b = {0};
    buf_printf(&b, "civinit-history 1\nsince=%" PRId64 " updated=%" PRId64 " seconds=%" PRId64 "\n",
               h->since_ms, h->updated_ms, h->seconds);
    for (size_t i = 0; i < h->n; i++) {
        const struct history_series *s = &h->series[i];
        if (strpbrk(s->name, " \n"))
            continue;
        buf_printf(&b, "%s %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64, s->name,
                   s->memory_peak, s->memory_peak_ms, s->cpu_peak, s->processes_peak,
                   s->per_process_peak);
        write_counts(&b, "memory", s->memory, HISTORY_MEMORY);
        write_counts(&b, "cpu", s->cpu, HISTORY_CPU);
        buf_str(&b, "\n");
    }
    if (b.failed)
        return err_set(e, EX_OSERR, "out of memory");
    return file_replace(path, b.data, b.len, 0644, 0, e);
}

static int read_counts(const char *line, const char *key, uint32_t *counts, int n) {
    const char *p = strstr(line, key);
    int i, used;
    uint32_t count;
    if (!p)
        return -1;
    for (p += strlen(key); sscanf(p, "%d:%" SCNu32 "%n", &i, &count, &used) == 2; p += *p == ',') {
        if (i < 0 || i >= n)
            return -1;
        counts[i] = count;
        p += used;
    }
    return *p && *p != ' ' && *p != '\n' ? -1 : 0;
}

static int read_series(struct history *h, const char *line) {
    struct history_series s = {.pid = 0};
    if (sscanf(line, "%63s %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64, s.name,
               &s.memory_peak, &s.memory_peak_ms, &s.cpu_peak, &s.processes_peak,
               &s.per_process_peak) != 6 ||
        read_counts(line, " memory=", s.memory, HISTORY_MEMORY) < 0 ||
        read_counts(line, " cpu=", s.cpu, HISTORY_CPU) < 0 || h->n == HISTORY_SERIES)
        return -1;
    h->series[h->n++] = s;
    return 0;
}

static int read_lines(struct history *h, char *text) {
    char *save = NULL, *line = strtok_r(text, "\n", &save);
    if (!line || strcmp(line, "civinit-history 1") != 0)
        return -1;
    line = strtok_r(NULL, "\n", &save);
    if (!line || sscanf(line, "since=%" SCNd64 " updated=%" SCNd64 " seconds=%" SCNd64,
                        &h->since_ms, &h->updated_ms, &h->seconds) != 3)
        return -1;
    h->n = 0;
    while ((line = strtok_r(NULL, "\n", &save)))
        if (read_series(h, line) < 0)
            return -1;
    return h->n && strcmp(h->series[0].name, "container") == 0 ? 0 : -1;
}

int history_read(struct history *h, const char *path, struct err *e) {
    char *text;
    struct history new;
    if (file_read(path, 1 << 20, &text, NULL, e) < 0)
        return -1;
    int rc = history_init(&new, 0);
    if (rc < 0)
        err_set(e, EX_OSERR, "out of memory");
    else if ((rc = read_lines(&new, text)) < 0)
        err_set(e, EX_DATAERR, "%s: not a history that this version understands", path);
    free(text);
    if (rc < 0) {
        history_free(&new);
        return -1;
    }
    history_free(h);
    *h = new;
    return 0;
}
