#include "conf/plan.h"

#include "base/text.h"
#include "conf/planpart.h"
#include "conf/schema.h"
#include "core/order.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

const char *const plan_sections[] = {"container", "service", "task", "forward", NULL};

// A place to hang a problem on when the key is not there: the section's own line.
static struct conf_entry section_entry(const struct conf *c, const char *section, const char *name,
                                       const char *key) {
    struct conf_entry x = {
        .section = section, .name = name, .key = key, .file = c->path, .line = 1};
    for (size_t i = 0; i < c->nsections; i++) {
        if (strcmp(c->sections[i].section, section) == 0 &&
            strcmp(c->sections[i].name, name) == 0) {
            x.file = c->sections[i].file;
            x.line = c->sections[i].line;
        }
    }
    return x;
}

void planpart_problem(struct planpart *w, const char *key, const char *text) {
    const struct conf_entry *x = conf_find(w->c, w->section, w->name, key);
    struct conf_entry here = section_entry(w->c, w->section, w->name, key);
    conf_problem(w->c, x ? x : &here, "%s", text);
}

static enum plan_log log_kind(const char *text) {
    static const char *const names[] = {
        [PLAN_INHERIT] = "inherit", [PLAN_TEXT] = "text", [PLAN_JSON] = "json"};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(text, names[i]) == 0)
            return i;
    return PLAN_LOGFMT;
}

static bool has_section(const struct conf *c, const char *section) {
    for (size_t i = 0; i < c->nsections; i++)
        if (strcmp(c->sections[i].section, section) == 0)
            return true;
    return false;
}

static int plan_container(struct plan *p, struct planpart *w, const struct plan_options *o) {
    enum {
        GRACE = 25000
    };
    struct conf *c = w->c;
    struct planpart here = *w;
    here.section = "container";
    here.name = "";
    p->grace_ms = conf_ms(c, "container", "", "grace", GRACE);
    p->drain_ms = conf_ms(c, "container", "", "drain", 0);
    if (p->drain_ms >= p->grace_ms)
        planpart_problem(&here, "drain",
                         "is as long as the whole grace: no time is left to stop anything");
    p->forward = has_section(c, "forward");
    p->forward_stdout = conf_bool(c, "forward", "", "stdout", true);
    p->log = log_kind(conf_text(c, "container", "", "log", p->forward ? "text" : "inherit"));
    if (p->forward && p->log == PLAN_INHERIT)
        planpart_problem(&here, "log", "[forward] needs log = text, json or logfmt");
    const char *mask = conf_text(c, "container", "", "umask", NULL);
    char *end = NULL;
    p->umask = mask ? (mode_t)strtoul(mask, &end, 8) : 0;
    p->set_umask = mask != NULL;
    if (mask && (*end || p->umask > 0777))
        planpart_problem(&here, "umask", "is not an octal number like 0027");
    const char *dir = getenv("CIVINIT_RUN_DIR");
    p->run_dir = arena_text(
        &p->arena, dir && *dir ? dir : conf_text(c, "container", "", "run_dir", "/run/civinit"));
    p->termination_log = arena_text(
        &p->arena, conf_text(c, "container", "", "termination_log", "/dev/termination-log"));
    p->config = arena_text(&p->arena, o->config);
    const char *base = strrchr(o->role, '/') ? strrchr(o->role, '/') + 1 : o->role;
    size_t n = strlen(base);
    p->role = arena_textn(&p->arena, base, n > 4 && strcmp(base + n - 4, ".ini") == 0 ? n - 4 : n);
    return p->run_dir && p->config && p->role && p->termination_log ? 0 : -1;
}

