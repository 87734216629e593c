#include "cron/job.h"

#include "base/log.h"
#include "base/text.h"
#include "conf/schema.h"
#include "cron/next.h"

#include <limits.h>
#include <regex.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

// Keys whose text is taken as it is.
static const struct {
    const char *key;
    size_t offset;
} texts[] = {
    {"schedule", offsetof(struct job, schedule)},
    {"command", offsetof(struct job, command)},
    {"shell", offsetof(struct job, shell)},
    {"url", offsetof(struct job, url)},
    {"user", offsetof(struct job, user)},
    {"group", offsetof(struct job, group)},
    {"cwd", offsetof(struct job, cwd)},
    {"env_file", offsetof(struct job, env_file)},
    {"failure_text", offsetof(struct job, failure_text)},
    {"ping", offsetof(struct job, ping)},
    {"on_failure", offsetof(struct job, on_failure)},
};

struct loading {
    struct jobs *j;
    bool lock; // of [jobs]
};

static const struct zone *zone_cached(struct jobs *j, const char *name, struct err *e) {
    for (struct zone_link *l = j->zones; l; l = l->next)
        if (strcmp(zone_name(l->zone), name) == 0)
            return l->zone;
    struct zone_link *l = arena_alloc(&j->conf.arena, sizeof *l);
    if (!l) {
        err_set(e, EX_OSERR, "out of memory");
        return NULL;
    }
    if (zone_load(name, &l->zone, e) < 0)
        return NULL;
    l->next = j->zones;
    j->zones = l;
    return l->zone;
}

static void take_needs(struct jobs *j, struct job *job, const struct conf_entry *x) {
    static const char *const words[] = {"database", "smtp", "imap", "mail", NULL};
    char **list = NULL;
    if (text_words(x->value, &list, NULL) < 0)
        return;
    for (char **w = list; *w; w++) {
        int i = 0;
        while (words[i] && strcmp(words[i], *w) != 0)
            i++;
        if (words[i])
            job->needs |= 1U << i;
        else
            conf_problem(&j->conf, x, "\"%s\" is not one of database smtp imap mail", *w);
    }
    free(list);
}

static void take_env(struct jobs *j, struct job *job, const struct conf_entry *x) {
    struct job_env *v = arena_alloc(&j->conf.arena, sizeof *v);
    if (!v)
        return;
    *v = (struct job_env){x->key + 4, x->value, job->env};
    job->env = v;
}

static int64_t duration(const char *value) {
    int64_t ms = 0;
    text_duration(value, &ms, NULL);
    return ms;
}

static bool is_yes(const char *value) {
    bool b = false;
    text_bool(value, &b, NULL);
    return b;
}

// Everything that is one value and needs no other key.
static void take_entry(struct jobs *j, struct job *job, const struct conf_entry *x) {
    const char *key = x->key, *value = x->value;
    for (unsigned i = 0; i < sizeof texts / sizeof *texts; i++)
        if (strcmp(texts[i].key, key) == 0) {
            *(const char **)((char *)job + texts[i].offset) = value;
            return;
        }
    if (strcmp(key, "timeout") == 0)
        job->timeout_ms = duration(value);
    else if (strcmp(key, "backoff") == 0)
        job->backoff_ms = duration(value);
    else if (strcmp(key, "splay") == 0)
        job->phase_ms = next_phase(arena_printf(&j->conf.arena, "%s/%s", j->instance, job->name),
                                   duration(value));
    else if (strcmp(key, "retry") == 0)
        text_int(value, 0, INT_MAX, &job->retry, NULL);
    else if (strcmp(key, "overlap") == 0)
        job->overlap = *value == 'q' ? OVERLAP_QUEUE : *value == 'k' ? OVERLAP_KILL : OVERLAP_SKIP;
    else if (strcmp(key, "catch_up") == 0)
        job->catch_up = strcmp(value, "once") == 0;
    else if (strcmp(key, "verdict") == 0)
        job->civicrm = strcmp(value, "civicrm") == 0;
    else if (strcmp(key, "isolate") == 0)
        job->isolate = is_yes(value);
    else if (strcmp(key, "enabled") == 0)
        job->enabled = is_yes(value);
    else if (strcmp(key, "needs") == 0)
        take_needs(j, job, x);
    else if (strncmp(key, "env.", 4) == 0)
        take_env(j, job, x);
    else if (strcmp(key, "lock") == 0) {
        bool no = false;
        job->lock = text_bool(value, &no, NULL) == 0 ? NULL : value;
        if (!job->lock)
            job->instance_lock = no;
    }
}

