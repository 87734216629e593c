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
        format_sample(f, strcmp(*list, now) == 0, LABELS(label, value, "state", *list));
}

// Which job: several instances' may meet in one folder of textfiles, or in one view.
#define JOB(j) "job_name", (j)->name, "instance_name", (j)->instance

static void container(struct format *f, const struct view *v) {
    const struct statusfile *s = &v->status;
    format_family(f, "civinit", FORMAT_INFO, "", "The running civinit.");
    format_sample(f, 1,
                  LABELS("version", CIVINIT_VERSION, "role", s->role, "main", s->main,
                         "instance_name", v->instance));
    format_family(f, "civinit_container_state", FORMAT_GAUGE, "", "State of the container.");
    for (const char *const *p = container_states; *p; p++)
        format_sample(f, strcmp(*p, s->state) == 0, LABELS("state", *p));
    format_family(f, "civinit_container_start_time_seconds", FORMAT_GAUGE, "seconds",
                  "When civinit started.");
    format_ms(f, s->started_ms, NULL);
    format_family(f, "civinit_container_oom_kills", FORMAT_COUNTER, "",
                  "Processes killed because memory ran out.");
    format_sample(f, s->oom_kills, NULL);
}

static void services(struct format *f, const struct view *v) {
    const struct statusfile_service *s = v->status.services;
    format_family(f, "civinit_service_state", FORMAT_GAUGE, "", "State of a service or task.");
    for (size_t i = 0; i < v->status.n; i++)
        states(f, service_states, s[i].state, "service", s[i].name);
    format_family(f, "civinit_service_state_start_time_seconds", FORMAT_GAUGE, "seconds",
                  "When the service entered its state.");
    for (size_t i = 0; i < v->status.n; i++)
        format_ms(f, s[i].since_ms, LABELS("service", s[i].name));
    format_family(f, "civinit_service_restarts", FORMAT_COUNTER, "",
                  "Restarts since civinit started.");
    for (size_t i = 0; i < v->status.n; i++)
        format_sample(f, s[i].restarts, LABELS("service", s[i].name));
    format_family(f, "civinit_service_ready_duration_seconds", FORMAT_GAUGE, "seconds",
                  "How long the last start took until the service was ready.");
    for (size_t i = 0; i < v->status.n; i++)
        if (s[i].ready_ms >= 0)
            format_ms(f, s[i].ready_ms, LABELS("service", s[i].name));
    format_family(f, "civinit_service_last_exit_code", FORMAT_GAUGE, "",
                  "Exit code of the service's last end, 128 and more: a signal.");
    for (size_t i = 0; i < v->status.n; i++)
        if (s[i].exit >= 0 || s[i].signal > 0)
            format_sample(f, s[i].signal > 0 ? 128 + s[i].signal : s[i].exit,
                          LABELS("service", s[i].name));
    format_family(f, "civinit_service_unhealthy_checks", FORMAT_GAUGE, "",
                  "Health checks that failed in a row.");
    for (size_t i = 0; i < v->status.n; i++)
        format_sample(f, s[i].unhealthy, LABELS("service", s[i].name));
}

