#include "cron/slots.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "cron/run.h"
#include "cron/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

void slots_changed(struct slots *all) {
    if (!all->changed_ms)
        all->changed_ms = clock_mono_ms();
}

int slots_init(struct slots *all, const struct jobs *jobs, struct err *e) {
    all->jobs = jobs;
    all->lock = (struct lock){.in = -1, .out = -1};
    all->recover = true;
    all->v = calloc(jobs->n + 1, sizeof *all->v);
    if (!all->v)
        return err_set(e, EX_OSERR, "out of memory");
    if (state_load(&all->state, jobs, e) < 0)
        return -1;
    if (pipe2(all->results, O_CLOEXEC) < 0)
        return err_errno(e, EX_OSERR, "start");
    fcntl(all->results[0], F_SETFL, O_NONBLOCK);
    return 0;
}

void slots_free(struct slots *all) {
    state_free(&all->state);
    free(all->v);
}

static int severity(enum result r) {
    return result_bad(r) ? 2 : r == RESULT_SUCCESS ? 0 : 1;
}

// Counts an outcome in, whoever made it.
static void finish(struct slots *all, const struct outcome *o) {
    state_count(&all->state, o);
    all->recover = o->left_held || (all->recover && !o->recovered);
    all->mail_held = o->mail_held;
    int s = severity(o->result);
    if (s == 2 && (all->worst == 0 || all->worst == EX_TEMPFAIL || all->worst == EX_UNAVAILABLE))
        all->worst = o->code ? o->code : 1;
    else if (s && all->worst == 0)
        all->worst = o->code ? o->code : EX_TEMPFAIL;
    slots_changed(all);
}

// A run that never began.
static void refuse(struct slots *all, size_t i, enum result result, int code, const char *reason) {
    struct outcome o = {.job = (uint32_t)i,
                        .result = result,
                        .code = code,
                        .due_ms = all->v[i].due_ms,
                        .mail_held = all->mail_held};
    o.started_ms = o.ended_ms = clock_wall_ms();
    snprintf(o.reason, sizeof o.reason, "%s", reason);
    char quoted[2 * sizeof o.reason];
    log_msg(result_bad(result)      ? LOG_ERROR
            : result == RESULT_HELD ? LOG_WARNING
                                    : LOG_NOTICE,
            "job=%s outcome=%s reason=\"%s\"", all->jobs->v[i].name, result_word(result),
            run_quoted(o.reason, quoted, sizeof quoted));
    finish(all, &o);
}

