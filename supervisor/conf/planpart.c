#include "conf/planpart.h"

#include "base/text.h"
#include "conf/env.h"
#include "conf/schema.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sysexits.h>
#include <unistd.h>

enum {
    READY_TIMEOUT = 60000,
    HEALTH_INTERVAL = 10000,
    HEALTH_TIMEOUT = 5000,
    HEALTH_FAILURES = 3,
    BACKOFF = 250,
    BACKOFF_MAX = 30000,
    MAX_RESTARTS = 10,
    STOP_TIMEOUT = 10000,
    TASK_TIMEOUT = 600000,
};

static int64_t ms_of(struct planpart *w, const char *key, int64_t fallback) {
    return conf_ms(w->c, w->section, w->name, key, fallback);
}

static const char *text_of(struct planpart *w, const char *key) {
    return conf_text(w->c, w->section, w->name, key, NULL);
}

__attribute__((format(printf, 3, 4))) static void complain(struct planpart *w, const char *key,
                                                           const char *fmt, ...) {
    char text[500];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    planpart_problem(w, key, text);
}

uint64_t planpart_hash(uint64_t hash, const char *text) {
    do
        hash = (hash ^ (unsigned char)*text) * 0x100000001b3u;
    while (*text++);
    return hash;
}

// The words of a text, in the arena; NULL: out of memory.
static char **words_of(struct arena *a, const char *text, size_t *ret_n) {
    char **words = NULL;
    struct err e;
    if (text_words(text, &words, &e) < 0)
        words = NULL; // the schema has said so
    size_t n = 0;
    while (words && words[n])
        n++;
    char **list = arena_alloc(a, (n + 1) * sizeof *list);
    bool failed = !list;
    for (size_t i = 0; !failed && i < n; i++)
        failed = !(list[i] = arena_text(a, words[i]));
    free(words);
    *ret_n = n;
    return failed ? NULL : list;
}

// What stands before a task's command that runs in one pod at a time: civinit-jobs holds the lock.
// The other pods wait, and their task then finds that there is nothing left to do.
static size_t lock_words(struct planpart *w, const char *lock, char **argv) {
    struct arena *a = &w->p->arena;
    char path[4096];
    size_t n = 0;
    argv[n++] = arena_text(a, spawn_sibling("civinit-jobs", path, sizeof path));
    argv[n++] = (char *)"--config";
    argv[n++] = (char *)w->p->config;
    argv[n++] = (char *)"lock";
    argv[n++] = arena_text(a, lock);
    argv[n++] = (char *)"--wait";
    argv[n++] = arena_printf(a, "%lldms", (long long)ms_of(w, "timeout", TASK_TIMEOUT));
    argv[n++] = (char *)"--";
    return n;
}

// The command; the main service's gets the words of the command line.
static int plan_command(struct planpart *w, struct plan_service *s) {
    enum {
        LOCK_WORDS = 8
    };
    struct arena *a = &w->p->arena;
    const char *command = text_of(w, "command"), *lock = text_of(w, "lock");
    size_t extra = 0, n, at = 0;
    while (s->main && w->o->words && w->o->words[extra])
        extra++;
    if (!command)
        planpart_problem(w, "command", "is missing");
    char **words = words_of(a, command ? command : "", &n);
    char **argv = arena_alloc(a, (LOCK_WORDS + n + extra + 1) * sizeof *argv);
    if (!words || !argv)
        return -1;
    s->argv = argv;
    if (lock)
        at = lock_words(w, lock, argv);
    for (size_t i = 0; i < n; i++)
        argv[at++] = words[i];
    for (size_t i = 0; i < extra; i++)
        argv[at++] = arena_text(a, w->o->words[i]);
    return 0;
}

