#include "status/metrics.h"

#include "status/metrics_format.h"

#include <string.h>

static const char *const service_states[] = {"down",    "starting", "ready", "stopping",
                                             "backoff", "failed",   "done",  NULL};
static const char *const container_states[] = {"starting", "ready", "draining", "stopping", NULL};
static const char *const job_outcomes[] = {"success", "failure", "timeout", "crashed", "incomplete",
                                           "broken",  "skipped", "held",    NULL};
static const char *const backup_outcomes[] = {"success", "failure", NULL};

// 1 for the state that holds, 0 for the others, so that alerts can count on both.
static void states(struct format *f, const char *const *list, const char *now, const char *label,
                   const char *value) {
    for (; *list; list++)
        format_sample(f, strcmp(*list, now) == 0, label, value, "state", *list, NULL);
}

static void outcome(struct format *f, const char *const *list, const char *now, const char *label,
                    const char *value) {
    for (; *list; list++)
        format_sample(f, strcmp(*list, now) == 0, label, value, "outcome", *list, NULL);
}

static void container(struct format *f, const struct view *v) {
    const struct statusfile *s = &v->status;
    format_family(f, "civinit", FORMAT_INFO, "", "The running civinit.");
    format_sample(f, 1, "version", CIVINIT_VERSION, "role", s->role, "main", s->main, NULL);
    format_family(f, "civinit_container_state", FORMAT_GAUGE, "", "State of the container.");
    for (const char *const *p = container_states; *p; p++)
        format_sample(f, strcmp(*p, s->state) == 0, "state", *p, NULL);
    format_family(f, "civinit_container_start_time_seconds", FORMAT_GAUGE, "seconds",
                  "When civinit started.");
    format_ms(f, s->started_ms, NULL);
    format_family(f, "civinit_container_oom_kills", FORMAT_COUNTER, "",
                  "Processes killed because memory ran out.");
    format_sample(f, s->oom_kills, NULL);
}

// One family over all services.
#define EACH_SERVICE(v, i, s)                                                                      \
    for (size_t i = 0; i < (v)->status.n; i++)                                                     \
        for (const struct statusfile_service *s = &(v)->status.services[i]; s; s = NULL)

static void services(struct format *f, const struct view *v) {
    format_family(f, "civinit_service_state", FORMAT_GAUGE, "", "State of a service or task.");
    EACH_SERVICE(v, i, s) states(f, service_states, s->state, "service", s->name);
    format_family(f, "civinit_service_state_start_time_seconds", FORMAT_GAUGE, "seconds",
                  "When the service entered its state.");
    EACH_SERVICE(v, i, s) format_ms(f, s->since_ms, "service", s->name, NULL);
    format_family(f, "civinit_service_restarts", FORMAT_COUNTER, "",
                  "Restarts since civinit started.");
    EACH_SERVICE(v, i, s) format_sample(f, s->restarts, "service", s->name, NULL);
    format_family(f, "civinit_service_ready_duration_seconds", FORMAT_GAUGE, "seconds",
                  "How long the last start took until the service was ready.");
    EACH_SERVICE(v, i, s) if (s->ready_ms >= 0) format_ms(f, s->ready_ms, "service", s->name, NULL);
    format_family(f, "civinit_service_last_exit_code", FORMAT_GAUGE, "",
                  "Exit code of the service's last end, 128 and more: a signal.");
    EACH_SERVICE(v, i, s)
    if (s->exit >= 0 || s->signal > 0)
        format_sample(f, s->signal > 0 ? 128 + s->signal : s->exit, "service", s->name, NULL);
    format_family(f, "civinit_service_unhealthy_checks", FORMAT_GAUGE, "",
                  "Health checks that failed in a row.");
    EACH_SERVICE(v, i, s) format_sample(f, s->unhealthy, "service", s->name, NULL);
}

