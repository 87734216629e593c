#include "cron/state.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "cron/next.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

static const char *const words[RESULTS] = {"success",    "failure", "timeout", "crashed",
                                           "incomplete", "broken",  "skipped", "held"};

const char *result_word(enum result r) {
    return words[r];
}

bool result_bad(enum result r) {
    return r != RESULT_SUCCESS && r != RESULT_SKIPPED && r != RESULT_HELD;
}

static int result_of(const char *word) {
    for (int i = 0; i < RESULTS; i++)
        if (strcmp(words[i], word) == 0)
            return i;
    return -1;
}

// Percent-encoded, so that a value is one word.
static void add_value(struct buf *b, const char *key, const char *text) {
    buf_printf(b, " %s=", key);
    for (; *text; text++)
        if (*text > ' ' && *text < 0x7f && *text != '%')
            buf_add(b, text, 1);
        else
            buf_printf(b, "%%%02X", (unsigned char)*text);
}

static void decode(const char *from, char *to, size_t size) {
    size_t n = 0;
    for (; *from && n + 1 < size; from++) {
        unsigned byte;
        if (*from == '%' && sscanf(from + 1, "%2x", &byte) == 1) {
            to[n++] = (char)byte;
            from += 2;
        } else
            to[n++] = *from;
    }
    to[n] = 0;
}

static void add_record(struct buf *b, const char *name, const struct record *r) {
    if (!r->ran && !r->tick_ms)
        return;
    buf_printf(b, "job");
    add_value(b, "name", name);
    buf_printf(b, " tick=%lld last_success=%lld", (long long)r->tick_ms,
               (long long)r->last_success_ms);
    for (int i = 0; i < RESULTS; i++)
        if (r->counts[i])
            buf_printf(b, " %s=%lld", words[i], (long long)r->counts[i]);
    const struct outcome *o = &r->last;
    if (r->ran) {
        buf_printf(b, " started=%lld ended=%lld outcome=%s exit=%d signal=%d rss=%lld cpu=%lld",
                   (long long)o->started_ms, (long long)o->ended_ms, words[o->result], o->exit,
                   o->signal, (long long)o->rss_kb, (long long)o->cpu_ms);
        add_value(b, "run", o->run);
        add_value(b, "reason", o->reason);
        if (*o->choice)
            add_value(b, "choice", o->choice);
    }
    buf_str(b, "\n");
}

static void take_number(struct record *r, const char *key, int64_t n) {
    int counted = result_of(key);
    if (counted >= 0)
        r->counts[counted] = n;
    else if (strcmp(key, "tick") == 0)
        r->tick_ms = n;
    else if (strcmp(key, "last_success") == 0)
        r->last_success_ms = n;
    else if (strcmp(key, "started") == 0)
        r->last.started_ms = n;
    else if (strcmp(key, "ended") == 0)
        r->last.ended_ms = n;
    else if (strcmp(key, "exit") == 0)
        r->last.exit = (int)n;
    else if (strcmp(key, "signal") == 0)
        r->last.signal = (int)n;
    else if (strcmp(key, "rss") == 0)
        r->last.rss_kb = n;
    else if (strcmp(key, "cpu") == 0)
        r->last.cpu_ms = n;
}

static void take_line(struct state *s, const struct jobs *j, char *line) {
    char *save, *word = strtok_r(line, " ", &save);
    struct record *r = NULL;
    if (!word || strcmp(word, "job") != 0)
        return;
    while ((word = strtok_r(NULL, " ", &save))) {
        char *value = strchr(word, '='), name[256];
        if (!value)
            continue;
        *value++ = 0;
        if (strcmp(word, "name") == 0) {
            decode(value, name, sizeof name);
            const struct job *job = jobs_find(j, name);
            r = job ? &s->records[job - j->v] : NULL;
        }
        if (!r)
            continue;
        if (strcmp(word, "outcome") == 0) {
            int result = result_of(value);
            r->ran = result >= 0;
            r->last.result = result >= 0 ? (enum result)result : RESULT_SUCCESS;
        } else if (strcmp(word, "reason") == 0)
            decode(value, r->last.reason, sizeof r->last.reason);
        else if (strcmp(word, "choice") == 0)
            decode(value, r->last.choice, sizeof r->last.choice);
        else if (strcmp(word, "run") == 0)
            decode(value, r->last.run, sizeof r->last.run);
        else
            take_number(r, word, strtoll(value, NULL, 10));
    }
}

static const char *file(const struct jobs *j, const char *name, char *buf) {
    snprintf(buf, PATH_MAX, "%s/%s", j->state_dir, name);
    return buf;
}

