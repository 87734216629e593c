#include "run/reload.h"

#include "base/log.h"
#include "run/logs.h"
#include "run/loop.h"
#include "run/notify.h"
#include "run/publish.h"
#include "run/ready.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

struct tally {
    size_t added, changed, removed;
};

static struct plan *read_plan(struct sup *s, struct err *e) {
    struct conf c = {0};
    struct plan *p = calloc(1, sizeof *p);
    int rc = p ? conf_load(&c, s->options.config, plan_sections, e)
               : err_set(e, EX_OSERR, "out of memory");
    if (rc == 0 && (rc = plan_make(p, &c, &s->options, e)) == 0 && c.nproblems) {
        for (size_t i = 0; i < c.nproblems; i++)
            log_error("%s", c.problems[i]);
        rc = err_set(e, EX_CONFIG, "%s%s", c.problems[0],
                     c.nproblems > 1 ? " (and more: see the log)" : "");
    }
    if (rc == 0 && p->hash != s->plan->hash)
        rc = err_set(e, EX_CONFIG,
                     "main, run_dir, log and [forward] cannot change while the container runs");
    conf_free(&c);
    if (rc < 0 && p) {
        plan_free(p);
        free(p);
        p = NULL;
    }
    return p;
}

static bool same_text(const char *a, const char *b) {
    return a == b || (a && b && strcmp(a, b) == 0);
}

// Only the definition of how it is watched has changed: that can be swapped under it.
static void adopt(struct svc *v, const struct plan_service *def) {
    if (v->def->notify_env && def->notify_env)
        memcpy(def->notify_env, v->def->notify_env, PLAN_NOTIFY_ROOM);
    v->def = def;
    v->next = NULL;
}

static void place(struct svc *v, const struct svc *was, const struct plan_service *def,
                  struct tally *t) {
    if (!was) {
        sup_blank(v, def);
        t->added++;
        return;
    }
    *v = *was;
    if (was->def->hash == def->hash && was->def->task == def->task) {
        const struct plan_check *old =
            v->state == SVC_STARTING ? &was->def->ready : &was->def->health;
        const struct plan_check *new = v->state == SVC_STARTING ? &def->ready : &def->health;
        v->check_anew = !same_text(old->text, new->text);
        adopt(v, def);
        return;
    }
    t->changed++;
    v->next = def;
}

// The old services in their new places; those that are gone from the plan behind them.
static void move(struct sup *s, struct svc *to, const struct plan *p, struct tally *t,
                 size_t *ret_n) {
    size_t n = p->n;
    for (size_t i = 0; i < p->n; i++)
        place(&to[i], sup_find(s, p->services[i].name), &p->services[i], t);
    for (size_t i = 0; i < s->n; i++) {
        bool kept = false;
        for (size_t k = 0; k < p->n; k++)
            kept |= strcmp(p->services[k].name, s->svc[i].def->name) == 0;
        if (kept)
            continue;
        to[n] = s->svc[i];
        to[n].removed = true;
        to[n].wanted = false;
        to[n].next = NULL;
        sup_because(&to[n++], "removed from the configuration");
        t->removed++;
    }
    *ret_n = n;
}

static void watch_again(struct sup *s) {
    for (size_t i = 0; i < s->n; i++) {
        ready_anew(s, &s->svc[i]);
        if (s->svc[i].notify_fd >= 0)
            loop_watch(s, s->svc[i].notify_fd, LOOP_NOTIFY, i);
        if (s->svc[i].ready_fd >= 0)
            loop_watch(s, s->svc[i].ready_fd, LOOP_READY_FD, i);
        if (s->svc[i].pid_fd >= 0)
            loop_watch(s, s->svc[i].pid_fd, LOOP_MAIN_PID, i);
        if (s->svc[i].check_fd >= 0 && s->svc[i].state == SVC_STARTING)
            loop_watch(s, s->svc[i].check_fd, LOOP_CHECK, i);
    }
}

// Those that have changed stop now; reload_become_next starts them as what they are then.
static void stop_changed(struct sup *s) {
    for (size_t i = 0; i < s->n; i++) {
        struct svc *v = &s->svc[i];
        if (!v->next)
            continue;
        v->cause = CAUSE_ASKED;
        sup_because(v, "its configuration has changed");
        sup_feed(s, v, SVC_STOP);
    }
}

void reload(struct sup *s, char *text, size_t size) {
    struct err e;
    struct tally t = {0};
    if (s->old) {
        snprintf(text, size, "error %d the reload before this one is not done yet", EX_TEMPFAIL);
        return;
    }
    struct plan *p = read_plan(s, &e);
    struct svc *to = p ? calloc(s->n + p->n + 1, sizeof *to) : NULL;
    if (!to) {
        log_error("reload: kept as it was: %s", p ? "out of memory" : e.text);
        snprintf(text, size, "error %d %s", p ? EX_OSERR : e.code, p ? "out of memory" : e.text);
        if (p)
            plan_free(p);
        free(p);
        return;
    }
    size_t n;
    move(s, to, p, &t, &n);
    free(s->svc);
    s->svc = to;
    s->n = n;
    s->old = s->plan;
    s->plan = p;
    if (publish_room(s) < 0)
        s->text_size = 0;
    watch_again(s);
    stop_changed(s);
    logs_reload(s);
    log_notice("reload: %zu added, %zu changed, %zu removed", t.added, t.changed, t.removed);
    snprintf(text, size, "ok %zu added, %zu changed, %zu removed", t.added, t.changed, t.removed);
    s->dirty = true;
}

void reload_become_next(struct sup *s, struct svc *v) {
    if (v->def->notify_env && !v->next->notify_env)
        notify_close(s, v);
    adopt(v, v->next);
    v->in_row = 0;
    sup_feed(s, v, SVC_RESET);
    s->dirty = true;
}

void reload_settle(struct sup *s) {
    if (!s->old)
        return;
    for (size_t i = 0; i < s->n; i++)
        if (s->svc[i].next || (s->svc[i].removed && svc_alive(s->svc[i].state)))
            return;
    while (s->n > s->plan->n) {
        struct svc *v = &s->svc[--s->n];
        notify_close(s, v);
        logs_drop(s, v);
    }
    plan_free(s->old);
    free(s->old);
    s->old = NULL;
    s->dirty = true;
}
