#include "status/state.h"

#include "base/file.h"

#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    FILE_MAX = 4 << 20,
    FOLDERS_MAX = 16,
};

static const char *text_of(struct arena *a, const json_t *o, const char *key) {
    const char *s = json_string_value(json_object_get(o, key));
    s = s ? arena_text(a, s) : "";
    return s ? s : "";
}

// A number, or 1/0 of a boolean.
static int64_t number_of(const json_t *o, const char *key, int64_t fallback) {
    const json_t *v = json_object_get(o, key);
    if (json_is_boolean(v))
        return json_is_true(v);
    return json_is_number(v) ? (int64_t)json_number_value(v) : fallback;
}

static void read_runs(struct arena *a, json_t *runs, struct state_job *j) {
    struct state_count *counts = arena_alloc(a, sizeof *counts * (json_object_size(runs) + 1));
    const char *outcome;
    json_t *n;
    if (!counts)
        return;
    json_object_foreach(runs, outcome, n) {
        char *copy = arena_text(a, outcome);
        if (copy)
            counts[j->nruns++] = (struct state_count){copy, json_integer_value(n)};
    }
    j->runs = counts;
}

static struct state_job read_job(struct arena *a, const json_t *o, const struct state_jobs *s) {
    const json_t *last = json_object_get(o, "last");
    struct state_job j = {
        .instance = s->instance,
        .updated_ms = s->updated_ms,
        .name = text_of(a, o, "name"),
        .schedule = text_of(a, o, "schedule"),
        .next_ms = number_of(o, "next", 0),
        .last_success_ms = number_of(o, "last_success", 0),
        .running = json_is_true(json_object_get(o, "running")),
        .started_ms = number_of(last, "started", 0),
        .ended_ms = number_of(last, "ended", 0),
        .outcome = text_of(a, last, "outcome"),
        .reason = text_of(a, last, "reason"),
        .exit = number_of(last, "exit", -1),
        .signal = number_of(last, "signal", 0),
        .duration_ms = number_of(last, "duration_ms", -1),
        .rss_kb = number_of(last, "rss_kb", -1),
        .cpu_ms = number_of(last, "cpu_ms", -1),
    };
    read_runs(a, json_object_get(o, "runs"), &j);
    return j;
}

static void read_job_list(struct arena *a, const json_t *list, struct state_jobs *s) {
    struct state_job *jobs = arena_alloc(a, sizeof *jobs * (json_array_size(list) + 1));
    size_t i;
    json_t *o;
    if (!jobs)
        return;
    json_array_foreach(list, i, o) jobs[s->njobs++] = read_job(a, o, s);
    s->jobs = jobs;
}

static void read_civicrm(struct arena *a, const json_t *list, struct state_jobs *s) {
    struct state_civicrm *jobs = arena_alloc(a, sizeof *jobs * (json_array_size(list) + 1));
    size_t i;
    json_t *o;
    if (!jobs)
        return;
    json_array_foreach(list, i, o) jobs[s->ncivicrm++] =
        (struct state_civicrm){.instance = s->instance,
                               .updated_ms = s->updated_ms,
                               .name = text_of(a, o, "name"),
                               .last_success_ms = number_of(o, "last_success", 0),
                               .failures_24h = number_of(o, "failures_24h", -1),
                               .unfinished_24h = number_of(o, "unfinished_24h", -1)};
    s->civicrm = jobs;
}

static const char *instance_of(struct arena *a, const json_t *o, const char *fallback) {
    const char *name = text_of(a, o, "instance");
    return *name ? name : fallback;
}

static void read_jobs(struct arena *a, const json_t *o, const char *instance, struct state *ret) {
    const json_t *mail = json_object_get(o, "mail");
    const char *hold = text_of(a, o, "hold");
    struct state_jobs s = {
        .instance = instance_of(a, o, instance),
        .hold = *hold ? hold : NULL,
        .updated_ms = number_of(o, "updated", 0),
        .has_mail = json_is_object(mail),
        .mail_pending = number_of(mail, "pending", -1),
        .mail_oldest_due_s = number_of(mail, "oldest_due_s", -1),
        .mail_lost_24h = number_of(mail, "lost_24h", -1),
    };
    read_job_list(a, json_object_get(o, "jobs"), &s);
    read_civicrm(a, json_object_get(o, "civicrm"), &s);
    ret->jobs[ret->njobs++] = s;
}

static void read_backup(struct arena *a, const json_t *o, const char *instance, struct state *ret) {
    const json_t *last = json_object_get(o, "last");
    struct state_backup b = {
        .instance = instance_of(a, o, instance),
        .updated_ms = number_of(o, "updated", 0),
        .last_success_ms = number_of(o, "last_success", 0),
        .started_ms = number_of(last, "started", 0),
        .ended_ms = number_of(last, "ended", 0),
        .outcome = text_of(a, last, "outcome"),
        .reason = text_of(a, last, "reason"),
        .file = text_of(a, last, "file"),
        .bytes = number_of(last, "bytes", -1),
        .raw_bytes = number_of(last, "raw_bytes", -1),
        .entries = number_of(last, "entries", -1),
        .warnings = number_of(last, "warnings", -1),
        .verified_ms = number_of(last, "verified", 0),
    };
    if (b.verified_ms == 1) // "true": when it ended
        b.verified_ms = b.ended_ms;
    ret->backups[ret->nbackups++] = b;
}

