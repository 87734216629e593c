#include "status/report.h"

#include "base/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
    DAY_S = 86400,
    MEMORY_STEP = 16 << 20, // advice is rounded up to this
    CPU_STEP = 10,
    TYPICAL = 500,
    BUSY = 950,
};

static int64_t round_up(int64_t value, int64_t step) {
    return (value + step - 1) / step * step;
}

void report_advice(const struct history *h, const struct figures *f, struct advice *ret) {
    const struct history_series *c = &h->series[0];
    int64_t busy = history_memory(c, BUSY), cpu = history_cpu(c, BUSY), peak = c->memory_peak;
    *ret = (struct advice){-1, -1, -1, h->seconds >= DAY_S};
    if (busy < 0)
        return;
    ret->memory_request = round_up(busy + busy / 10, MEMORY_STEP);
    ret->memory_limit = round_up(peak + peak / 5, MEMORY_STEP);
    // Killed for want of memory: the peak was not all that it needed.
    if (f->oom_kills > 0 && f->memory_limit_bytes > 0 &&
        ret->memory_limit < f->memory_limit_bytes + f->memory_limit_bytes / 2)
        ret->memory_limit =
            round_up(f->memory_limit_bytes + f->memory_limit_bytes / 2, MEMORY_STEP);
    if (ret->memory_limit < ret->memory_request)
        ret->memory_limit = ret->memory_request;
    ret->cpu_request = cpu < 0 ? -1 : round_up(cpu > 0 ? cpu : 1, CPU_STEP);
}

// "183.4 MiB"; "-" when unknown.
static const char *mib(int64_t bytes, char *buf, size_t size) {
    if (bytes < 0)
        snprintf(buf, size, "-");
    else
        snprintf(buf, size, "%.1f MiB", (double)bytes / (1 << 20));
    return buf;
}

static const char *milli(int64_t m, char *buf, size_t size) {
    if (m < 0)
        snprintf(buf, size, "-");
    else
        snprintf(buf, size, "%" PRId64 "m", m);
    return buf;
}

static void row(const struct history_series *s, struct buf *out) {
    char a[24], b[24], c[24], d[24], e[24], f[24], g[24];
    buf_printf(out, "%-16s %11s %11s %11s  %6s %6s %6s  %4" PRId64 " %11s\n", s->name,
               mib(history_memory(s, TYPICAL), a, sizeof a),
               mib(history_memory(s, BUSY), b, sizeof b), mib(s->memory_peak, c, sizeof c),
               milli(history_cpu(s, TYPICAL), d, sizeof d),
               milli(history_cpu(s, BUSY), e, sizeof e), milli(s->cpu_peak, f, sizeof f),
               s->processes_peak, mib(s->per_process_peak, g, sizeof g));
}

// Where a service has workers, what one of them took is what a pool is sized by.
static void worker_lines(const struct history *h, struct buf *out) {
    char x[24];
    for (size_t i = 1; i < h->n; i++) {
        const struct history_series *s = &h->series[i];
        if (s->processes_peak > 2 && strcmp(s->name, "civinit") != 0)
            buf_printf(out,
                       "  %s: one process took at most %s; %" PRId64
                       " at once. What sizes its pool (WORKER_MEMORY) should not be less\n",
                       s->name, mib(s->per_process_peak, x, sizeof x), s->processes_peak);
    }
}

static void memory_lines(const struct history *h, const struct figures *f, const struct advice *a,
                         struct buf *out) {
    char x[24];
    buf_printf(out,
               "  requests.memory: %" PRId64
               "Mi   the container stayed under %s for 95 %% of the time; +10 %%\n",
               a->memory_request >> 20, mib(history_memory(&h->series[0], BUSY), x, sizeof x));
    buf_printf(out, "  limits.memory:   %" PRId64 "Mi   ", a->memory_limit >> 20);
    if (f->oom_kills > 0 && f->memory_limit_bytes > 0)
        buf_printf(out,
                   "%" PRId64
                   " processes were killed at the limit of %s: half as much again, at least\n",
                   f->oom_kills, mib(f->memory_limit_bytes, x, sizeof x));
    else
        buf_printf(out, "it never needed more than %s; +20 %%\n",
                   mib(h->series[0].memory_peak, x, sizeof x));
    if (f->memory_limit_bytes > 0 && f->oom_kills <= 0 && f->memory_limit_bytes > a->memory_limit)
        buf_printf(out, "                          now %s: %" PRId64 " MiB could be given back\n",
                   mib(f->memory_limit_bytes, x, sizeof x),
                   (f->memory_limit_bytes - a->memory_limit) >> 20);
    if (f->memory_peak_bytes >= 0)
        buf_printf(out,
                   "                          (%s is the most that the kernel saw, page cache "
                   "included)\n",
                   mib(f->memory_peak_bytes, x, sizeof x));
}