static void usage(struct format *f, const struct view *v) {
    size_t n = v->status.n + 1;
    format_family(f, "civinit_service_cpu_seconds", FORMAT_COUNTER, "seconds",
                  "CPU time of the service's processes.");
    for (size_t i = 0; i < n; i++)
        format_ms(f, v->usage[i].cpu_ms, "service", view_name(v, i), NULL);
    format_family(f, "civinit_service_resident_memory_bytes", FORMAT_GAUGE, "bytes",
                  "Resident memory of the service's processes, added up.");
    for (size_t i = 0; i < n; i++)
        format_sample(f, v->usage[i].rss_bytes, "service", view_name(v, i), NULL);
    format_family(f, "civinit_service_proportional_memory_bytes", FORMAT_GAUGE, "bytes",
                  "The same with shared pages counted once, in parts.");
    for (size_t i = 0; i < n; i++)
        if (v->usage[i].pss_bytes >= 0)
            format_sample(f, v->usage[i].pss_bytes, "service", view_name(v, i), NULL);
    format_family(f, "civinit_service_processes", FORMAT_GAUGE, "", "Processes of the service.");
    for (size_t i = 0; i < n; i++)
        format_sample(f, v->usage[i].processes, "service", view_name(v, i), NULL);
    format_family(f, "civinit_service_threads", FORMAT_GAUGE, "", "Threads of the service.");
    for (size_t i = 0; i < n; i++)
        format_sample(f, v->usage[i].threads, "service", view_name(v, i), NULL);
}

static void known(struct format *f, const char *name, enum format_type type, const char *unit,
                  const char *help, int64_t value) {
    if (value < 0)
        return;
    format_family(f, name, type, unit, help);
    format_sample(f, value, NULL);
}

static void known_us(struct format *f, const char *name, const char *help, int64_t us) {
    if (us < 0)
        return;
    format_family(f, name, FORMAT_COUNTER, "seconds", help);
    format_us(f, us, NULL);
}

static void pressure(struct format *f, const struct figures *c) {
    const struct {
        const char *resource;
        const struct figures_pressure *p;
    } rows[] = {
        {"cpu", &c->cpu_pressure}, {"memory", &c->memory_pressure}, {"io", &c->io_pressure}};
    if (c->cpu_pressure.some_us < 0 && c->memory_pressure.some_us < 0 && c->io_pressure.some_us < 0)
        return;
    format_family(f, "civinit_container_pressure_seconds", FORMAT_COUNTER, "seconds",
                  "Time in which some or all processes waited for a resource.");
    for (int i = 0; i < 3; i++) {
        if (rows[i].p->some_us >= 0)
            format_us(f, rows[i].p->some_us, "resource", rows[i].resource, "kind", "some", NULL);
        if (rows[i].p->full_us >= 0)
            format_us(f, rows[i].p->full_us, "resource", rows[i].resource, "kind", "full", NULL);
    }
}

static void limits(struct format *f, const struct figures *c) {
    known(f, "civinit_container_memory_bytes", FORMAT_GAUGE, "bytes",
          "Memory of the container, with the page cache.", c->memory_bytes);
    known(f, "civinit_container_memory_working_set_bytes", FORMAT_GAUGE, "bytes",
          "Memory without file pages that are not in use, as the kubelet counts.",
          c->memory_working_bytes);
    known(f, "civinit_container_memory_anonymous_bytes", FORMAT_GAUGE, "bytes",
          "Memory that no file backs.", c->memory_anon_bytes);
    known(f, "civinit_container_memory_peak_bytes", FORMAT_GAUGE, "bytes",
          "The most memory since the container's start, with the page cache.",
          c->memory_peak_bytes);
    known(f, "civinit_container_memory_limit_bytes", FORMAT_GAUGE, "bytes",
          "Memory limit of the container.", c->memory_limit_bytes);
    known_us(f, "civinit_container_cpu_seconds", "CPU time of the container.", c->cpu_us);
    if (c->cpu_limit_milli >= 0) {
        format_family(f, "civinit_container_cpu_limit_cores", FORMAT_GAUGE, "cores",
                      "CPU limit of the container.");
        format_ms(f, c->cpu_limit_milli, NULL);
    }
    known(f, "civinit_container_cpu_periods", FORMAT_COUNTER, "",
          "Periods in which the container wanted to run.", c->cpu_periods);
    known(f, "civinit_container_cpu_throttled_periods", FORMAT_COUNTER, "",
          "Periods in which its CPU limit stopped it.", c->cpu_throttled_periods);
    known_us(f, "civinit_container_cpu_throttled_seconds", "Time for which it was stopped so.",
             c->cpu_throttled_us);
    known(f, "civinit_container_processes", FORMAT_GAUGE, "", "Processes and threads.", c->pids);
    known(f, "civinit_container_processes_limit", FORMAT_GAUGE, "", "How many there may be.",
          c->pids_limit);
    pressure(f, c);
}

