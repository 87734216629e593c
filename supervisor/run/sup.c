#include "run/sup.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "core/backoff.h"
#include "run/control.h"
#include "run/errout.h"
#include "run/launch.h"
#include "run/logs.h"
#include "run/loop.h"
#include "run/notify.h"
#include "run/oom.h"
#include "run/publish.h"
#include "run/ready.h"
#include "run/reap.h"
#include "run/reload.h"
#include "run/stop.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

void sup_because(struct svc *v, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(v->reason, sizeof v->reason, fmt, ap);
    va_end(ap);
}

struct svc *sup_find(struct sup *s, const char *name) {
    for (size_t i = 0; i < s->n; i++)
        if (!s->svc[i].removed && strcmp(s->svc[i].def->name, name) == 0)
            return &s->svc[i];
    return NULL;
}

void sup_blank(struct svc *v, const struct plan_service *def) {
    *v = (struct svc){.def = def,
                      .wanted = true,
                      .took_ms = -1,
                      .code = -1,
                      .check_fd = -1,
                      .ready_fd = -1,
                      .pid_fd = -1,
                      .notify_fd = -1,
                      .out = {-1, -1},
                      .err = {-1, -1}};
    v->since_ms = clock_wall_ms();
}

static int room(struct sup *s, struct err *e) {
    s->n = s->plan->n;
    s->svc = calloc(s->n + 1, sizeof *s->svc);
    if (!s->svc || publish_room(s) < 0)
        return err_set(e, EX_OSERR, "out of memory");
    for (size_t i = 0; i < s->n; i++)
        sup_blank(&s->svc[i], &s->plan->services[i]);
    return 0;
}

int sup_init(struct sup *s, struct plan *p, const struct plan_options *o, struct err *e) {
    *s = (struct sup){.plan = p,
                      .options = *o,
                      .control = -1,
                      .oom_fd = -1,
                      .spare = -1,
                      .code_of_main = true,
                      .own_log = {-1, -1},
                      .log_control = {-1, -1},
                      .records = {-1, -1}};
    for (int i = 0; i < SUP_CLIENTS; i++)
        s->clients[i].fd = -1;
    s->started_ms = clock_wall_ms();
    s->now_ms = clock_mono_ms();
    errout_use(s);
    return room(s, e) < 0 || loop_init(s, e) < 0 || logs_init(s, e) < 0 ? -1 : 0;
}

// A state's line in the log, once for each transition.
static void note(const struct svc *v) {
    enum log_level level = v->state == SVC_FAILED    ? LOG_ERROR
                           : v->state == SVC_BACKOFF ? LOG_WARNING
                                                     : LOG_INFO;
    log_msg(level, "%s %s: %s%s%s", v->def->task ? "task" : "service", v->def->name,
            svc_name(v->state), *v->reason ? ": " : "", v->reason);
}

static void forget(struct svc *v) {
    ready_cancel(v);
    notify_forget_main(v);
    v->pid = v->leader = v->group = 0;
    v->killed = false;
    v->timer_ms = 0;
    v->unhealthy = 0;
    *v->status = 0;
}

static void arm_again(struct sup *s, struct svc *v) {
    char text[32];
    if (v->ready_at_ms && backoff_recovered(s->now_ms - v->ready_at_ms, v->def->backoff_max_ms))
        v->in_row = 0;
    int64_t ms = backoff_ms(v->def->backoff_ms, v->def->backoff_max_ms, v->in_row);
    v->timer_ms = s->now_ms + ms;
    v->in_row++;
    v->restarts++;
    size_t n = strlen(v->reason);
    snprintf(v->reason + n, sizeof v->reason - n, "; starts again in %s",
             text_ms(ms, text, sizeof text));
}

// Spawning may fail, which is an event of its own: fed when the transition is complete.
static void act(struct sup *s, struct svc *v, unsigned actions) {
    if (actions & SVC_FORGET)
        forget(v);
    if ((actions & SVC_FORGET) && v->def->task)
        notify_close(s, v);
    if (actions & SVC_ARM_AGAIN)
        arm_again(s, v);
    if (actions & SVC_ARM_STOP)
        v->timer_ms = stop_timeout(s, v);
    if (actions & SVC_TERM)
        stop_signal(v, v->def->stop_signal);
    if (actions & SVC_KILL)
        stop_kill(v);
}

void sup_feed(struct sup *s, struct svc *v, enum svc_event event) {
    struct svc_step step = svc_step(v->state, event);
    if (!step.moved)
        return;
    enum svc_state from = v->state;
    v->state = step.next;
    s->dirty = true;
    if (step.next != SVC_STOPPING && from == SVC_STOPPING)
        v->cause = CAUSE_NONE;
    if (step.next == SVC_STARTING)
        *v->reason = 0;
    if (step.next != from)
        *v->waits = 0;
    bool born = !(step.actions & SVC_SPAWN) || launch(s, v) == 0;
    act(s, v, step.actions);
    if (from != step.next) {
        v->since_ms = clock_wall_ms();
        if (step.next == SVC_READY) {
            v->timer_ms = 0;
            v->was_ready = true;
            v->ready_at_ms = s->now_ms;
            v->took_ms = s->now_ms - v->started_ms;
        }
        if (born)
            note(v);
        if (step.next == SVC_STOPPING)
            ready_cancel(v);
        if (step.next == SVC_READY)
            ready_watch_health(s, v);
    }
    if (!born)
        reap_unborn(s, v);
    else if (step.actions & SVC_SPAWN)
        ready_begin(s, v);
}

static bool needs_ready(const struct sup *s, const struct svc *v) {
    for (size_t i = 0; i < v->def->nafter; i++) {
        enum svc_state state = s->svc[v->def->after[i]].state;
        if (state != SVC_READY && state != SVC_DONE)
            return false;
    }
    return true;
}