// Which of the services is the main one: [container] main, else the only one.
static void find_main(struct plan *p, struct planpart *w) {
    struct planpart here = *w;
    here.section = "container";
    here.name = "";
    const char *names[PLAN_SERVICES + 1] = {0};
    size_t only = p->n, count = 0;
    const char *want = conf_text(w->c, "container", "", "main", NULL);
    p->main = p->n;
    for (size_t i = 0; i < p->n; i++) {
        if (p->services[i].task)
            continue;
        only = i;
        names[count++] = p->services[i].name;
        if (want && strcmp(want, p->services[i].name) == 0)
            p->main = i;
    }
    if (!want && count == 1)
        p->main = only;
    if (p->main < p->n) {
        p->services[p->main].main = true;
        return;
    }
    char text[300];
    const char *near = want ? text_nearest(want, names) : NULL;
    if (want)
        snprintf(text, sizeof text,
                 near ? "no enabled service \"%s\"; did you mean \"%s\"?"
                      : "no enabled service \"%s\"",
                 want, near);
    else
        snprintf(text, sizeof text,
                 "missing: which of the %zu services decides when the container ends?", count);
    if (want || count > 1)
        planpart_problem(&here, "main", text);
    else if (!p->n)
        planpart_problem(&here, "main", "there is no service and no task to run");
}

static bool is_section(const struct conf *c, const char *name) {
    for (size_t i = 0; i < c->nsections; i++)
        if (strcmp(c->sections[i].name, name) == 0 &&
            (strcmp(c->sections[i].section, "service") == 0 ||
             strcmp(c->sections[i].section, "task") == 0))
            return true;
    return false;
}

// Resolves one service's `after`. What is there but not enabled is nothing to wait for.
static int find_after(struct plan *p, struct planpart *w, struct plan_service *s) {
    const char *names[PLAN_SERVICES + 1] = {0};
    for (size_t i = 0; i < p->n; i++)
        names[i] = p->services[i].name;
    char **list = conf_list(w->c, w->section, w->name, "after");
    s->after = arena_alloc(&p->arena, (p->n + 1) * sizeof *s->after);
    if (!list || !s->after)
        return -1;
    for (; *list; list++) {
        size_t i = 0;
        while (i < p->n && strcmp(p->services[i].name, *list) != 0)
            i++;
        bool twice = false;
        for (size_t k = 0; k < s->nafter; k++)
            twice |= s->after[k] == i;
        if (i < p->n && !twice)
            s->after[s->nafter++] = i;
        if (i < p->n || is_section(w->c, *list))
            continue;
        char text[300];
        const char *near = text_nearest(*list, names);
        snprintf(text, sizeof text,
                 near ? "there is no service or task \"%s\"; did you mean \"%s\"?"
                      : "there is no service or task \"%s\"",
                 *list, near);
        planpart_problem(w, "after", text);
    }
    return 0;
}

static void tell_cycle(struct plan *p, struct planpart *w, const size_t *cycle, size_t length) {
    autobuf struct buf b = {0};
    for (size_t i = 0; i < length; i++)
        buf_printf(&b, "%s after ", p->services[cycle[i]].name);
    buf_printf(&b, "%s: nobody could start first", p->services[cycle[0]].name);
    struct planpart here = *w;
    here.section = p->services[cycle[0]].task ? "task" : "service";
    here.name = p->services[cycle[0]].name;
    planpart_problem(&here, "after", b.data ? b.data : "a circle");
}

// Puts the services into their order and renumbers what they come after.
static int sort(struct plan *p, struct planpart *w) {
    size_t n = p->n;
    struct order_node *nodes = arena_alloc(&p->arena, (n + 1) * sizeof *nodes);
    size_t *order = arena_alloc(&p->arena, 3 * (n + 1) * sizeof *order);
    struct plan_service *sorted = arena_alloc(&p->arena, (n + 1) * sizeof *sorted);
    if (!nodes || !order || !sorted)
        return -1;
    size_t *place = order + n + 1, *depth = place + n + 1;
    for (size_t i = 0; i < n; i++)
        nodes[i] = (struct order_node){p->services[i].after, p->services[i].nafter};
    size_t cycle = order_sort(nodes, n, order);
    if (cycle) {
        tell_cycle(p, w, order, cycle);
        return 0;
    }
    order_depth(nodes, n, order, depth);
    for (size_t i = 0; i < n; i++)
        place[order[i]] = i;
    for (size_t i = 0; i < n; i++) {
        sorted[i] = p->services[order[i]];
        sorted[i].depth = depth[order[i]];
        for (size_t k = 0; k < sorted[i].nafter; k++)
            sorted[i].after[k] = place[sorted[i].after[k]];
    }
    p->services = sorted;
    return 0;
}

