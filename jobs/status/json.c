// /status: the view as one JSON document.
#include "base/text.h"
#include "status/view.h"

#include <inttypes.h>
#include <string.h>

// Between two members: a comma, unless the last character opened something.
static void comma(struct buf *b) {
    if (b->len && !strchr("{[:", b->data[b->len - 1]))
        buf_str(b, ",");
}

static void key(struct buf *b, const char *name) {
    comma(b);
    buf_printf(b, "\"%s\":", name);
}

static void text(struct buf *b, const char *name, const char *value) {
    key(b, name);
    buf_json(b, value ? value : "");
}

// A figure; -1 becomes null.
static void number(struct buf *b, const char *name, int64_t value) {
    key(b, name);
    if (value < 0)
        buf_str(b, "null");
    else
        buf_printf(b, "%" PRId64, value);
}

static void boolean(struct buf *b, const char *name, bool value) {
    key(b, name);
    buf_str(b, value ? "true" : "false");
}

static void usage(struct buf *b, const struct proc_usage *u) {
    number(b, "rss_bytes", u->rss_bytes);
    number(b, "pss_bytes", u->pss_bytes);
    number(b, "cpu_ms", u->cpu_ms);
    number(b, "processes", u->processes);
    number(b, "threads", u->threads);
}

static void services(const struct view *v, struct buf *b) {
    key(b, "services");
    buf_str(b, "[");
    for (size_t i = 0; i < v->status.n; i++) {
        comma(b);
        buf_str(b, "{");
        statusfile_service_json(&v->status.services[i], b);
        usage(b, &v->usage[i]);
        buf_str(b, "}");
    }
    buf_str(b, "]");
}

static void container(const struct view *v, struct buf *b) {
    const struct figures *c = &v->figures;
    key(b, "container");
    buf_str(b, "{");
    statusfile_json(&v->status, b);
    number(b, "memory_bytes", c->memory_bytes);
    number(b, "memory_working_bytes", c->memory_working_bytes);
    number(b, "memory_peak_bytes", c->memory_peak_bytes);
    number(b, "memory_limit_bytes", c->memory_limit_bytes);
    number(b, "cpu_ms", c->cpu_us < 0 ? -1 : c->cpu_us / 1000);
    number(b, "cpu_limit_milli", c->cpu_limit_milli);
    number(b, "cpu_throttled_ms", c->cpu_throttled_us < 0 ? -1 : c->cpu_throttled_us / 1000);
    buf_str(b, "}");
}

static void last_run(const struct state_job *j, struct buf *b) {
    key(b, "last");
    if (!*j->outcome) {
        buf_str(b, "null");
        return;
    }
    buf_str(b, "{");
    number(b, "started", j->started_ms);
    number(b, "ended", j->ended_ms);
    text(b, "outcome", j->outcome);
    text(b, "reason", j->reason);
    number(b, "exit", j->exit);
    number(b, "signal", j->signal);
    number(b, "duration_ms", j->duration_ms);
    number(b, "rss_kb", j->rss_kb);
    number(b, "cpu_ms", j->cpu_ms);
    buf_str(b, "}");
}

static void one_job(const struct state_job *j, struct buf *b) {
    comma(b);
    buf_str(b, "{");
    text(b, "name", j->name);
    text(b, "schedule", j->schedule);
    number(b, "next", j->next_ms);
    boolean(b, "running", j->running);
    number(b, "last_success", j->last_success_ms);
    key(b, "runs");
    buf_str(b, "{");
    for (size_t i = 0; i < j->nruns; i++) {
        comma(b);
        buf_json(b, j->runs[i].outcome);
        buf_printf(b, ":%" PRId64, j->runs[i].n);
    }
    buf_str(b, "}");
    last_run(j, b);
    buf_str(b, "}");
}

static void one_jobs(const struct state_jobs *s, struct buf *b) {
    comma(b);
    buf_str(b, "{");
    text(b, "instance", s->instance);
    number(b, "updated", s->updated_ms);
    key(b, "hold");
    if (s->hold)
        buf_json(b, s->hold);
    else
        buf_str(b, "null");
    key(b, "jobs");
    buf_str(b, "[");
    for (size_t i = 0; i < s->njobs; i++)
        one_job(&s->jobs[i], b);
    buf_str(b, "]");
    key(b, "civicrm");
    buf_str(b, "[");
    for (size_t i = 0; i < s->ncivicrm; i++) {
        comma(b);
        buf_str(b, "{");
        text(b, "name", s->civicrm[i].name);
        number(b, "last_success", s->civicrm[i].last_success_ms);
        number(b, "failures_24h", s->civicrm[i].failures_24h);
        number(b, "unfinished_24h", s->civicrm[i].unfinished_24h);
        buf_str(b, "}");
    }
    buf_str(b, "]");
    if (s->has_mail) {
        key(b, "mail");
        buf_str(b, "{");
        number(b, "pending", s->mail_pending);
        number(b, "oldest_due_s", s->mail_oldest_due_s);
        number(b, "lost_24h", s->mail_lost_24h);
        buf_str(b, "}");
    }
    buf_str(b, "}");
}

static void one_backup(const struct state_backup *s, struct buf *b) {
    comma(b);
    buf_str(b, "{");
    text(b, "instance", s->instance);
    number(b, "last_success", s->last_success_ms);
    number(b, "started", s->started_ms);
    number(b, "ended", s->ended_ms);
    text(b, "outcome", s->outcome);
    text(b, "reason", s->reason);
    text(b, "file", s->file);
    number(b, "bytes", s->bytes);
    number(b, "raw_bytes", s->raw_bytes);
    number(b, "entries", s->entries);
    number(b, "warnings", s->warnings);
    number(b, "verified", s->verified_ms);
    buf_str(b, "}");
}

static void forward(const struct state_forward *f, struct buf *b) {
    key(b, "forward");
    if (!f) {
        buf_str(b, "null");
        return;
    }
    buf_str(b, "{");
    text(b, "server", f->server);
    boolean(b, "connected", f->connected);
    text(b, "problem", f->problem);
    number(b, "connections", f->connections);
    number(b, "delivered", f->delivered);
    number(b, "dropped", f->dropped);
    number(b, "resent", f->resent);
    number(b, "waiting", f->waiting);
    number(b, "unacknowledged", f->unacknowledged);
    number(b, "buffer_bytes", f->bytes);
    number(b, "buffer_limit", f->limit);
    buf_str(b, "}");
}

void view_json(const struct view *v, struct buf *out) {
    buf_str(out, "{");
    number(out, "time", v->now_ms);
    text(out, "version", CIVINIT_VERSION);
    text(out, "instance", v->instance);
    boolean(out, "ready", view_ready(v));
    boolean(out, "live", view_live(v));
    if (v->running) {
        container(v, out);
        services(v, out);
    } else {
        text(out, "error", v->why_not.text);
    }
    forward(v->state.forward, out);
    key(out, "jobs");
    buf_str(out, "[");
    for (size_t i = 0; i < v->state.njobs; i++)
        one_jobs(&v->state.jobs[i], out);
    buf_str(out, "]");
    key(out, "backups");
    buf_str(out, "[");
    for (size_t i = 0; i < v->state.nbackups; i++)
        one_backup(&v->state.backups[i], out);
    buf_str(out, "]}\n");
}