// Whether nobody who comes after it has a process any more, nobody either who comes after it
// through others: a task that is done stands between a server and those who use it.
static bool unneeded(const struct sup *s, const struct svc *v) {
    size_t index = v - s->svc;
    if (s->phase < SUP_STOPPING || index >= s->plan->n)
        return true;                            // a person or a reload stops it alone
    bool held[PLAN_SERVICES] = {0};             // alive, or somebody is who comes after it
    for (size_t i = s->plan->n; --i > index;) { // each stands behind those it comes after
        const struct svc *o = &s->svc[i];
        held[i] |= svc_alive(o->state);
        for (size_t k = 0; held[i] && k < o->def->nafter; k++)
            held[o->def->after[k]] = true;
    }
    return !held[index];
}

static void settle_one(struct sup *s, struct svc *v) {
    if (!svc_alive(v->state) && v->next)
        reload_become_next(s, v);
    if (v->state == SVC_DOWN && v->wanted && s->phase <= SUP_DRAINING && needs_ready(s, v))
        sup_feed(s, v, SVC_START);
    else if (v->wanted || v->state == SVC_STOPPING || !unneeded(s, v))
        return;
    else if (svc_alive(v->state) || v->state == SVC_BACKOFF) {
        v->cause = CAUSE_ASKED;
        if (s->phase >= SUP_STOPPING)
            sup_because(v, "the container stops");
        sup_feed(s, v, SVC_STOP);
    }
}

// Until nothing changes; never recursively. Each round moves at least one service, and no service
// can go in circles without time passing.
static void settle(struct sup *s) {
    bool moved = true;
    for (int round = 0; moved && round < 3 * PLAN_SERVICES; round++) {
        moved = false;
        for (size_t i = 0; i < s->n; i++) {
            // Those who are needed start first and stop last.
            struct svc *v = &s->svc[s->phase >= SUP_STOPPING ? s->n - 1 - i : i];
            enum svc_state before = v->state;
            settle_one(s, v);
            moved |= v->state != before;
        }
        moved |= stop_settle(s);
        reload_settle(s);
    }
}

static void nearer(int64_t *ret, int64_t ms) {
    if (ms && (!*ret || ms < *ret))
        *ret = ms;
}

static int64_t next_timer(const struct sup *s) {
    int64_t ms = 0;
    for (size_t i = 0; i < s->n; i++) {
        nearer(&ms, s->svc[i].timer_ms);
        nearer(&ms, s->svc[i].check_ms);
    }
    for (int i = 0; i < SUP_CLIENTS; i++)
        if (s->clients[i].fd >= 0)
            nearer(&ms, s->clients[i].until_ms);
    nearer(&ms, s->control_ms);
    nearer(&ms, s->oom_ms);
    nearer(&ms, s->drain_ms);
    nearer(&ms, s->kill_ms);
    nearer(&ms, s->deadline_ms);
    nearer(&ms, s->scan_ms);
    nearer(&ms, s->log.again_ms);
    nearer(&ms, s->forward.again_ms);
    return ms;
}

static void timer(struct sup *s, struct svc *v) {
    char text[32];
    v->timer_ms = 0;
    if (v->state == SVC_BACKOFF) {
        *v->reason = 0;
        sup_feed(s, v, SVC_WAITED);
    } else if (v->state == SVC_STARTING && !v->def->task) {
        ready_late(s, v);
    } else if (v->state == SVC_STARTING) {
        sup_because(v, "not done within %s", text_ms(v->def->ready_timeout_ms, text, sizeof text));
        v->cause = CAUSE_NOT_READY;
        sup_feed(s, v, SVC_STOP);
    } else if (v->state == SVC_STOPPING && v->killed && !v->pid) {
        reap_give_up(s, v);
    } else if (v->state == SVC_STOPPING) {
        if (!v->killed)
            log_warning("%s %s: does not end: killed", v->def->task ? "task" : "service",
                        v->def->name);
        sup_feed(s, v, SVC_LATE);
        v->timer_ms = s->now_ms + 1000;
    }
}

static void timers(struct sup *s) {
    for (size_t i = 0; i < s->n; i++) {
        struct svc *v = &s->svc[i];
        if (v->timer_ms && v->timer_ms <= s->now_ms)
            timer(s, v);
        if (v->check_ms && v->check_ms <= s->now_ms)
            ready_timer(s, v);
    }
    if (s->oom_ms && s->oom_ms <= s->now_ms)
        oom_timer(s);
    control_timers(s);
    logs_timers(s);
    stop_timers(s);
}

// Most containers are gone a moment after their services were asked to stop: the status file is
// written then only if they are not.
static bool can_wait(struct sup *s) {
    enum {
        MOMENT_MS = 2
    };
    if (s->phase < SUP_STOPPING)
        return false;
    if (!s->publish_ms)
        s->publish_ms = s->now_ms + MOMENT_MS;
    return s->now_ms < s->publish_ms;
}

// From here on nothing makes process 1 exit but the end of everything: what fails is tried again.
int sup_run(struct sup *s) {
    for (;;) {
        settle(s);
        if (s->phase == SUP_GONE)
            break;
        if (!s->announced) {
            s->announced = true;
            control_open(s);
            oom_open(s);
            logs_begin(s);
        }
        if (s->dirty && !can_wait(s))
            publish(s);
        int64_t until = next_timer(s);
        if (s->dirty)
            nearer(&until, s->publish_ms);
        if (!until && !s->slim) {
            s->slim = true;
            loop_slim();
        }
        loop_once(s, until);
        timers(s);
    }
    control_close(s);
    return s->code;
}