static int plan_user(struct planpart *w, struct plan_service *s) {
    const char *user = text_of(w, "user"), *group = text_of(w, "group");
    struct err e;
    char own[24];
    if (!user && !group)
        return 0;
    snprintf(own, sizeof own, "%u", geteuid());
    if (user && user_find(user, NULL, &w->p->arena, &s->user, &e) < 0) {
        if (e.code == EX_OSERR)
            return -1;
        planpart_problem(w, "user", e.text);
        user = NULL; // so that the group is looked at all the same
    }
    if (user_find(user ? user : own, group, &w->p->arena, &s->user, &e) < 0) {
        if (e.code == EX_OSERR)
            return -1;
        planpart_problem(w, group ? "group" : "user", e.text);
    }
    // Without root nobody can become somebody else: all run as who the pod says.
    s->set_user = geteuid() == 0;
    return 0;
}

static void plan_env_file(struct planpart *w, struct env *v) {
    const char *file = text_of(w, "env_file");
    struct err e;
    if (!file || env_file(v, file, &e) == 0)
        return;
    if (w->c->at_build && (errno == ENOENT || errno == ENOTDIR))
        conf_absent(w->c, conf_find(w->c, w->section, w->name, "env_file"), e.text);
    else
        planpart_problem(w, "env_file", e.text);
}

// Sets a variable to a value that is written later, of up to room bytes with name and "=".
static char *env_room(struct env *v, const char *name, size_t room) {
    size_t len = strlen(name);
    char *entry = arena_alloc(v->arena, room);
    if (!entry)
        return NULL;
    snprintf(entry, room, "%s=", name);
    env_set(v, name, "");
    for (size_t i = 0; i < v->n; i++)
        if (strncmp(v->list[i], name, len) == 0 && v->list[i][len] == '=')
            v->list[i] = entry;
    return entry;
}

static int plan_env(struct planpart *w, struct plan_service *s) {
    struct env v;
    env_init(&v, &w->p->arena, environ);
    env_set(&v, "NOTIFY_SOCKET", NULL);
    env_set(&v, "CIVINIT_RUN_DIR", w->p->run_dir);
    if (*w->p->config == '/') // else it would depend on where the process is
        env_set(&v, "CIVINIT_CONFIG", w->p->config);
    s->grace_env = env_room(&v, "CIVINIT_GRACE", PLAN_GRACE_ROOM);
    if (s->set_user) { // a number without an entry has no name, and the home that containers give
                       // it
        env_set(&v, "USER", s->user.name);
        env_set(&v, "LOGNAME", s->user.name);
        env_set(&v, "HOME", s->user.name ? s->user.home : "/");
    }
    for (size_t i = 0; i < w->c->n; i++)
        if (strcmp(w->c->entries[i].section, "container") == 0 &&
            strncmp(w->c->entries[i].key, "env.", 4) == 0)
            env_set(&v, w->c->entries[i].key + 4, w->c->entries[i].value);
    plan_env_file(w, &v);
    for (size_t i = 0; i < w->c->n; i++) {
        const struct conf_entry *x = &w->c->entries[i];
        if (strcmp(x->section, w->section) == 0 && strcmp(x->name, w->name) == 0 &&
            strncmp(x->key, "env.", 4) == 0)
            env_set(&v, x->key + 4, x->value);
    }
    // A task has no readiness, but may tell what it waits for.
    bool notify = s->ready.kind == CHECK_NOTIFY || s->task;
    if (notify)
        s->notify_env = env_room(&v, "NOTIFY_SOCKET", PLAN_NOTIFY_ROOM);
    s->envp = v.list;
    return v.failed || !v.list || !s->grace_env || (notify && !s->notify_env) ? -1 : 0;
}

// civinit-probe KIND TARGET for a check that it makes.
static int plan_probe(struct planpart *w, const char *key, struct plan_check *k, const char *option,
                      int64_t ms) {
    static const struct {
        const char *prefix, *kind;
        bool whole; // the target is the whole text
    } kinds[] = {{"tcp:", "tcp", false},
                 {"unix:", "unix", false},
                 {"dns:", "dns", false},
                 {"http://", "http", true},
                 {"https://", "http", true}};
    struct arena *a = &w->p->arena;
    char path[4096];
    size_t n = 0;
    k->kind = CHECK_PROBE;
    char **argv = k->argv = arena_alloc(a, 10 * sizeof *argv);
    if (!argv)
        return -1;
    argv[n++] = arena_text(a, spawn_sibling("civinit-probe", path, sizeof path));
    argv[n++] = (char *)option;
    argv[n++] = arena_printf(a, "%lldms", (long long)ms);
    if (strcmp(k->text, "mysql") == 0) {
        if (!conf_find(w->c, "database", "", "host") && !conf_find(w->c, "database", "", "socket"))
            planpart_problem(w, key, "mysql: [database] has neither host nor socket");
        argv[n++] = (char *)"--config";
        argv[n++] = (char *)w->p->config;
        argv[n++] = (char *)"mysql";
        return 0;
    }
    for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        size_t len = strlen(kinds[i].prefix);
        if (strncmp(k->text, kinds[i].prefix, len) != 0)
            continue;
        argv[n++] = (char *)kinds[i].kind;
        argv[n++] = (char *)k->text + (kinds[i].whole ? 0 : len);
        return 0;
    }
    return 0;
}