static const struct conf_entry *entry(const struct jobs *j, const struct job *job,
                                      const char *key) {
    const struct conf_entry *x = conf_find(&j->conf, "job", job->name, key);
    return x ? x : conf_find(&j->conf, "job", job->name, "command");
}

static void take_zone(struct loading *l, struct job *job) {
    struct err e;
    const struct conf_entry *x = conf_find(&l->j->conf, "job", job->name, "timezone");
    job->zone = x ? zone_cached(l->j, x->value, &e) : l->j->zone;
    if (x && !job->zone)
        conf_problem(&l->j->conf, x, "%s", e.text);
}

static void take_account(struct jobs *j, struct job *job) {
    struct err e;
    if (!job->user && !job->group)
        return;
    if (!job->user) {
        conf_problem(&j->conf, entry(j, job, "group"), "a group needs a user beside it");
        return;
    }
    struct user *a = arena_alloc(&j->conf.arena, sizeof *a);
    if (!a || user_find(job->user, job->group, &j->conf.arena, a, &e) < 0) {
        conf_problem(&j->conf, entry(j, job, "user"), "%s", a ? e.text : "out of memory");
        return;
    }
    job->account = a;
}

// What needs several keys.
static void complete(struct loading *l, struct job *job) {
    struct jobs *j = l->j;
    struct err e;
    int ways = (job->command != NULL) + (job->shell != NULL) + (job->url != NULL);
    job->automatic = job->civicrm && (ways ? job->command && strcmp(job->command, "auto") == 0 : 1);
    if (ways != 1 && !job->automatic)
        conf_problem(&j->conf, entry(j, job, "schedule"),
                     "job %s: %s: use one of command, shell and url", job->name,
                     ways ? "has several things to run" : "has nothing to run");
    if (job->schedule && expr_parse(job->schedule, &job->expr, &e) < 0)
        conf_problem(&j->conf, entry(j, job, "schedule"), "%s", e.text);
    if (job->command && strcmp(job->command, "auto") == 0 && !job->civicrm)
        conf_problem(&j->conf, entry(j, job, "command"), "auto needs verdict = civicrm");
    if (job->isolate && !job->civicrm)
        conf_problem(&j->conf, entry(j, job, "isolate"), "needs verdict = civicrm");
    if (job->failure_text && !*job->failure_text)
        job->failure_text = NULL;
    regex_t re;
    if (job->failure_text && regcomp(&re, job->failure_text, REG_EXTENDED | REG_NOSUB) != 0)
        conf_problem(&j->conf, entry(j, job, "failure_text"), "is no extended regular expression");
    else if (job->failure_text)
        regfree(&re);
    if (job->civicrm)
        job->needs |= NEEDS_DATABASE;
    if (job->needs & NEEDS_DATABASE && !j->database)
        conf_problem(&j->conf, entry(j, job, job->civicrm ? "verdict" : "needs"),
                     "needs a [database] section");
    take_zone(l, job);
    take_account(j, job);
}

static bool make_jobs(struct loading *l) {
    struct jobs *j = l->j;
    j->v = arena_alloc(&j->conf.arena, (j->conf.nsections + 1) * sizeof *j->v);
    if (!j->v)
        return false;
    int64_t splay = conf_ms(&j->conf, "jobs", "", "splay", 0);
    for (size_t i = 0; i < j->conf.nsections; i++)
        if (strcmp(j->conf.sections[i].section, "job") == 0)
            j->v[j->n++] =
                (struct job){.name = j->conf.sections[i].name,
                             .enabled = true,
                             .instance_lock = l->lock,
                             .backoff_ms = 10000,
                             .phase_ms = next_phase(j->instance, splay),
                             .ping = conf_text(&j->conf, "jobs", "", "ping", NULL),
                             .on_failure = conf_text(&j->conf, "jobs", "", "on_failure", NULL)};
    struct job *job = NULL;
    for (size_t i = 0; i < j->conf.n; i++) {
        const struct conf_entry *x = &j->conf.entries[i];
        if (strcmp(x->section, "job") != 0 || !x->value)
            continue;
        if (!job || strcmp(job->name, x->name) != 0) // entries mostly come job by job
            job = jobs_find(j, x->name);
        if (job)
            take_entry(j, job, x);
    }
    return true;
}