int state_load(struct state *s, const struct jobs *j, struct err *e) {
    s->records = calloc(j->n + 1, sizeof *s->records);
    if (!s->records)
        return err_set(e, EX_OSERR, "out of memory");
    char path[PATH_MAX], *save;
    autofree char *text = NULL;
    if (file_read(file(j, "jobs.state", path), 64 << 20, &text, NULL, NULL) < 0)
        return 0;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        take_line(s, j, line);
    return 0;
}

void state_count(struct state *s, const struct outcome *o) {
    struct record *r = &s->records[o->job];
    char choice[CHOICE_TEXT];
    memcpy(choice, *o->choice ? o->choice : r->last.choice, sizeof choice);
    r->counts[o->result]++;
    if (o->result != RESULT_SKIPPED || !r->ran) // a failure stays to be seen
        r->last = *o;
    memcpy(r->last.choice, choice, sizeof choice);
    r->ran = true;
    if (o->result == RESULT_SUCCESS)
        r->last_success_ms = o->ended_ms;
    if (o->precheck)
        memcpy(s->hold, o->hold, sizeof s->hold);
}

static void json_time(struct buf *b, const char *key, int64_t ms) {
    buf_printf(b, ",\"%s\":", key);
    if (ms && ms != NEXT_NEVER)
        buf_printf(b, "%lld", (long long)ms);
    else
        buf_str(b, "null");
}

static void json_job(struct buf *b, const struct job *job, const struct record *r, int64_t now_ms) {
    buf_str(b, "{\"name\":");
    buf_json(b, job->name);
    buf_str(b, ",\"schedule\":");
    buf_json(b, job->schedule ? job->schedule : "");
    buf_printf(b, ",\"enabled\":%s", job->enabled ? "true" : "false");
    json_time(b, "next", job_next(job, now_ms));
    buf_printf(b, ",\"running\":%s", r->running ? "true" : "false");
    json_time(b, "last_success", r->last_success_ms);
    if (job->automatic) {
        buf_str(b, ",\"command\":");
        buf_json(b, r->last.choice);
    }
    buf_str(b, ",\"runs\":{");
    for (int i = 0; i < RESULTS; i++)
        buf_printf(b, "%s\"%s\":%lld", i ? "," : "", words[i], (long long)r->counts[i]);
    buf_str(b, "},\"last\":");
    const struct outcome *o = &r->last;
    if (!r->ran) {
        buf_str(b, "null}");
        return;
    }
    buf_printf(b,
               "{\"started\":%lld,\"ended\":%lld,\"outcome\":\"%s\",\"exit\":%d,\"signal\":%d,"
               "\"duration_ms\":%lld,\"rss_kb\":%lld,\"cpu_ms\":%lld,\"run\":",
               (long long)o->started_ms, (long long)o->ended_ms, words[o->result], o->exit,
               o->signal, (long long)(o->ended_ms - o->started_ms), (long long)o->rss_kb,
               (long long)o->cpu_ms);
    buf_json(b, o->run);
    buf_str(b, ",\"reason\":");
    buf_json(b, o->reason);
    buf_str(b, "}}");
}

void state_json(const struct state *s, const struct jobs *j, const char *backlog, struct buf *out) {
    int64_t now = clock_wall_ms();
    buf_printf(out, "{\"updated\":%lld,\"instance\":", (long long)now);
    buf_json(out, j->instance);
    buf_str(out, ",\"hold\":");
    if (*s->hold)
        buf_json(out, s->hold);
    else
        buf_str(out, "null");
    buf_str(out, ",\"jobs\":[");
    for (size_t i = 0; i < j->n; i++) {
        buf_str(out, i ? ",\n" : "\n");
        json_job(out, &j->v[i], &s->records[i], now);
    }
    buf_str(out, "]");
    if (backlog && *backlog)
        buf_printf(out, ",\n%s", backlog);
    buf_str(out, "}\n");
}

static int save(const struct jobs *j, const char *name, const struct buf *b, struct err *e) {
    char path[PATH_MAX];
    if (b->failed)
        return err_set(e, EX_OSERR, "out of memory");
    return file_replace(file(j, name, path), b->data ? b->data : "", b->len, 0644, 0, e);
}

int state_save(const struct state *s, const struct jobs *j, const char *backlog, struct err *e) {
    autobuf struct buf own = {0}, json = {0};
    for (size_t i = 0; i < j->n; i++)
        add_record(&own, j->v[i].name, &s->records[i]);
    state_json(s, j, backlog, &json);
    if (save(j, "jobs.state", &own, e) < 0)
        return -1;
    return save(j, "jobs.json", &json, e);
}

void state_free(struct state *s) {
    free(s->records);
    s->records = NULL;
}