// One family over all jobs of all folders.
#define EACH_JOB(v, j)                                                                             \
    for (size_t d_ = 0; d_ < (v)->state.njobs; d_++)                                               \
        for (const struct state_job *j = (v)->state.jobs[d_].jobs,                                 \
                                    *end_ = j + (v)->state.jobs[d_].njobs;                         \
             j < end_; j++)

static void job_runs(struct format *f, const struct view *v) {
    format_family(f, "civinit_job_runs", FORMAT_COUNTER, "", "Runs of the job, by outcome.");
    EACH_JOB(v, j)
    for (size_t i = 0; i < j->nruns; i++)
        format_sample(f, j->runs[i].n, "job_name", j->name, "outcome", j->runs[i].outcome, NULL);
    format_family(f, "civinit_job_last_outcome", FORMAT_GAUGE, "", "How the last run ended.");
    EACH_JOB(v, j) if (*j->outcome) outcome(f, job_outcomes, j->outcome, "job_name", j->name);
    format_family(f, "civinit_job_last_success_timestamp_seconds", FORMAT_GAUGE, "seconds",
                  "When the job last succeeded, 0: never.");
    EACH_JOB(v, j) format_ms(f, j->last_success_ms, "job_name", j->name, NULL);
    format_family(f, "civinit_job_last_end_timestamp_seconds", FORMAT_GAUGE, "seconds",
                  "When its last run ended.");
    EACH_JOB(v, j) if (j->ended_ms) format_ms(f, j->ended_ms, "job_name", j->name, NULL);
    format_family(f, "civinit_job_last_duration_seconds", FORMAT_GAUGE, "seconds",
                  "How long its last run took.");
    EACH_JOB(v, j) if (j->duration_ms >= 0) format_ms(f, j->duration_ms, "job_name", j->name, NULL);
    format_family(f, "civinit_job_last_cpu_seconds", FORMAT_GAUGE, "seconds",
                  "CPU time of its last run.");
    EACH_JOB(v, j) if (j->cpu_ms >= 0) format_ms(f, j->cpu_ms, "job_name", j->name, NULL);
    format_family(f, "civinit_job_last_peak_memory_bytes", FORMAT_GAUGE, "bytes",
                  "Peak memory of its last run.");
    EACH_JOB(v, j)
    if (j->rss_kb >= 0)
        format_sample(f, j->rss_kb * 1024, "job_name", j->name, NULL);
}

static void job_plan(struct format *f, const struct view *v) {
    format_family(f, "civinit_job_running", FORMAT_GAUGE, "", "Whether the job runs now.");
    EACH_JOB(v, j) format_sample(f, j->running, "job_name", j->name, NULL);
    format_family(f, "civinit_job_next_run_timestamp_seconds", FORMAT_GAUGE, "seconds",
                  "When the job is due next.");
    EACH_JOB(v, j) if (j->next_ms) format_ms(f, j->next_ms, "job_name", j->name, NULL);
    format_family(f, "civinit_jobs_held", FORMAT_GAUGE, "", "Whether jobs are held back.");
    for (size_t d = 0; d < v->state.njobs; d++)
        format_sample(f, v->state.jobs[d].hold != NULL, "folder", format_index(f, d), NULL);
    format_family(f, "civinit_jobs_updated_timestamp_seconds", FORMAT_GAUGE, "seconds",
                  "When the jobs' state was written.");
    for (size_t d = 0; d < v->state.njobs; d++)
        format_ms(f, v->state.jobs[d].updated_ms, "folder", format_index(f, d), NULL);
}

#define EACH_CIVICRM(v, j)                                                                         \
    for (size_t d_ = 0; d_ < (v)->state.njobs; d_++)                                               \
        for (const struct state_civicrm *j = (v)->state.jobs[d_].civicrm,                          \
                                        *end_ = j + (v)->state.jobs[d_].ncivicrm;                  \
             j < end_; j++)

static void civicrm(struct format *f, const struct view *v) {
    format_family(f, "civinit_civicrm_job_last_success_timestamp_seconds", FORMAT_GAUGE, "seconds",
                  "When CiviCRM's own job last succeeded, 0: never.");
    EACH_CIVICRM(v, j) format_ms(f, j->last_success_ms, "job_name", j->name, NULL);
    format_family(f, "civinit_civicrm_job_recent_failures", FORMAT_GAUGE, "",
                  "Failed runs in the last 24 hours.");
    EACH_CIVICRM(v, j)
    if (j->failures_24h >= 0)
        format_sample(f, j->failures_24h, "job_name", j->name, NULL);
    format_family(f, "civinit_civicrm_job_recent_unfinished", FORMAT_GAUGE, "",
                  "Runs that began and never ended in the last 24 hours.");
    EACH_CIVICRM(v, j)
    if (j->unfinished_24h >= 0)
        format_sample(f, j->unfinished_24h, "job_name", j->name, NULL);
}