static const char *own_instance(struct jobs *j) {
    const char *name = conf_text(&j->conf, "container", "", "instance", NULL);
    if (!name)
        name = getenv("CIVINIT_INSTANCE");
    char host[256] = "";
    if (!name || !*name) {
        gethostname(host, sizeof host - 1);
        name = arena_text(&j->conf.arena, host);
    }
    return name ? name : "";
}

static int64_t own_grace(const struct jobs *j) {
    int64_t ms = conf_ms(&j->conf, "container", "", "grace", 30000);
    const char *given = getenv("CIVINIT_GRACE"); // seconds
    int64_t seconds;
    if (given && text_int(given, 0, INT32_MAX, &seconds, NULL) == 0)
        ms = seconds * 1000;
    int64_t margin = ms / 5; // what the caller needs to see us end before it kills
    if (margin > 5000)
        margin = 5000;
    return ms - margin;
}

static const char *default_zone(const struct jobs *j) {
    const char *name = conf_text(&j->conf, "jobs", "", "timezone", NULL);
    if (!name)
        name = getenv("TZ");
    return name && *name ? name + (*name == ':') : "UTC";
}

int jobs_load(struct jobs *j, const char *path, struct err *e) {
    static const char *const used[] = {"container", "jobs", "job", "civicrm", NULL};
    char absolute[PATH_MAX];
    if (conf_load(&j->conf, path, used, e) < 0)
        return -1;
    j->path = arena_text(&j->conf.arena, realpath(path, absolute) ? absolute : path);
    j->instance = own_instance(j);
    j->state_dir = conf_text(&j->conf, "jobs", "", "state_dir", "/var/lib/civinit");
    j->lock_wait_ms = conf_ms(&j->conf, "jobs", "", "lock_wait", 0);
    j->grace_ms = own_grace(j);
    for (size_t i = 0; i < j->conf.nsections; i++)
        j->database |= strcmp(j->conf.sections[i].section, "database") == 0;
    static char *one[] = {
        (char *)"cv", (char *)"ev",
        (char *)CIVICRM_AS_DOMAIN "(new CRM_Core_JobManager())->executeJobById({id});", NULL};
    j->isolate_command = one;
    if (conf_find(&j->conf, "civicrm", "", "isolate_command"))
        j->isolate_command = conf_list(&j->conf, "civicrm", "", "isolate_command");
    j->cli_command = conf_text(&j->conf, "civicrm", "", "cli_command", NULL);
    j->civicrm_user = conf_text(&j->conf, "civicrm", "", "user", NULL);
    struct loading l = {.j = j, .lock = conf_bool(&j->conf, "jobs", "", "lock", false)};
    struct err why;
    j->zone = zone_cached(j, default_zone(j), &why);
    if (!j->zone)
        conf_problem(&j->conf, conf_find(&j->conf, "jobs", "", "timezone"), "%s", why.text);
    if (!j->path || !make_jobs(&l))
        return err_set(e, EX_OSERR, "out of memory");
    for (size_t i = 0; i < j->n; i++)
        complete(&l, &j->v[i]);
    return 0;
}

struct job *jobs_find(const struct jobs *j, const char *name) {
    for (size_t i = 0; i < j->n; i++)
        if (strcmp(j->v[i].name, name) == 0)
            return &j->v[i];
    return NULL;
}

int64_t job_next(const struct job *job, int64_t after_ms) {
    if (!job->enabled || !job->schedule || !job->zone)
        return NEXT_NEVER;
    return next_due(&job->expr, job->zone, job->phase_ms, after_ms);
}

void jobs_free(struct jobs *j) {
    for (struct zone_link *l = j->zones; l; l = l->next)
        zone_free(l->zone);
    conf_free(&j->conf);
}

int jobs_load_strict(struct jobs *j, const char *path, struct err *e) {
    if (jobs_load(j, path, e) < 0)
        return -1;
    if (!j->conf.nproblems)
        return 0;
    for (size_t i = 0; i < j->conf.nproblems; i++)
        log_error("%s", j->conf.problems[i]);
    return err_set(e, EX_CONFIG, "%s: %zu problem%s in the configuration", path, j->conf.nproblems,
                   j->conf.nproblems == 1 ? "" : "s");
}
