#include "run/publish.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    CONTAINER_ROOM = 8192,
    // Texts may grow threefold by their encoding.
    SERVICE_ROOM = 3 * (SUP_STATUS + SUP_REASON + 256) + 512
};

int publish_room(struct sup *s) {
    free(s->lines);
    free(s->text);
    s->text_size = CONTAINER_ROOM + s->n * SERVICE_ROOM;
    s->lines = calloc(s->n + 1, sizeof *s->lines);
    s->text = malloc(s->text_size);
    return s->lines && s->text ? 0 : -1;
}

void publish_run_dir(struct sup *s) {
    mkdir(s->plan->run_dir, 0755);
}

// The first that a service still has to wait for before it can start, or NULL.
static const char *needs(const struct sup *s, const struct svc *v) {
    for (size_t i = 0; i < v->def->nafter; i++) {
        const struct svc *o = &s->svc[v->def->after[i]];
        if (o->state != SVC_READY && o->state != SVC_DONE)
            return o->def->name;
    }
    return NULL;
}

// Why a service is not ready: for a state that nothing has gone wrong in, what it waits for.
static const char *why(const struct sup *s, struct svc *v) {
    const char *needed = v->state == SVC_DOWN && v->wanted ? needs(s, v) : NULL;
    if (*v->reason || s->phase != SUP_RUNNING)
        return v->reason;
    if (needed)
        snprintf(v->waits, sizeof v->waits, "waits for %s", needed);
    else if (v->state == SVC_STARTING && !*v->waits && !v->def->task && v->def->ready.text)
        snprintf(v->waits, sizeof v->waits, "waits for %s", v->def->ready.text);
    return v->state == SVC_STARTING || needed ? v->waits : v->reason;
}

// Ready is the container whose every service is; else the first that is not is the reason.
static bool is_ready(const struct sup *s, char *reason, size_t size) {
    for (size_t i = 0; i < s->n; i++) {
        struct svc *v = &s->svc[i];
        if (v->removed || v->state == SVC_READY || v->state == SVC_DONE)
            continue;
        const char *because = why(s, v);
        because = *because ? because : v->status;
        snprintf(reason, size, "%s: %s%s%s", v->def->name, svc_name(v->state), *because ? ": " : "",
                 because);
        return false;
    }
    return true;
}

// What the monotonic clock will show then, as wall-clock time.
static int64_t wall_of(const struct sup *s, int64_t mono_ms) {
    return mono_ms ? clock_wall_ms() + mono_ms - s->now_ms : 0;
}

static void fill_line(const struct sup *s, struct svc *v, struct statusfile_service *l) {
    *l = (struct statusfile_service){.name = v->def->name,
                                     .kind = v->def->task ? "task" : "service",
                                     .state = svc_name(v->state),
                                     .pid = v->pid,
                                     .since_ms = v->since_ms,
                                     .restarts = v->restarts,
                                     .ready_ms = v->took_ms,
                                     .exit = v->signal ? 128 + v->signal : v->code,
                                     .signal = v->signal,
                                     .unhealthy = v->unhealthy,
                                     .next_ms =
                                         v->state == SVC_BACKOFF ? wall_of(s, v->timer_ms) : 0,
                                     .oom = v->oom,
                                     .status = v->status,
                                     .reason = why(s, v)};
}

void publish(struct sup *s) {
    char reason[SUP_REASON + 300] = "";
    const char *state = "stopping";
    if (s->phase == SUP_RUNNING)
        state = is_ready(s, reason, sizeof reason) ? "ready" : "starting";
    else
        snprintf(reason, sizeof reason, "%s", s->reason);
    if (s->phase == SUP_DRAINING)
        state = "draining";
    struct statusfile f = {
        .role = s->plan->role,
        .state = state,
        .started_ms = s->started_ms,
        .pid = getpid(),
        .main = s->plan->main < s->plan->n ? s->plan->services[s->plan->main].name : "",
        .reason = reason,
        .config = s->plan->config,
        .deadline_ms = wall_of(s, s->deadline_ms),
        .oom_kills = s->oom_kills,
        .services = s->lines};
    for (size_t i = 0; i < s->n; i++)
        if (!s->svc[i].removed || svc_alive(s->svc[i].state))
            fill_line(s, &s->svc[i], &s->lines[f.n++]);
    struct err e;
    size_t len = statusfile_format(&f, s->text, s->text_size);
    if (!len)
        return;
    s->dirty = false;
    int rc = statusfile_write(s->plan->run_dir, s->text, len, &e);
    if (rc < 0) {
        publish_run_dir(s);
        rc = statusfile_write(s->plan->run_dir, s->text, len, &e);
    }
    if (rc < 0 && !s->publish_failed)
        log_warning("no status file: %s", e.text);
    else if (rc == 0 && s->publish_failed)
        log_notice("the status file is there again");
    s->publish_failed = rc < 0;
}