static void cpu_lines(const struct figures *f, const struct advice *a, struct buf *out) {
    if (a->cpu_request < 0)
        return;
    buf_printf(out,
               "  requests.cpu:    %" PRId64 "m   it stayed under that for 95 %% of the time\n",
               a->cpu_request);
    if (f->cpu_limit_milli < 0) {
        buf_str(
            out,
            "  limits.cpu:      none   bursts make pages fast; the request protects neighbours\n");
        return;
    }
    buf_printf(out, "  limits.cpu:      now %" PRId64 "m", f->cpu_limit_milli);
    if (f->cpu_periods > 0 && f->cpu_throttled_periods * 100 / f->cpu_periods >= 1)
        buf_printf(out,
                   ": it stopped the container in %" PRId64
                   " %% of the periods; raise or remove it\n",
                   f->cpu_throttled_periods * 100 / f->cpu_periods);
    else
        buf_str(out, ": hardly ever reached\n");
}

void report_text(const struct history *h, const struct view *v, struct buf *out) {
    struct advice a;
    char from[40], watched[40];
    report_advice(h, &v->figures, &a);
    buf_printf(out, "Resources of %s%s%s since %s, watched for %s\n\n",
               *v->instance ? v->instance : "this container",
               v->running && *v->status.role ? ", role " : "", v->running ? v->status.role : "",
               clock_rfc3339(h->since_ms, from, sizeof from),
               text_ms(h->seconds * 1000, watched, sizeof watched));
    if (a.memory_request < 0) {
        buf_str(
            out,
            "No samples yet: they are taken when /metrics is read, and every minute otherwise.\n");
        return;
    }
    buf_printf(out, "%-16s %11s %11s %11s  %6s %6s %6s  %4s %11s\n", "", "MEMORY 50%", "95%",
               "PEAK", "CPU 50%", "95%", "PEAK", "PROC", "LARGEST");
    for (size_t i = 1; i < h->n; i++)
        if (h->series[i].processes_peak) // else it never ran
            row(&h->series[i], out);
    row(&h->series[0], out);
    buf_str(out, "\nWhat the pod spec should say, and why:\n\n");
    memory_lines(h, &v->figures, &a, out);
    cpu_lines(&v->figures, &a, out);
    worker_lines(h, out);
    if (!a.trusted)
        buf_str(out, "\nLess than a day was watched: nightly jobs and busy hours may be missing. "
                     "Look again later.\n");
}

static void figure(struct buf *b, const char *key, int64_t value) {
    if (value < 0)
        buf_printf(b, ",\"%s\":null", key);
    else
        buf_printf(b, ",\"%s\":%" PRId64, key, value);
}

void report_json(const struct history *h, const struct view *v, struct buf *out) {
    struct advice a;
    report_advice(h, &v->figures, &a);
    buf_printf(out, "{\"since\":%" PRId64 ",\"updated\":%" PRId64 ",\"watched_s\":%" PRId64,
               h->since_ms, h->updated_ms, h->seconds);
    figure(out, "memory_limit_bytes", v->figures.memory_limit_bytes);
    figure(out, "memory_peak_bytes", v->figures.memory_peak_bytes);
    figure(out, "cpu_limit_milli", v->figures.cpu_limit_milli);
    figure(out, "oom_kills", v->figures.oom_kills);
    buf_printf(out, ",\"advice\":{\"trusted\":%s", a.trusted ? "true" : "false");
    figure(out, "memory_request_bytes", a.memory_request);
    figure(out, "memory_limit_bytes", a.memory_limit);
    figure(out, "cpu_request_milli", a.cpu_request);
    buf_str(out, "},\"services\":[");
    for (size_t i = 0; i < h->n; i++) {
        const struct history_series *s = &h->series[i];
        if (i && !s->processes_peak)
            continue;
        buf_str(out, i ? ",{\"name\":" : "{\"name\":");
        buf_json(out, s->name);
        figure(out, "memory_typical_bytes", history_memory(s, TYPICAL));
        figure(out, "memory_p95_bytes", history_memory(s, BUSY));
        figure(out, "memory_peak_bytes", s->memory_peak);
        figure(out, "memory_peak_at", s->memory_peak_ms);
        figure(out, "cpu_typical_milli", history_cpu(s, TYPICAL));
        figure(out, "cpu_p95_milli", history_cpu(s, BUSY));
        figure(out, "cpu_peak_milli", s->cpu_peak);
        figure(out, "processes_peak", s->processes_peak);
        figure(out, "largest_process_bytes", s->per_process_peak);
        buf_str(out, "}");
    }
    buf_str(out, "]}\n");
}
