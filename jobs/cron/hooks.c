// ping (start, success, failure) and on_failure: those who want to know how a run ended.
#include "cron/run.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "cron/helper.h"

#include <stdlib.h>
#include <string.h>

enum {
    HOOK_MS = 30000
};

static bool is_url(const char *text) {
    return strncmp(text, "http://", 7) == 0 || strncmp(text, "https://", 8) == 0;
}

static void to_json(const struct run *r, struct buf *b) {
    const struct outcome *o = &r->o;
    buf_str(b, "{\"instance\":");
    buf_json(b, r->jobs->instance);
    buf_str(b, ",\"job\":");
    buf_json(b, r->job->name);
    buf_printf(b,
               ",\"run\":\"%s\",\"outcome\":\"%s\",\"exit\":%d,\"signal\":%d,\"started\":%lld,"
               "\"ended\":%lld,\"duration_ms\":%lld,\"rss_kb\":%lld,\"cpu_ms\":%lld,"
               "\"attempts\":%d,\"reason\":",
               o->run, result_word(o->result), o->exit, o->signal, (long long)o->started_ms,
               (long long)o->ended_ms, (long long)(o->ended_ms - o->started_ms),
               (long long)o->rss_kb, (long long)o->cpu_ms, o->attempts);
    buf_json(b, o->reason);
    buf_str(b, "}\n");
}

// The URL itself stays out of argument lists: the helper reads it from the configuration.
static void call(struct run *r, const char *const *args, const char *text) {
    char why[300] = "";
    autoclose int input = text ? helper_input(text) : -1;
    if (helper_call(&r->w, r->jobs, args, input, HOOK_MS, NULL, why, sizeof why) != 0)
        log_warning("job %s: %s: %s", r->job->name, args[0], why);
}

static void ping(struct run *r, const char *state, const char *text) {
    char target[300];
    if (!r->job->ping || !*r->job->ping)
        return;
    snprintf(target, sizeof target, "job:%s", r->job->name);
    call(r, (const char *[]){"ping", target, state, NULL}, text);
}

// The command's output goes to ours, tagged as the job's.
static void command(struct run *r, const char *text) {
    char **argv = NULL;
    struct err e = {0};
    autoclose int input = helper_input(text);
    struct watch *x = calloc(1, sizeof *x);
    if (!x || text_words(r->job->on_failure, &argv, &e) < 0 || !argv[0]) {
        log_warning("job %s: on_failure: %s", r->job->name, e.text);
        free(argv);
        free(x);
        return;
    }
    struct spawn s = {.argv = argv, .session = true};
    if (watch_start(&r->w, x, &s, input, &e) < 0)
        log_warning("job %s: on_failure: %s", r->job->name, e.text);
    else {
        if (!watch_wait(x, HOOK_MS))
            log_warning("job %s: on_failure took too long; ended", r->job->name);
        else if (x->status)
            log_warning("job %s: on_failure itself failed", r->job->name);
        watch_end(x);
    }
    free(argv);
    free(x);
}

// Does not wait for the answer: the job is due now.
void run_hook_start(struct run *r) {
    char target[300];
    struct err e;
    if (!r->job->ping || !*r->job->ping || !(r->pinging = calloc(1, sizeof *r->pinging)))
        return;
    snprintf(target, sizeof target, "job:%s", r->job->name);
    if (helper_start(&r->w, r->jobs, (const char *[]){"ping", target, "start", NULL}, -1,
                     r->pinging, &e) == 0)
        return;
    log_warning("job %s: ping: %s", r->job->name, e.text);
    free(r->pinging);
    r->pinging = NULL;
}

static void end_start(struct run *r) {
    if (!r->pinging)
        return;
    if (!watch_wait(r->pinging, HOOK_MS) || r->pinging->status)
        log_warning("job %s: ping: the start could not be told", r->job->name);
    watch_end(r->pinging);
    free(r->pinging);
    r->pinging = NULL;
}

void run_hook_end(struct run *r) {
    autobuf struct buf json = {0};
    end_start(r);
    to_json(r, &json);
    if (json.failed)
        return;
    bool bad = result_bad(r->o.result);
    if (bad || r->o.result == RESULT_SUCCESS)
        ping(r, bad ? "fail" : "success", json.data);
    if (!bad || !r->job->on_failure || !*r->job->on_failure)
        return;
    char target[300];
    snprintf(target, sizeof target, "job:%s", r->job->name);
    if (is_url(r->job->on_failure))
        call(r, (const char *[]){"hook", target, NULL}, json.data);
    else
        command(r, json.data);
}