static int plan_check(struct planpart *w, const char *key, struct plan_check *k, const char *option,
                      int64_t ms) {
    const char *text = text_of(w, key);
    int64_t fd = 0;
    size_t n;
    struct err e;
    if (!text)
        return 0;
    k->text = arena_text(&w->p->arena, text);
    if (!k->text)
        return -1;
    bool health = strcmp(key, "health") == 0;
    if (strcmp(text, "notify") == 0) {
        k->kind = CHECK_NOTIFY;
    } else if (strncmp(text, "fd:", 3) == 0) {
        k->kind = CHECK_FD;
        if (text_int(text + 3, 3, 1023, &fd, &e) < 0)
            complain(w, key, "fd:N: %s", e.text);
        k->fd = (int)fd;
    } else if (strncmp(text, "exec:", 5) == 0) {
        k->kind = CHECK_EXEC;
        k->argv = words_of(&w->p->arena, text + 5, &n);
        if (!k->argv)
            return -1;
        if (!n)
            planpart_problem(w, key, "exec: needs a command");
    } else if (plan_probe(w, key, k, option, ms) < 0) {
        return -1;
    }
    if (health && (k->kind == CHECK_NOTIFY || k->kind == CHECK_FD))
        complain(w, key, "\"%s\" says once that a service is ready; it cannot tell its health",
                 text);
    return 0;
}

static int plan_checks(struct planpart *w, struct plan_service *s) {
    s->ready_timeout_ms =
        s->task ? ms_of(w, "timeout", TASK_TIMEOUT) : ms_of(w, "ready_timeout", READY_TIMEOUT);
    s->health_interval_ms = ms_of(w, "health_interval", HEALTH_INTERVAL);
    s->health_timeout_ms = ms_of(w, "health_timeout", HEALTH_TIMEOUT);
    s->health_failures = conf_int(w->c, w->section, w->name, "health_failures", HEALTH_FAILURES);
    if (s->health_interval_ms == 0)
        planpart_problem(w, "health_interval", "0: it would never pause");
    if (s->health_failures == 0)
        planpart_problem(w, "health_failures", "0: it would be restarted while it is healthy");
    return plan_check(w, "ready", &s->ready, "--wait", s->ready_timeout_ms) < 0 ||
                   plan_check(w, "health", &s->health, "--timeout", s->health_timeout_ms) < 0
               ? -1
               : 0;
}

static void plan_restart(struct planpart *w, struct plan_service *s) {
    const char *policy = text_of(w, "restart");
    s->restart = s->main ? VERDICT_NEVER : VERDICT_ALWAYS;
    if (policy)
        s->restart = strcmp(policy, "always") == 0  ? VERDICT_ALWAYS
                     : strcmp(policy, "never") == 0 ? VERDICT_NEVER
                                                    : VERDICT_ON_FAILURE;
    s->max_restarts = conf_int(w->c, w->section, w->name, "max_restarts", MAX_RESTARTS);
    s->backoff_ms = ms_of(w, "backoff", BACKOFF);
    s->backoff_max_ms = ms_of(w, "backoff_max", BACKOFF_MAX);
    if (s->backoff_max_ms < s->backoff_ms && !text_of(w, "backoff_max"))
        s->backoff_max_ms = s->backoff_ms;
    if (s->backoff_max_ms < s->backoff_ms)
        planpart_problem(w, "backoff_max", "is shorter than backoff");
    if (s->task) {
        int64_t retry = conf_int(w->c, w->section, w->name, "retry", 0);
        s->restart = retry ? VERDICT_ON_FAILURE : VERDICT_NEVER;
        s->max_restarts = retry;
    }
    if (s->main && w->o->once)
        s->restart = VERDICT_NEVER;
}

