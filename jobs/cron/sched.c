#include "cron/sched.h"

#include "cron/next.h"

#include <stdlib.h>

static void swap(struct sched *s, size_t a, size_t b) {
    size_t job = s->heap[a];
    s->heap[a] = s->heap[b];
    s->heap[b] = job;
    s->pos[s->heap[a]] = a;
    s->pos[s->heap[b]] = b;
}

// Jobs that are due together come in the order of the file.
static bool before(const struct sched *s, size_t a, size_t b) {
    size_t x = s->heap[a], y = s->heap[b];
    return s->due[x] != s->due[y] ? s->due[x] < s->due[y] : x < y;
}

static void settle(struct sched *s, size_t i) {
    while (i > 0 && before(s, i, (i - 1) / 2)) {
        swap(s, i, (i - 1) / 2);
        i = (i - 1) / 2;
    }
    for (;;) {
        size_t least = i, left = 2 * i + 1, right = left + 1;
        if (left < s->n && before(s, left, least))
            least = left;
        if (right < s->n && before(s, right, least))
            least = right;
        if (least == i)
            return;
        swap(s, i, least);
        i = least;
    }
}

bool sched_init(struct sched *s, size_t n) {
    *s = (struct sched){.n = n,
                        .due = calloc(n + 1, sizeof *s->due),
                        .heap = calloc(n + 1, sizeof *s->heap),
                        .pos = calloc(n + 1, sizeof *s->pos)};
    if (!s->due || !s->heap || !s->pos)
        return false;
    for (size_t i = 0; i < n; i++) {
        s->due[i] = NEXT_NEVER;
        s->heap[i] = s->pos[i] = i;
    }
    return true;
}

void sched_set(struct sched *s, size_t job, int64_t due_ms) {
    s->due[job] = due_ms;
    settle(s, s->pos[job]);
}

int64_t sched_first(const struct sched *s, size_t *ret_job) {
    if (!s->n)
        return NEXT_NEVER;
    if (ret_job)
        *ret_job = s->heap[0];
    return s->due[s->heap[0]];
}

enum sched_action sched_take(struct sched *s, const struct jobs *jobs, int64_t now_ms,
                             size_t *ret_job, int64_t *ret_due) {
    int64_t due = sched_first(s, ret_job);
    if (due > now_ms)
        return SCHED_WAIT;
    *ret_due = due;
    sched_set(s, *ret_job, job_next(&jobs->v[*ret_job], now_ms));
    bool late = now_ms - due > SCHED_JUMP_MS;
    return late && !jobs->v[*ret_job].catch_up ? SCHED_MISSED : SCHED_RUN;
}

void sched_jumped(struct sched *s, const struct jobs *jobs, int64_t now_ms, int64_t delta_ms) {
    if (delta_ms >= -SCHED_JUMP_MS)
        return; // times that passed meanwhile come off the heap by themselves
    for (size_t i = 0; i < s->n; i++)
        sched_set(s, i, job_next(&jobs->v[i], now_ms));
}

void sched_start(struct sched *s, const struct job *job, size_t index, int64_t now_ms,
                 int64_t last_tick_ms) {
    bool missed = job->catch_up && last_tick_ms > 0 && last_tick_ms < now_ms &&
                  job_next(job, last_tick_ms) <= now_ms;
    sched_set(s, index, missed ? now_ms : job_next(job, now_ms));
}

void sched_free(struct sched *s) {
    free(s->due);
    free(s->heap);
    free(s->pos);
    *s = (struct sched){0};
}