static void read_forward(struct arena *a, const json_t *o, const char *instance,
                         struct state *ret) {
    struct state_forward f = {
        .updated_ms = number_of(o, "updated", 0),
        .pid = number_of(o, "pid", 0),
        .connected = json_is_true(json_object_get(o, "connected")),
        .server = text_of(a, o, "server"),
        .problem = text_of(a, o, "problem"),
        .delivered = number_of(o, "delivered", 0),
        .dropped = number_of(o, "dropped", 0),
        .resent = number_of(o, "resent", 0),
        .connections = number_of(o, "connections", 0),
        .waiting = number_of(o, "waiting", 0),
        .unacknowledged = number_of(o, "unacknowledged", 0),
        .bytes = number_of(o, "bytes", 0),
        .limit = number_of(o, "limit", 0),
    };
    ret->forward = arena_alloc(a, sizeof f);
    if (ret->forward)
        *ret->forward = f;
}

// What the files of all folders are read with.
struct reading {
    struct arena *arena;
    const char *instance;
    struct state *state;
};

typedef void take_fn(struct arena *, const json_t *, const char *instance, struct state *);

static void read_text(struct reading *r, const char *path, const char *text, size_t len,
                      take_fn *take) {
    json_error_t problem;
    json_t *o = json_loadb(text, len, 0, &problem);
    if (json_is_object(o))
        take(r->arena, o, r->instance, r->state);
    else
        r->state->problems[r->state->nproblems++] = arena_printf(
            r->arena, "%s: %s%s", path, o ? "not an object" : "not JSON: ", o ? "" : problem.text);
    json_decref(o);
}

static void read_one(struct reading *r, const char *folder, const char *name, take_fn *take) {
    char path[PATH_MAX], *text;
    size_t len;
    struct err e;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (access(path, F_OK) < 0)
        return;
    if (file_read(path, FILE_MAX, &text, &len, &e) < 0) {
        r->state->problems[r->state->nproblems++] = arena_text(r->arena, e.text);
        return;
    }
    read_text(r, path, text, len, take);
    free(text);
}

// A list without doubles: x takes the place of one of the same instance and name, if it is newer.
static void list_job(struct state *s, const struct state_job *x) {
    for (size_t i = 0; i < s->nall_jobs; i++) {
        const struct state_job *y = s->all_jobs[i];
        if (strcmp(x->name, y->name) == 0 && strcmp(x->instance, y->instance) == 0) {
            if (x->updated_ms > y->updated_ms)
                s->all_jobs[i] = x;
            return;
        }
    }
    s->all_jobs[s->nall_jobs++] = x;
}

static void list_civicrm(struct state *s, const struct state_civicrm *x) {
    for (size_t i = 0; i < s->nall_civicrm; i++) {
        const struct state_civicrm *y = s->all_civicrm[i];
        if (strcmp(x->name, y->name) == 0 && strcmp(x->instance, y->instance) == 0) {
            if (x->updated_ms > y->updated_ms)
                s->all_civicrm[i] = x;
            return;
        }
    }
    s->all_civicrm[s->nall_civicrm++] = x;
}

static void list_all(struct arena *a, struct state *s) {
    size_t njobs = 0, ncivicrm = 0;
    for (size_t i = 0; i < s->njobs; i++) {
        njobs += s->jobs[i].njobs;
        ncivicrm += s->jobs[i].ncivicrm;
    }
    s->all_jobs = arena_alloc(a, sizeof(void *) * (njobs + 1));
    s->all_civicrm = arena_alloc(a, sizeof(void *) * (ncivicrm + 1));
    for (size_t i = 0; s->all_jobs && s->all_civicrm && i < s->njobs; i++) {
        for (size_t k = 0; k < s->jobs[i].njobs; k++)
            list_job(s, &s->jobs[i].jobs[k]);
        for (size_t k = 0; k < s->jobs[i].ncivicrm; k++)
            list_civicrm(s, &s->jobs[i].civicrm[k]);
    }
}

// Of one instance's mail and backups only what was written last counts.
static void drop_older(struct state *s) {
    size_t n = 0;
    for (size_t i = 0; i < s->njobs; i++)
        for (size_t k = 0; k < s->njobs; k++)
            if (k != i && s->jobs[k].has_mail &&
                strcmp(s->jobs[i].instance, s->jobs[k].instance) == 0 &&
                (s->jobs[k].updated_ms > s->jobs[i].updated_ms ||
                 (k < i && s->jobs[k].updated_ms == s->jobs[i].updated_ms)))
                s->jobs[i].has_mail = false;
    for (size_t i = 0; i < s->nbackups; i++) {
        size_t k = 0;
        while (k < n && strcmp(s->backups[i].instance, s->backups[k].instance) != 0)
            k++;
        if (k == n)
            s->backups[n++] = s->backups[i];
        else if (s->backups[i].updated_ms > s->backups[k].updated_ms)
            s->backups[k] = s->backups[i];
    }
    s->nbackups = n;
}

void state_read(const struct state_options *o, struct arena *arena, struct state *ret) {
    struct reading r = {arena, o->instance, ret};
    size_t n = 0;
    *ret = (struct state){0};
    while (n < FOLDERS_MAX && o->folders[n])
        n++;
    ret->jobs = arena_alloc(arena, sizeof *ret->jobs * (n + 1));
    ret->backups = arena_alloc(arena, sizeof *ret->backups * (n + 1));
    ret->problems = arena_alloc(arena, sizeof *ret->problems * (2 * n + 2));
    if (!ret->jobs || !ret->backups || !ret->problems)
        return;
    for (size_t i = 0; i < n; i++) {
        if (o->jobs)
            read_one(&r, o->folders[i], "jobs.json", read_jobs);
        if (o->backups)
            read_one(&r, o->folders[i], "backup.json", read_backup);
    }
    read_one(&r, o->run_dir, "forward.json", read_forward);
    list_all(arena, ret);
    drop_older(ret);
}