static int plan_stop(struct planpart *w, struct plan_service *s) {
    const char *stop = text_of(w, "stop_signal"), *reload = text_of(w, "reload_signal");
    const char *all = text_of(w, "stop_timeout");
    int64_t budget = w->p->grace_ms - w->p->drain_ms;
    s->stop_signal = stop ? schema_signal(stop) : SIGTERM;
    s->reload_signal = reload ? schema_signal(reload) : 0;
    s->stop_timeout_ms = ms_of(w, "stop_timeout", budget < STOP_TIMEOUT ? budget : STOP_TIMEOUT);
    if (all && strcmp(all, "grace") == 0)
        s->stop_timeout_ms = budget;
    if (s->stop_timeout_ms > budget && budget > 0)
        complain(w, "stop_timeout",
                 "is longer than grace without drain (%lldms): it would be cut short",
                 (long long)budget);
    char **list = conf_list(w->c, w->section, w->name, "success");
    size_t n = 0;
    while (list && list[n])
        n++;
    s->success = arena_alloc(&w->p->arena, (n + 1) * sizeof *s->success);
    if (!list || !s->success)
        return -1;
    for (size_t i = 0; i < n; i++) {
        int64_t code;
        struct err e;
        if (text_int(list[i], 0, 255, &code, &e) < 0)
            planpart_problem(w, "success", e.text);
        else
            s->success[s->nsuccess++] = (int)code;
    }
    return 0;
}

static int whole(struct planpart *w, const char *key, int64_t min, int64_t max, bool *set,
                 int *ret) {
    const char *text = text_of(w, key);
    struct err e;
    int64_t n;
    if (!text)
        return 0;
    if (text_int(text, min, max, &n, &e) < 0) {
        planpart_problem(w, key, e.text);
        return 0;
    }
    *set = true;
    *ret = (int)n;
    return 0;
}

// The resource of "nofile", or -1 and the nearest known name.
static int resource_of(const char *name, const char **ret_name, const char **ret_near) {
    static const struct {
        const char *name;
        int resource;
    } limits[] = {{"nofile", RLIMIT_NOFILE},     {"core", RLIMIT_CORE},
                  {"nproc", RLIMIT_NPROC},       {"as", RLIMIT_AS},
                  {"data", RLIMIT_DATA},         {"stack", RLIMIT_STACK},
                  {"fsize", RLIMIT_FSIZE},       {"cpu", RLIMIT_CPU},
                  {"memlock", RLIMIT_MEMLOCK},   {"sigpending", RLIMIT_SIGPENDING},
                  {"msgqueue", RLIMIT_MSGQUEUE}, {"rtprio", RLIMIT_RTPRIO},
                  {"rttime", RLIMIT_RTTIME},     {"nice", RLIMIT_NICE},
                  {"locks", RLIMIT_LOCKS},       {"rss", RLIMIT_RSS}};
    const char *names[sizeof limits / sizeof *limits + 1] = {0};
    for (unsigned i = 0; i < sizeof limits / sizeof *limits; i++) {
        names[i] = limits[i].name;
        if (strcasecmp(limits[i].name, name) == 0) {
            *ret_name = limits[i].name;
            return limits[i].resource;
        }
    }
    *ret_near = text_nearest(name, names);
    return -1;
}

static int limit_of(const char *text, rlim_t *ret) {
    int64_t n = 0;
    if (strcmp(text, "unlimited") == 0) {
        *ret = RLIM_INFINITY;
        return 0;
    }
    if (text_size(text, &n, NULL) < 0)
        return -1;
    *ret = (rlim_t)n;
    return 0;
}