// In the child: the run, then its outcome to the loop.
static _Noreturn void runner(struct slots *all, size_t i) {
    int out = all->results[1];
    log_to(2);
    if (out > 3)
        close_range(3, (unsigned)out - 1, 0);
    close_range((unsigned)out + 1, ~0U, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    struct run r = {
        .jobs = all->jobs,
        .job = &all->jobs->v[i],
        .order = {all->v[i].due_ms, all->recover, all->mail_held, &all->state.records[i].last}};
    r.o.job = (uint32_t)i;
    run_job(&r);
    file_write(out, &r.o, sizeof r.o);
    _exit(0);
}

static void launch(struct slots *all, size_t i) {
    struct slot *s = &all->v[i];
    pid_t pid = fork();
    if (pid == 0)
        runner(all, i);
    if (pid < 0) {
        refuse(all, i, RESULT_FAILURE, EX_OSERR, strerror(errno));
        return;
    }
    s->pid = pid;
    all->running++;
    all->locked += all->jobs->v[i].instance_lock;
    all->state.records[i].running = true;
    slots_changed(all);
}

void slots_begin(struct slots *all, size_t i, int64_t due_ms) {
    struct slot *s = &all->v[i];
    struct err e;
    s->due_ms = due_ms;
    if (!all->jobs->v[i].instance_lock || all->lock.state == LOCK_HELD) {
        launch(all, i);
        return;
    }
    if (all->lock.state == LOCK_NONE &&
        lock_start(&all->lock, all->jobs, NULL, all->jobs->lock_wait_ms, &e) < 0) {
        refuse(all, i, RESULT_HELD, EX_UNAVAILABLE, e.text);
        return;
    }
    s->waiting = true;
    all->waiting++;
}

void slots_due(struct slots *all, size_t i, int64_t due_ms) {
    struct slot *s = &all->v[i];
    all->state.records[i].tick_ms = due_ms;
    slots_changed(all);
    if (!s->pid && !s->waiting) {
        slots_begin(all, i, due_ms);
        return;
    }
    if (all->jobs->v[i].overlap == OVERLAP_SKIP || s->waiting || s->queued) {
        int64_t first = s->due_ms;
        s->due_ms = due_ms;
        refuse(all, i, RESULT_SKIPPED, EX_TEMPFAIL,
               s->waiting ? "still waits for the lock" : "the run before is still going on");
        s->due_ms = first;
        return;
    }
    s->queued = true;
    if (all->jobs->v[i].overlap == OVERLAP_KILL)
        kill(s->pid, SIGUSR2);
}

// For all that wait for the lock: run, or the reason why not.
static void lock_decided(struct slots *all, enum lock_event event) {
    char reason[600];
    bool busy = event == LOCK_BUSY;
    snprintf(reason, sizeof reason, busy ? "the lock is held by %s" : "lock: %s", all->lock.text);
    for (size_t i = 0; i < all->jobs->n && all->waiting; i++) {
        if (!all->v[i].waiting)
            continue;
        all->v[i].waiting = false;
        all->waiting--;
        if (event == LOCK_GOT)
            launch(all, i);
        else
            refuse(all, i, busy ? RESULT_SKIPPED : RESULT_HELD, busy ? EX_TEMPFAIL : EX_UNAVAILABLE,
                   reason);
    }
}

void slots_lock(struct slots *all) {
    enum lock_event event = lock_read(&all->lock);
    if (event == LOCK_NOTHING)
        return;
    if (event == LOCK_LOST) {
        log_error("the lock is lost: %s: runs under it are ended", all->lock.text);
        for (size_t i = 0; i < all->jobs->n; i++)
            if (all->v[i].pid && all->jobs->v[i].instance_lock)
                kill(all->v[i].pid, SIGUSR1);
    }
    lock_decided(all, event);
}

static void ended(struct slots *all, size_t i) {
    struct slot *s = &all->v[i];
    s->pid = 0;
    all->running--;
    all->locked -= all->jobs->v[i].instance_lock;
    all->state.records[i].running = false;
    if (s->queued && !all->stopping) {
        s->queued = false;
        slots_begin(all, i, clock_wall_ms());
    }
}

void slots_results(struct slots *all) {
    struct outcome o;
    while (read(all->results[0], &o, sizeof o) == sizeof o)
        if (o.job < all->jobs->n)
            finish(all, &o);
}

void slots_reap(struct slots *all) {
    slots_results(all);
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid <= 0)
            return;
        size_t i = 0;
        while (i < all->jobs->n && all->v[i].pid != pid)
            i++;
        if (i == all->jobs->n)
            continue;
        if (status) {
            size_t n = 0;
            pid_t *keep = calloc(all->jobs->n + 1, sizeof *keep);
            refuse(all, i, RESULT_CRASHED, EX_SOFTWARE, "its runner was killed");
            for (size_t k = 0; keep && k < all->jobs->n; k++)
                if (k != i && all->v[k].pid)
                    keep[n++] = all->v[k].pid;
            if (keep && all->lock.state != LOCK_NONE)
                keep[n++] = all->lock.pid;
            if (keep)
                tree_kill(getpid(), (struct tree_spare){keep, n});
            free(keep);
        }
        ended(all, i);
    }
}

void slots_stop(struct slots *all, int signal) {
    if (!all->stopping)
        log_notice("%s: no job begins any more; %zu running", sigabbrev_np(signal), all->running);
    all->stopping = true;
    for (size_t i = 0; i < all->jobs->n; i++) {
        all->v[i].queued = false;
        if (all->v[i].waiting) {
            all->v[i].waiting = false;
            all->waiting--;
            refuse(all, i, RESULT_SKIPPED, EX_TEMPFAIL, "stopping");
        }
        if (all->v[i].pid)
            kill(all->v[i].pid, SIGTERM);
    }
}
