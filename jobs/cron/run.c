#include "cron/run.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "conf/env.h"
#include "cron/helper.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

enum {
    TERM_MS = 5000,   // from SIGTERM to SIGKILL when a command is ended
    HOLD_MS = 15000,  // that CiviCRM gets to end by itself once its mailings are paused
    AGAIN_MS = 2000,  // until mailings that could not be paused are tried again
    LINGER_MS = 2000, // that what a command leaves behind may hold its output open
};

void run_result(struct run *r, enum result result, int code, const char *fmt, ...) {
    if (*r->o.reason && (!result_bad(result) || result_bad(r->o.result)))
        return;
    r->o.result = result;
    r->o.code = code;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(r->o.reason, sizeof r->o.reason, fmt, ap);
    va_end(ap);
    for (char *p = r->o.reason; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = ' ';
}

const char *run_quoted(const char *text, char *buf, size_t size) {
    size_t n = 0;
    for (; *text && n + 3 < size; text++) {
        if (*text == '"' || *text == '\\')
            buf[n++] = '\\';
        buf[n++] = *text;
    }
    buf[n] = 0;
    return buf;
}

bool run_stopping(const struct run *r) {
    return r->w.drain || r->w.kill || r->w.lost || r->w.lock_event == LOCK_LOST;
}

int run_ask(struct run *r, const char *const *args, struct buf *out, char *why, size_t size) {
    return helper_call(&r->w, r->jobs, args, -1, HELPER_TIMEOUT_MS, out, why, size);
}

char **run_argv(struct run *r, struct err *e) {
    static char program[4096];
    char **argv = NULL;
    if (r->job->automatic)
        return run_automatic(r, e);
    if (r->job->command)
        return text_words(r->job->command, &argv, e) < 0 ? NULL : argv;
    const char *shell[] = {"/bin/sh", "-c", r->job->shell, NULL};
    const char *url[] = {spawn_sibling("civinit-jobs-helper", program, sizeof program),
                         "--config",
                         r->jobs->path,
                         "url",
                         r->job->name,
                         NULL};
    argv = malloc(sizeof url);
    if (!argv)
        err_set(e, EX_OSERR, "out of memory");
    else if (r->job->shell)
        memcpy(argv, shell, sizeof shell);
    else
        memcpy(argv, url, sizeof url);
    return argv;
}

// What a running command is to be told, and when. Times are monotonic, INT64_MAX: never.
struct stopping {
    int64_t term_ms, kill_ms;
    int64_t hold_ms; // when mailings that could not be paused are to be, once more
    bool begun;      // the command has been asked to end, or is left to end by itself
    bool mail_held;  // mailings are paused until it has ended
};

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

// Pauses mailings; when the database does not answer, again until there is no time left for it.
static void hold(struct run *r, struct stopping *s) {
    char why[300];
    bool again = s->hold_ms != INT64_MAX;
    int64_t left = s->kill_ms - clock_mono_ms();
    s->hold_ms = INT64_MAX;
    s->mail_held = run_hold_mail(r, again ? left : INT64_MAX, why, sizeof why) == 0;
    if (s->mail_held)
        return;
    if (!again)
        log_warning("job %s: mailings cannot be paused: %s", r->job->name, why);
    if (clock_mono_ms() + AGAIN_MS < s->kill_ms)
        s->hold_ms = clock_mono_ms() + AGAIN_MS;
}

// CiviCRM ends by itself at the next multiple of ten mails when its mailings are paused; SIGTERM
// would make it mail up to ten people twice. Others get SIGTERM at term_ms.
static void begin_stop(struct run *r, struct stopping *s, int64_t term_ms, int64_t kill_ms) {
    s->begun = true;
    s->kill_ms = kill_ms;
    s->term_ms = r->job->civicrm ? INT64_MAX : term_ms;
    if (r->job->civicrm && !r->o.mail_held)
        hold(r, s);
}

static void decide(struct run *r, struct stopping *s, struct run_end *end) {
    int64_t now = clock_mono_ms(), grace = r->jobs->grace_ms;
    if (!s->begun && r->w.drain) {
        int64_t deadline = r->w.drained_at_ms + grace;
        begin_stop(r, s, deadline - least(2000, grace / 4), deadline);
    } else if (!s->begun && (r->w.lost || r->w.lock_event == LOCK_LOST)) {
        end->lost = true;
        begin_stop(r, s, now, now + grace);
    } else if (!s->begun && r->w.kill) {
        end->replaced = true;
        begin_stop(r, s, now, now + (r->job->civicrm ? HOLD_MS : TERM_MS));
    } else if (!s->begun && now >= s->term_ms) {
        end->timed_out = true;
        begin_stop(r, s, now, now + (r->job->civicrm ? HOLD_MS : TERM_MS));
    } else if (s->begun && r->w.drain)
        s->kill_ms = least(s->kill_ms, r->w.drained_at_ms + grace);
    if (now >= s->hold_ms)
        hold(r, s);
    if (s->begun && now >= s->term_ms) {
        s->term_ms = INT64_MAX;
        watcher_signal(&r->w, SIGTERM);
    }
    if (now >= s->kill_ms) {
        end->killed = true;
        watcher_kill(&r->w);
        s->kill_ms = now + 1000; // once more, should something be left
    }
}

// Ends what the command has left behind.
static void clear_up(struct run *r, struct watch *x, bool stopped) {
    int64_t until = clock_mono_ms() + LINGER_MS;
    while (!watch_quiet(x) && !run_stopping(r) && clock_mono_ms() < until)
        watcher_step(&r->w, until);
    if (!watcher_children(&r->w))
        return;
    int left = watcher_signal(&r->w, SIGTERM);
    if (left > 0 && !stopped)
        log_notice("job %s: %d process%s left behind; ended", r->job->name, left,
                   left == 1 ? " was" : "es were");
    int64_t end = clock_mono_ms() + 4LL * LINGER_MS;
    for (until = clock_mono_ms() + LINGER_MS; left > 0 && clock_mono_ms() < end;) {
        watcher_step(&r->w, least(until, clock_mono_ms() + 50));
        if (clock_mono_ms() >= until)
            watcher_kill(&r->w);
        watcher_children(&r->w);
        left = watcher_signal(&r->w, 0);
    }
}

static void watch_over(struct run *r, struct watch *x, struct run_end *ret) {
    struct stopping s = {INT64_MAX, INT64_MAX, INT64_MAX, false, false};
    if (r->job->timeout_ms)
        s.term_ms = clock_mono_ms() + r->job->timeout_ms;
    for (;;) {
        decide(r, &s, ret);
        if (x->exited)
            break;
        watcher_step(&r->w, least(s.hold_ms, least(s.term_ms, s.kill_ms)));
    }
    ret->status = x->status;
    clear_up(r, x, s.begun);
    ret->mail_held = s.mail_held;
    if (s.mail_held)
        run_release_mail(r);
}

// The command's environment: ours, the user's, env_file, env.*, and which run it is.
static int make_environment(const struct run *r, struct env *v, struct err *e) {
    const struct job *job = r->job;
    const struct user *user = job->account;
    env_init(v, v->arena, environ);
    env_set(v, "NOTIFY_SOCKET", NULL);
    if (user) {
        env_set(v, "HOME", user->home ? user->home : "/");
        env_set(v, "USER", user->name ? user->name : job->user);
        env_set(v, "LOGNAME", user->name ? user->name : job->user);
    }
    if (job->env_file && env_file(v, job->env_file, e) < 0)
        return -1;
    for (const struct job_env *x = job->env; x; x = x->next)
        env_set(v, x->name, x->value);
    env_set(v, "CIVINIT_JOB", job->name);
    env_set(v, "CIVINIT_RUN", r->o.run);
    return v->failed ? err_set(e, EX_OSERR, "out of memory") : 0;
}

static void start_command(struct run *r, struct spawn *s, struct watch *x, struct run_end *ret) {
    struct arena arena = {0};
    struct env env = {.arena = &arena};
    const struct user *user = r->job->account;
    if (user && geteuid() == 0) { // else all run as who the pod says
        s->set_user = true;
        s->uid = user->uid;
        s->gid = user->gid;
        s->groups = user->groups;
        s->ngroups = user->ngroups;
    }
    ret->failed_to_start = make_environment(r, &env, &ret->e) < 0;
    s->envp = env.list;
    if (!ret->failed_to_start)
        ret->failed_to_start = watch_start(&r->w, x, s, -1, &ret->e) < 0;
    arena_free(&arena);
}

void run_command(struct run *r, char *const *argv, int copy, struct run_end *ret) {
    *ret = (struct run_end){0};
    struct spawn s = {.argv = argv, .session = true, .cwd = r->job->cwd};
    struct watch *x = calloc(1, sizeof *x);
    if (!x) {
        ret->failed_to_start = true;
        err_set(&ret->e, EX_OSERR, "out of memory");
        return;
    }
    x->copy = copy;
    x->search = r->search;
    start_command(r, &s, x, ret);
    if (!ret->failed_to_start) {
        watch_over(r, x, ret);
        watch_end(x);
    }
    free(x);
}

int run_quiet(struct run *r, char *const *argv, int64_t timeout_ms, struct buf *out,
              struct err *e) {
    struct spawn s = {.argv = argv, .session = true, .cwd = r->job->cwd};
    struct run_end end = {0};
    autobuf struct buf errors = {0};
    struct watch *x = calloc(1, sizeof *x);
    if (!x)
        return err_set(e, EX_OSERR, "out of memory");
    x->helper = true;
    start_command(r, &s, x, &end);
    if (end.failed_to_start) {
        *e = end.e;
        free(x);
        return -1;
    }
    x->out[0].capture = out;
    x->out[1].capture = &errors;
    int rc =
        watch_wait(x, timeout_ms)
            ? WIFEXITED(x->status) ? WEXITSTATUS(x->status) : 128 + WTERMSIG(x->status)
            : err_set(e, EX_UNAVAILABLE, "took longer than %llds", (long long)timeout_ms / 1000);
    watch_end(x);
    free(x);
    return rc;
}

void run_judge(struct run *r, const struct run_end *end) {
    char limit[32];
    int exit = WIFEXITED(end->status) ? WEXITSTATUS(end->status) : 0;
    int signal = WIFSIGNALED(end->status) ? WTERMSIG(end->status) : 0;
    r->o.exit = exit;
    r->o.signal = signal;
    if (end->failed_to_start)
        run_result(r, RESULT_FAILURE, end->e.code, "%s", end->e.text);
    else if (end->timed_out)
        run_result(r, RESULT_TIMEOUT, 124, "took longer than %s%s",
                   text_ms(r->job->timeout_ms, limit, sizeof limit), end->killed ? "; killed" : "");
    else if (end->lost)
        run_result(r, RESULT_FAILURE, EX_TEMPFAIL, "the lock was lost while it ran%s%s%s",
                   *r->w.lock.text ? " (" : "", r->w.lock.text, *r->w.lock.text ? ")" : "");
    else if (end->replaced)
        run_result(r, RESULT_FAILURE, 128 + SIGTERM,
                   "was still running when it was due again; ended");
    else if (end->killed)
        run_result(r, RESULT_CRASHED, 128 + SIGKILL, "killed at the end of the grace period");
    else if (signal)
        run_result(r, RESULT_CRASHED, 128 + signal, "killed by signal %d (%s)", signal,
                   sigabbrev_np(signal) ? sigabbrev_np(signal) : "?");
    else if (exit)
        run_result(r, RESULT_FAILURE, exit, "exited with %d", exit);
}

// Why a URL failed: what the helper said last, at the end of what was kept of its output.
static void judge_url(struct run *r, const struct run_end *end, int output) {
    static const char prefix[] = "civinit-jobs-helper: error: url: ";
    char text[sizeof r->o.reason + sizeof prefix + 1];
    int code = WIFEXITED(end->status) ? WEXITSTATUS(end->status) : 0;
    if (!code || end->failed_to_start || end->timed_out || end->lost || end->replaced)
        return;
    off_t size = lseek(output, 0, SEEK_END), most = sizeof text - 1;
    ssize_t n = pread(output, text, (size_t)most, size > most ? size - most : 0);
    while (n > 0 && text[n - 1] == '\n')
        n--;
    text[n > 0 ? n : 0] = 0;
    char *line = strrchr(text, '\n');
    line = line ? line + 1 : text;
    if (strncmp(line, prefix, sizeof prefix - 1) == 0)
        run_result(r, RESULT_FAILURE, code, "%s", line + sizeof prefix - 1);
}

static void run_plain(struct run *r) {
    char why[400];
    struct run_end end;
    autoclose int output = r->job->url ? memfd_create("output", MFD_CLOEXEC) : -1;
    if (!run_gates(r, why, sizeof why)) {
        run_result(r, RESULT_HELD, EX_UNAVAILABLE, "%s", why);
        return;
    }
    if (run_stopping(r))
        return;
    struct err e;
    char **argv = run_argv(r, &e);
    if (!argv) {
        run_result(r, RESULT_FAILURE, e.code, "%s", e.text);
        return;
    }
    run_command(r, argv, output, &end);
    free(argv);
    if (output >= 0)
        judge_url(r, &end, output);
    run_judge(r, &end);
}

// As run_plain, of a command that says of a failure what its exit code does not.
static void run_searched(struct run *r) {
    struct lines_search search = {.found = false};
    if (regcomp(&search.pattern, r->job->failure_text, REG_EXTENDED | REG_NOSUB) != 0) {
        run_result(r, RESULT_FAILURE, EX_CONFIG, "failure_text cannot be used");
        return;
    }
    r->search = &search;
    run_plain(r);
    r->search = NULL;
    regfree(&search.pattern);
    size_t n = strlen(r->o.reason);
    if (search.found && r->o.result == RESULT_FAILURE) // what it did say beside its exit code
        snprintf(r->o.reason + n, sizeof r->o.reason - n, ": %s", search.line);
    else if (search.found)
        run_result(r, RESULT_FAILURE, 1, "it said: %s", search.line);
}

// The database answers, its version fits, no upgrade is pending, no maintenance is on.
static bool preconditions(struct run *r) {
    autobuf struct buf said = {0};
    char why[300] = "";
    if (!(r->job->needs & NEEDS_DATABASE))
        return true;
    int rc = run_ask(r, (const char *[]){"precheck", NULL}, &said, why, sizeof why);
    r->o.precheck = true;
    *r->o.hold = *r->civicrm = 0;
    if (rc == 0 && said.data && strncmp(said.data, "ok ", 3) == 0)
        snprintf(r->civicrm, sizeof r->civicrm, "%.*s", (int)strcspn(said.data + 3, " \n"),
                 said.data + 3);
    if (rc == 0)
        return true;
    const char *text = strncmp(why, "hold ", 5) == 0 ? why + 5 : why;
    snprintf(r->o.hold, sizeof r->o.hold, "%s", *text ? text : "the precheck failed");
    run_result(r, RESULT_HELD, rc == EX_TEMPFAIL ? EX_TEMPFAIL : EX_UNAVAILABLE, "%s", r->o.hold);
    return false;
}

static bool own_lock(struct run *r) {
    struct err e;
    if (!r->job->lock || r->w.lock.state == LOCK_HELD)
        return true;
    if (lock_start(&r->w.lock, r->jobs, r->job->lock, r->jobs->lock_wait_ms, &e) < 0) {
        run_result(r, RESULT_HELD, EX_UNAVAILABLE, "lock %s: %s", r->job->lock, e.text);
        return false;
    }
    r->w.lock_event = LOCK_NOTHING;
    while (r->w.lock_event == LOCK_NOTHING && !run_stopping(r))
        watcher_step(&r->w, INT64_MAX);
    enum lock_event event = r->w.lock_event;
    r->w.lock_event = LOCK_NOTHING;
    if (event == LOCK_GOT)
        return true;
    if (event == LOCK_BUSY)
        run_result(r, RESULT_SKIPPED, EX_TEMPFAIL, "lock %s is held by %s", r->job->lock,
                   r->w.lock.text);
    else if (event != LOCK_NOTHING)
        run_result(r, RESULT_HELD, EX_UNAVAILABLE, "lock %s: %s", r->job->lock, r->w.lock.text);
    return false;
}

static void attempt(struct run *r) {
    r->o.result = RESULT_SUCCESS;
    r->o.code = r->o.exit = r->o.signal = 0;
    *r->o.reason = 0;
    r->o.attempts++;
    if (!own_lock(r) || !preconditions(r) || run_stopping(r)) {
        if (!*r->o.reason)
            run_result(r, RESULT_SKIPPED, EX_TEMPFAIL, "stopping");
        return;
    }
    if (r->job->civicrm)
        run_civicrm(r);
    else if (r->job->failure_text && !r->job->url)
        run_searched(r);
    else
        run_plain(r);
}

static void sleep_until(struct run *r, int64_t until_ms) {
    while (clock_mono_ms() < until_ms && !run_stopping(r))
        watcher_step(&r->w, until_ms);
}

static void report(const struct run *r) {
    const struct outcome *o = &r->o;
    char reason[2 * sizeof o->reason];
    enum log_level level = result_bad(o->result)         ? LOG_ERROR
                           : o->result == RESULT_HELD    ? LOG_WARNING
                           : o->result == RESULT_SKIPPED ? LOG_NOTICE
                                                         : LOG_INFO;
    log_msg(level,
            "job=%s run=%s outcome=%s exit=%d signal=%d duration_ms=%lld cpu_ms=%lld rss_kb=%lld "
            "attempts=%d late_ms=%lld%s%s%s",
            r->job->name, o->run, result_word(o->result), o->exit, o->signal,
            (long long)(o->ended_ms - o->started_ms), (long long)o->cpu_ms, (long long)o->rss_kb,
            o->attempts, (long long)(o->due_ms ? o->started_ms - o->due_ms : 0),
            *o->reason ? " reason=\"" : "", run_quoted(o->reason, reason, sizeof reason),
            *o->reason ? "\"" : "");
}

void run_job(struct run *r) {
    uint32_t id = 0;
    struct err e;
    if (getrandom(&id, sizeof id, GRND_NONBLOCK) < 0)
        id = (uint32_t)getpid() * 2654435761U ^ (uint32_t)clock_mono_ms();
    snprintf(r->o.run, sizeof r->o.run, "%08x", id);
    char tag[300];
    snprintf(tag, sizeof tag, "%.280s[%s]: ", r->job->name, r->o.run);
    r->o.started_ms = clock_wall_ms();
    r->o.due_ms = r->order.due_ms;
    r->o.mail_held = r->order.mail_held;
    snprintf(r->o.choice, sizeof r->o.choice, "%s", r->order.last->choice);
    if (watcher_init(&r->w, tag, &e) < 0)
        run_result(r, RESULT_FAILURE, e.code, "%s", e.text);
    else {
        r->w.grace_ms = r->jobs->grace_ms;
        run_hook_start(r);
        int64_t backoff = r->job->backoff_ms;
        attempt(r);
        for (int i = 0; i < r->job->retry && result_bad(r->o.result) && !run_stopping(r); i++) {
            char reason[2 * sizeof r->o.reason];
            log_warning("job=%s run=%s attempt=%d outcome=%s reason=\"%s\" retry_ms=%lld",
                        r->job->name, r->o.run, r->o.attempts, result_word(r->o.result),
                        run_quoted(r->o.reason, reason, sizeof reason), (long long)backoff);
            sleep_until(r, clock_mono_ms() + backoff);
            if (!run_stopping(r))
                attempt(r);
            backoff = least(backoff * 2, 3600000);
        }
    }
    lock_release(&r->w.lock);
    r->o.ended_ms = clock_wall_ms();
    r->o.rss_kb = r->w.rss_kb;
    r->o.cpu_ms = r->w.cpu_ms;
    report(r);
    run_hook_end(r);
}