static void usage(struct format *f, const struct view *v) {
    size_t n = v->status.n + 1;
    format_family(f, "civinit_service_cpu_seconds", FORMAT_COUNTER, "seconds",
                  "CPU time of the service's processes.");
    for (size_t i = 0; i < n; i++)
        format_ms(f, v->usage[i].cpu_ms, LABELS("service", view_name(v, i)));
    format_family(f, "civinit_service_resident_memory_bytes", FORMAT_GAUGE, "bytes",
                  "Resident memory of the service's processes, added up.");
    for (size_t i = 0; i < n; i++)
        format_sample(f, v->usage[i].rss_bytes, LABELS("service", view_name(v, i)));
    format_family(f, "civinit_service_proportional_memory_bytes", FORMAT_GAUGE, "bytes",
                  "The same with shared pages counted once, in parts.");
    for (size_t i = 0; i < n; i++)
        if (v->usage[i].pss_bytes >= 0)
            format_sample(f, v->usage[i].pss_bytes, LABELS("service", view_name(v, i)));
    format_family(f, "civinit_service_processes", FORMAT_GAUGE, "", "Processes of the service.");
    for (size_t i = 0; i < n; i++)
        format_sample(f, v->usage[i].processes, LABELS("service", view_name(v, i)));
    format_family(f, "civinit_service_threads", FORMAT_GAUGE, "", "Threads of the service.");
    for (size_t i = 0; i < n; i++)
        format_sample(f, v->usage[i].threads, LABELS("service", view_name(v, i)));
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
            format_us(f, rows[i].p->some_us, LABELS("resource", rows[i].resource, "kind", "some"));
        if (rows[i].p->full_us >= 0)
            format_us(f, rows[i].p->full_us, LABELS("resource", rows[i].resource, "kind", "full"));
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
    known(f, "civinit_container_memory_limit_hits", FORMAT_COUNTER, "",
          "How often memory had to be freed because the limit was reached.", c->limit_hits);
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

static void job_runs(struct format *f, const struct view *v, bool left) {
    const struct state_job *const *j = v->state.all_jobs;
    format_family(f, "civinit_job_runs", FORMAT_COUNTER, "", "Runs of the job, by outcome.");
    for (size_t i = 0; i < v->state.nall_jobs; i++)
        for (size_t k = 0; k < j[i]->nruns; k++)
            format_sample(f, j[i]->runs[k].n, LABELS(JOB(j[i]), "outcome", j[i]->runs[k].outcome));
    format_family(f, "civinit_job_last_outcome", FORMAT_GAUGE, "", "How the last run ended.");
    for (size_t i = 0; i < v->state.nall_jobs; i++)
        for (const char *const *o = job_outcomes; *j[i]->outcome && *o; o++)
            format_sample(f, strcmp(*o, j[i]->outcome) == 0, LABELS(JOB(j[i]), "outcome", *o));
    format_family(f, "civinit_job_last_success_timestamp_seconds", FORMAT_GAUGE, "seconds",
                  "When the job last succeeded, 0: never.");
    for (size_t i = 0; i < v->state.nall_jobs; i++)
        if (j[i]->last_success_ms || !left)
            format_ms(f, j[i]->last_success_ms, LABELS(JOB(j[i])));
    format_family(f, "civinit_job_last_end_timestamp_seconds", FORMAT_GAUGE, "seconds",
                  "When its last run ended.");
    for (size_t i = 0; i < v->state.nall_jobs; i++)
        if (j[i]->ended_ms)
            format_ms(f, j[i]->ended_ms, LABELS(JOB(j[i])));
    format_family(f, "civinit_job_last_duration_seconds", FORMAT_GAUGE, "seconds",
                  "How long its last run took.");
    for (size_t i = 0; i < v->state.nall_jobs; i++)
        if (j[i]->duration_ms >= 0)
            format_ms(f, j[i]->duration_ms, LABELS(JOB(j[i])));
    format_family(f, "civinit_job_last_cpu_seconds", FORMAT_GAUGE, "seconds",
                  "CPU time of its last run.");
    for (size_t i = 0; i < v->state.nall_jobs; i++)
        if (j[i]->cpu_ms >= 0)
            format_ms(f, j[i]->cpu_ms, LABELS(JOB(j[i])));
    format_family(f, "civinit_job_last_peak_memory_bytes", FORMAT_GAUGE, "bytes",
                  "Peak memory of its last run.");
    for (size_t i = 0; i < v->state.nall_jobs; i++)
        if (j[i]->rss_kb >= 0)
            format_sample(f, j[i]->rss_kb * 1024, LABELS(JOB(j[i])));
}

static void job_plan(struct format *f, const struct view *v) {
    const struct state_job *const *j = v->state.all_jobs;
    format_family(f, "civinit_job_running", FORMAT_GAUGE, "", "Whether the job runs now.");
    for (size_t i = 0; i < v->state.nall_jobs; i++)
        format_sample(f, j[i]->running, LABELS(JOB(j[i])));
    format_family(f, "civinit_job_next_run_timestamp_seconds", FORMAT_GAUGE, "seconds",
                  "When the job is due next.");
    for (size_t i = 0; i < v->state.nall_jobs; i++)
        if (j[i]->next_ms)
            format_ms(f, j[i]->next_ms, LABELS(JOB(j[i])));
}

static void job_folders(struct format *f, const struct view *v) {
    format_family(f, "civinit_jobs_held", FORMAT_GAUGE, "", "Whether jobs are held back.");
    for (size_t d = 0; d < v->state.njobs; d++)
        format_sample(
            f, v->state.jobs[d].hold != NULL,
            LABELS("folder", format_index(f, d), "instance_name", v->state.jobs[d].instance));
    format_family(f, "civinit_jobs_updated_timestamp_seconds", FORMAT_GAUGE, "seconds",
                  "When the jobs' state was written.");
    for (size_t d = 0; d < v->state.njobs; d++)
        format_ms(f, v->state.jobs[d].updated_ms,
                  LABELS("folder", format_index(f, d), "instance_name", v->state.jobs[d].instance));
}

static void civicrm(struct format *f, const struct view *v) {
    const struct state_civicrm *const *j = v->state.all_civicrm;
    format_family(f, "civinit_civicrm_job_last_success_timestamp_seconds", FORMAT_GAUGE, "seconds",
                  "When CiviCRM's own job last succeeded, 0: never.");
    for (size_t i = 0; i < v->state.nall_civicrm; i++)
        format_ms(f, j[i]->last_success_ms, LABELS(JOB(j[i])));
    format_family(f, "civinit_civicrm_job_recent_failures", FORMAT_GAUGE, "",
                  "Failed runs in the last 24 hours.");
    for (size_t i = 0; i < v->state.nall_civicrm; i++)
        if (j[i]->failures_24h >= 0)
            format_sample(f, j[i]->failures_24h, LABELS(JOB(j[i])));
    format_family(f, "civinit_civicrm_job_recent_unfinished", FORMAT_GAUGE, "",
                  "Runs that began and never ended in the last 24 hours.");
    for (size_t i = 0; i < v->state.nall_civicrm; i++)
        if (j[i]->unfinished_24h >= 0)
            format_sample(f, j[i]->unfinished_24h, LABELS(JOB(j[i])));
}

static void mail_figure(struct format *f, const struct state_jobs *s, int64_t value) {
    if (s->has_mail && value >= 0)
        format_sample(f, value, LABELS("instance_name", s->instance));
}

static void mail(struct format *f, const struct view *v) {
    const struct state_jobs *s = v->state.jobs;
    format_family(f, "civinit_mail_pending_recipients", FORMAT_GAUGE, "",
                  "Recipients of due mailings who have not been sent theirs.");
    for (size_t d = 0; d < v->state.njobs; d++)
        mail_figure(f, &s[d], s[d].mail_pending);
    format_family(f, "civinit_mail_oldest_due_seconds", FORMAT_GAUGE, "seconds",
                  "Age of the oldest due mailing.");
    for (size_t d = 0; d < v->state.njobs; d++)
        mail_figure(f, &s[d], s[d].mail_oldest_due_s);
    format_family(f, "civinit_mail_recent_lost_recipients", FORMAT_GAUGE, "",
                  "Recipients lost to faults of the mail server in the last 24 hours.");
    for (size_t d = 0; d < v->state.njobs; d++)
        mail_figure(f, &s[d], s[d].mail_lost_24h);
}

static void forward(struct format *f, const struct state_forward *w) {
    known(f, "civinit_forward_connected", FORMAT_GAUGE, "",
          "Whether a collector takes records of the log.", w->connected);
    known(f, "civinit_forward_connections", FORMAT_COUNTER, "", "Connections that were made.",
          w->connections);
    known(f, "civinit_forward_delivered_records", FORMAT_COUNTER, "",
          "Records that the collector has acknowledged.", w->delivered);
    known(f, "civinit_forward_dropped_records", FORMAT_COUNTER, "",
          "Records that were lost: no room in the buffer.", w->dropped);
    known(f, "civinit_forward_resent_records", FORMAT_COUNTER, "",
          "Records that were sent again after a lost connection: they may come twice.", w->resent);
    known(f, "civinit_forward_waiting_records", FORMAT_GAUGE, "",
          "Records that no collector has acknowledged yet.", w->waiting);
    known(f, "civinit_forward_unacknowledged_records", FORMAT_GAUGE, "",
          "Those of them that were sent.", w->unacknowledged);
    known(f, "civinit_forward_buffer_bytes", FORMAT_GAUGE, "bytes", "What they take in the buffer.",
          w->bytes);
    known(f, "civinit_forward_buffer_limit_bytes", FORMAT_GAUGE, "bytes",
          "What they may take at most.", w->limit);
}

static bool made(const struct state_backup *b) {
    return strcmp(b->outcome, "success") == 0;
}

// Of an archive: a run that failed has none, and its zeros are not a small backup.
static void archives(struct format *f, const struct state_backup *b, size_t n) {
    format_family(f, "civinit_backup_last_size_bytes", FORMAT_GAUGE, "bytes",
                  "Size of the archive.");
    for (size_t i = 0; i < n; i++)
        if (made(&b[i]) && b[i].bytes >= 0)
            format_sample(f, b[i].bytes, LABELS("instance_name", b[i].instance));
    format_family(f, "civinit_backup_last_raw_bytes", FORMAT_GAUGE, "bytes",
                  "Size of what is in it.");
    for (size_t i = 0; i < n; i++)
        if (made(&b[i]) && b[i].raw_bytes >= 0)
            format_sample(f, b[i].raw_bytes, LABELS("instance_name", b[i].instance));
    format_family(f, "civinit_backup_last_entries", FORMAT_GAUGE, "", "Entries of the archive.");
    for (size_t i = 0; i < n; i++)
        if (made(&b[i]) && b[i].entries >= 0)
            format_sample(f, b[i].entries, LABELS("instance_name", b[i].instance));
    format_family(f, "civinit_backup_last_verified_timestamp_seconds", FORMAT_GAUGE, "seconds",
                  "When the last one was verified, 0: was not.");
    for (size_t i = 0; i < n; i++)
        if (made(&b[i]))
            format_ms(f, b[i].verified_ms, LABELS("instance_name", b[i].instance));
}

static void backups(struct format *f, const struct view *v, bool left) {
    const struct state_backup *b = v->state.backups;
    format_family(f, "civinit_backup_last_success_timestamp_seconds", FORMAT_GAUGE, "seconds",
                  "When a backup last succeeded, 0: never.");
    for (size_t i = 0; i < v->state.nbackups; i++)
        if (b[i].last_success_ms || !left)
            format_ms(f, b[i].last_success_ms, LABELS("instance_name", b[i].instance));
    format_family(f, "civinit_backup_last_outcome", FORMAT_GAUGE, "", "How the last one ended.");
    for (size_t i = 0; i < v->state.nbackups; i++)
        for (const char *const *o = backup_outcomes; *b[i].outcome && *o; o++)
            format_sample(f, made(&b[i]) == (o == backup_outcomes),
                          LABELS("instance_name", b[i].instance, "outcome", *o));
    format_family(f, "civinit_backup_last_duration_seconds", FORMAT_GAUGE, "seconds",
                  "How long it took.");
    for (size_t i = 0; i < v->state.nbackups; i++)
        if (b[i].ended_ms >= b[i].started_ms)
            format_ms(f, b[i].ended_ms - b[i].started_ms, LABELS("instance_name", b[i].instance));
    format_family(f, "civinit_backup_last_warnings", FORMAT_GAUGE, "", "Warnings of the last one.");
    for (size_t i = 0; i < v->state.nbackups; i++)
        if (b[i].warnings >= 0)
            format_sample(f, b[i].warnings, LABELS("instance_name", b[i].instance));
    archives(f, b, v->state.nbackups);
}

static void left_behind(struct format *f, const struct view *v, bool left) {
    if (v->state.njobs) {
        job_runs(f, v, left);
        if (!left)
            job_plan(f, v);
        job_folders(f, v);
        civicrm(f, v);
        mail(f, v);
    }
    if (v->state.nbackups)
        backups(f, v, left);
    format_family(f, "civinit_status_problems", FORMAT_GAUGE, "",
                  "State files that are there but cannot be read.");
}

void metrics_write(const struct view *v, bool openmetrics, struct buf *out) {
    struct format f = {.out = out, .openmetrics = openmetrics};
    if (v->running) {
        container(&f, v);
        services(&f, v);
        usage(&f, v);
        if (v->state.forward)
            forward(&f, v->state.forward);
    }
    limits(&f, &v->figures);
    left_behind(&f, v, false);
    format_sample(&f, (int64_t)v->state.nproblems, NULL);
    format_end(&f);
}

void metrics_left(const struct view *v, const char *role, struct buf *out) {
    struct format f = {.out = out, .common = role ? LABELS("role", role) : NULL};
    left_behind(&f, v, true);
    format_sample(&f, (int64_t)v->state.nproblems, LABELS("instance_name", v->instance));
    format_end(&f);
}