// Makes room for the enabled services and tasks and names them.
static int name_services(struct plan *p, struct conf *c) {
    p->services = arena_alloc(&p->arena, (c->nsections + 1) * sizeof *p->services);
    if (!p->services)
        return -1;
    for (size_t i = 0; i < c->nsections; i++) {
        const char *section = c->sections[i].section, *name = c->sections[i].name;
        bool task = strcmp(section, "task") == 0;
        if ((!task && strcmp(section, "service") != 0) ||
            !conf_bool(c, section, name, "enabled", true))
            continue;
        struct conf_entry here = section_entry(c, section, name, "");
        here.key = NULL;
        if (p->n == PLAN_SERVICES) {
            conf_problem(c, &here, "more than %d services and tasks", PLAN_SERVICES);
            return 0;
        }
        for (size_t k = 0; k < p->n; k++)
            if (strcmp(p->services[k].name, name) == 0)
                conf_problem(c, &here, "a service and a task of the same name");
        struct plan_service *s = &p->services[p->n++];
        s->task = task;
        s->name = arena_text(&p->arena, name);
        if (!s->name)
            return -1;
    }
    return 0;
}

// Of what a reload cannot change.
static uint64_t hash_of(const struct plan *p, const struct conf *c) {
    uint64_t h = planpart_hash(PLANPART_SEED, p->run_dir);
    h = planpart_hash(h, p->main < p->n ? p->services[p->main].name : "");
    for (size_t i = 0; i < c->n; i++)
        if (strcmp(c->entries[i].section, "forward") == 0)
            h = planpart_hash(planpart_hash(h, c->entries[i].key), c->entries[i].value);
    return h + p->log + 8 * p->forward;
}

static int make(struct plan *p, struct planpart *w, const struct plan_options *o) {
    if (plan_container(p, w, o) < 0 || name_services(p, w->c) < 0)
        return -1;
    find_main(p, w);
    for (size_t i = 0; i < p->n; i++) {
        w->section = p->services[i].task ? "task" : "service";
        w->name = p->services[i].name;
        if (find_after(p, w, &p->services[i]) < 0 || planpart_service(w, &p->services[i]) < 0)
            return -1;
    }
    struct planpart here = *w;
    if (sort(p, &here) < 0)
        return -1;
    for (size_t i = 0; i < p->n; i++)
        if (p->services[i].main)
            p->main = i;
    for (size_t i = 0; i < p->n; i++)
        snprintf(p->services[i].grace_env, PLAN_GRACE_ROOM, "CIVINIT_GRACE=%lld",
                 (long long)plan_stop_ms(p, &p->services[i]) / 1000);
    p->hash = hash_of(p, w->c);
    return 0;
}

int64_t plan_last_part(const struct plan *p) {
    return p->grace_ms / 5 < PLAN_LAST_PART ? p->grace_ms / 5 : PLAN_LAST_PART;
}

int64_t plan_stop_ms(const struct plan *p, const struct plan_service *s) {
    int64_t ms = p->grace_ms - p->drain_ms - plan_last_part(p) - PLAN_PER_LEVEL * (int64_t)s->depth;
    ms = ms < s->stop_timeout_ms ? ms : s->stop_timeout_ms;
    return ms > 0 ? ms : 0;
}

int plan_make(struct plan *p, struct conf *c, const struct plan_options *o, struct err *e) {
    struct planpart w = {.p = p, .c = c, .o = o};
    if (make(p, &w, o) < 0)
        return err_set(e, EX_OSERR, "out of memory");
    return 0;
}

void plan_free(struct plan *p) {
    arena_free(&p->arena);
    *p = (struct plan){0};
}