static void mail(struct format *f, const struct view *v) {
    const struct state_jobs *with = NULL;
    for (size_t d = 0; d < v->state.njobs && !with; d++)
        if (v->state.jobs[d].has_mail)
            with = &v->state.jobs[d];
    if (!with)
        return;
    known(f, "civinit_mail_pending_recipients", FORMAT_GAUGE, "",
          "Recipients of due mailings who have not been sent theirs.", with->mail_pending);
    known(f, "civinit_mail_oldest_due_seconds", FORMAT_GAUGE, "seconds",
          "Age of the oldest due mailing.", with->mail_oldest_due_s);
    known(f, "civinit_mail_recent_lost_recipients", FORMAT_GAUGE, "",
          "Recipients lost to faults of the mail server in the last 24 hours.",
          with->mail_lost_24h);
}

#define EACH_BACKUP(v, b)                                                                          \
    for (const struct state_backup *b = (v)->state.backups, *end_ = b + (v)->state.nbackups;       \
         b < end_; b++)

static void backups(struct format *f, const struct view *v) {
    format_family(f, "civinit_backup_last_success_timestamp_seconds", FORMAT_GAUGE, "seconds",
                  "When a backup last succeeded, 0: never.");
    EACH_BACKUP(v, b) format_ms(f, b->last_success_ms, "instance_name", b->instance, NULL);
    format_family(f, "civinit_backup_last_outcome", FORMAT_GAUGE, "", "How the last one ended.");
    EACH_BACKUP(v, b)
    if (*b->outcome)
        outcome(f, backup_outcomes, strcmp(b->outcome, "success") == 0 ? "success" : "failure",
                "instance_name", b->instance);
    format_family(f, "civinit_backup_last_duration_seconds", FORMAT_GAUGE, "seconds",
                  "How long it took.");
    EACH_BACKUP(v, b)
    if (b->ended_ms >= b->started_ms)
        format_ms(f, b->ended_ms - b->started_ms, "instance_name", b->instance, NULL);
    format_family(f, "civinit_backup_last_size_bytes", FORMAT_GAUGE, "bytes",
                  "Size of the archive.");
    EACH_BACKUP(v, b)
    if (b->bytes >= 0)
        format_sample(f, b->bytes, "instance_name", b->instance, NULL);
    format_family(f, "civinit_backup_last_raw_bytes", FORMAT_GAUGE, "bytes",
                  "Size of what is in it.");
    EACH_BACKUP(v, b)
    if (b->raw_bytes >= 0)
        format_sample(f, b->raw_bytes, "instance_name", b->instance, NULL);
    format_family(f, "civinit_backup_last_entries", FORMAT_GAUGE, "", "Entries of the archive.");
    EACH_BACKUP(v, b)
    if (b->entries >= 0)
        format_sample(f, b->entries, "instance_name", b->instance, NULL);
    format_family(f, "civinit_backup_last_warnings", FORMAT_GAUGE, "", "Warnings of the last one.");
    EACH_BACKUP(v, b)
    if (b->warnings >= 0)
        format_sample(f, b->warnings, "instance_name", b->instance, NULL);
    format_family(f, "civinit_backup_last_verified_timestamp_seconds", FORMAT_GAUGE, "seconds",
                  "When the last one was verified, 0: was not.");
    EACH_BACKUP(v, b) format_ms(f, b->verified_ms, "instance_name", b->instance, NULL);
}

void metrics_write(const struct view *v, bool openmetrics, bool all, struct buf *out) {
    struct format f = {.out = out, .openmetrics = openmetrics};
    if (all && v->running) {
        container(&f, v);
        services(&f, v);
        usage(&f, v);
    }
    if (all)
        limits(&f, &v->figures);
    if (v->state.njobs) {
        job_runs(&f, v);
        job_plan(&f, v);
        civicrm(&f, v);
        mail(&f, v);
    }
    if (v->state.nbackups)
        backups(&f, v);
    format_family(&f, "civinit_status_problems", FORMAT_GAUGE, "",
                  "State files that are there but cannot be read.");
    format_sample(&f, (int64_t)v->state.nproblems, NULL);
    format_end(&f);
}