static void plan_rlimit(struct planpart *w, struct plan_service *s, const struct conf_entry *x) {
    const char *near = NULL, *colon = strchr(x->value, ':');
    struct spawn_rlimit r = {0};
    r.resource = resource_of(x->key + strlen("rlimit."), &r.name, &near);
    char soft[64];
    snprintf(soft, sizeof soft, "%.*s", (int)strcspn(x->value, ":"), x->value);
    if (r.resource < 0)
        conf_problem(w->c, x, near ? "unknown limit; did you mean rlimit.%s?" : "unknown limit",
                     near);
    else if (limit_of(soft, &r.limit.rlim_cur) < 0 ||
             limit_of(colon ? colon + 1 : soft, &r.limit.rlim_max) < 0)
        conf_problem(w->c, x,
                     "\"%s\" is no limit: write a number, a size, unlimited, or two of them as "
                     "SOFT:HARD",
                     x->value);
    else if (r.limit.rlim_cur > r.limit.rlim_max)
        conf_problem(w->c, x, "the soft limit is above the hard limit");
    else
        s->rlimits[s->nrlimits++] = r;
}

static int plan_limits(struct planpart *w, struct plan_service *s) {
    size_t count = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < w->c->n; i++) {
            const struct conf_entry *x = &w->c->entries[i];
            if (strcmp(x->section, w->section) != 0 || strcmp(x->name, w->name) != 0 ||
                strncmp(x->key, "rlimit.", 7) != 0)
                continue;
            if (pass)
                plan_rlimit(w, s, x);
            else
                count++;
        }
        if (!pass && !(s->rlimits = arena_alloc(&w->p->arena, (count + 1) * sizeof *s->rlimits)))
            return -1;
    }
    whole(w, "nice", -20, 19, &s->set_nice, &s->nice);
    whole(w, "oom_score_adj", -1000, 1000, &s->set_oom_score_adj, &s->oom_score_adj);
    const char *cwd = text_of(w, "cwd");
    if (cwd && *cwd != '/')
        planpart_problem(w, "cwd", "is not an absolute path");
    s->cwd = cwd ? arena_text(&w->p->arena, cwd) : NULL;
    return cwd && !s->cwd ? -1 : 0;
}

static void plan_log(struct planpart *w, struct plan_service *s) {
    static const char *const names[] = {"inherit", "text", "json", "logfmt"};
    const char *text = text_of(w, "log");
    s->log = w->p->log;
    for (unsigned i = 0; text && i < sizeof names / sizeof *names; i++)
        if (strcmp(text, names[i]) == 0)
            s->log = i;
}

// What its process is started with: when this changes, a reload restarts it.
static uint64_t hash_of(const struct plan_service *s, const struct plan *p) {
    uint64_t h = PLANPART_SEED;
    char text[400];
    for (char **w = s->argv; *w; w++)
        h = planpart_hash(h, *w);
    h = planpart_hash(h, "");
    for (char **v = s->envp; *v; v++)
        h = planpart_hash(h, *v);
    snprintf(text, sizeof text, "%d %u %u %d %d %d %d %d %u %d %d %d", s->set_user, s->user.uid,
             s->user.gid, s->set_nice, s->nice, s->set_oom_score_adj, s->oom_score_adj,
             p->set_umask, p->umask, s->log, s->ready.kind, s->ready.fd);
    h = planpart_hash(h, text);
    for (size_t i = 0; i < s->user.ngroups; i++)
        h = h * 31 + s->user.groups[i];
    for (size_t i = 0; i < s->nrlimits; i++)
        h = ((h * 31 + s->rlimits[i].resource) * 31 + s->rlimits[i].limit.rlim_cur) * 31 +
            s->rlimits[i].limit.rlim_max;
    return planpart_hash(h, s->cwd ? s->cwd : "");
}

int planpart_service(struct planpart *w, struct plan_service *s) {
    plan_restart(w, s);
    plan_log(w, s);
    if (plan_command(w, s) < 0 || plan_user(w, s) < 0 || plan_checks(w, s) < 0 ||
        plan_env(w, s) < 0 || plan_stop(w, s) < 0 || plan_limits(w, s) < 0)
        return -1;
    s->hash = hash_of(s, w->p);
    return 0;
}
