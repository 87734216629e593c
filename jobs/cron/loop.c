// run and run-job: the loop that starts a runner when a job is due, and --once.
//
// It waits for one timer (the next due time), its signals, the outcomes that runners send and the
// instance's lock; between due times nothing wakes it.
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "cron/command.h"
#include "cron/next.h"
#include "cron/run.h"
#include "cron/sched.h"
#include "cron/state.h"
#include "cron/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

enum {
    SAVE_MS = 500 // changes within this time are written to disk together
};

struct slot {     // of one job
    pid_t pid;    // its runner, 0: none
    bool waiting; // due, but the instance's lock is not held yet
    bool queued;  // due again while running
    int64_t due_ms;
};

struct loop {
    const struct jobs *jobs;
    struct state state;
    struct sched sched;
    struct slot *slots;
    int signals, timer, results[2], state_lock;
    struct lock lock;
    size_t running, waiting, locked; // runners; jobs that wait; runners under the lock
    bool stopping, once, recover, mail_held, save_failed;
    int64_t save_ms;            // monotonic, when the state is to be written; 0: not changed
    int64_t clock_offset_ms;    // wall - monotonic: shows how far the clock was set
    size_t *todo, n_todo, done; // of --once
    int worst;                  // exit code of --once
};

static void changed(struct loop *l) {
    if (!l->save_ms)
        l->save_ms = clock_mono_ms() + SAVE_MS;
}

static void save(struct loop *l) {
    char path[PATH_MAX];
    struct err e;
    autofree char *backlog = NULL;
    l->save_ms = 0;
    if (l->state_lock < 0)
        return;
    snprintf(path, sizeof path, "%s/backlog.part", l->jobs->state_dir);
    file_read(path, 1 << 20, &backlog, NULL, NULL);
    if (state_save(&l->state, l->jobs, backlog, &e) == 0)
        l->save_failed = false;
    else if (!l->save_failed) {
        log_warning("the state of the jobs cannot be written: %s", e.text);
        l->save_failed = true;
    }
}

// Only one process writes the state; another one (run-job beside the loop) goes without.
static void take_state(struct loop *l) {
    char path[PATH_MAX];
    mkdir(l->jobs->state_dir, 0755); // there already, or the next step tells why not
    snprintf(path, sizeof path, "%s/jobs.lock", l->jobs->state_dir);
    l->state_lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (l->state_lock < 0)
        log_warning("%s: %s: the state of the jobs will not be remembered", path, strerror(errno));
    else if (flock(l->state_lock, LOCK_EX | LOCK_NB) < 0) {
        log_notice("another civinit-jobs writes to %s: this one's runs are not recorded there",
                   l->jobs->state_dir);
        close(l->state_lock);
        l->state_lock = -1;
    }
}

static int severity(enum result r) {
    return result_bad(r) ? 2 : r == RESULT_SUCCESS ? 0 : 1;
}

// Counts an outcome in, whoever made it.
static void finish(struct loop *l, const struct outcome *o) {
    state_count(&l->state, o);
    l->recover &= !o->recovered;
    l->mail_held = o->mail_held;
    int s = severity(o->result);
    if (s == 2 && (l->worst == 0 || l->worst == EX_TEMPFAIL || l->worst == EX_UNAVAILABLE))
        l->worst = o->code ? o->code : 1;
    else if (s && l->worst == 0)
        l->worst = o->code ? o->code : EX_TEMPFAIL;
    changed(l);
}

// A run that never began.
static void refuse(struct loop *l, size_t i, enum result result, int code, const char *reason) {
    struct outcome o = {.job = (uint32_t)i,
                        .result = result,
                        .code = code,
                        .due_ms = l->slots[i].due_ms,
                        .mail_held = l->mail_held};
    o.started_ms = o.ended_ms = clock_wall_ms();
    snprintf(o.reason, sizeof o.reason, "%s", reason);
    char quoted[2 * sizeof o.reason];
    log_msg(result_bad(result)      ? LOG_ERROR
            : result == RESULT_HELD ? LOG_WARNING
                                    : LOG_NOTICE,
            "job=%s outcome=%s reason=\"%s\"", l->jobs->v[i].name, result_word(result),
            run_quoted(o.reason, quoted, sizeof quoted));
    finish(l, &o);
}

// In the child: the run, then its outcome to the loop.
static _Noreturn void runner(struct loop *l, size_t i) {
    int out = l->results[1];
    log_to(2);
    if (out > 3)
        close_range(3, (unsigned)out - 1, 0);
    close_range((unsigned)out + 1, ~0U, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    struct run r = {.jobs = l->jobs,
                    .job = &l->jobs->v[i],
                    .order = {l->slots[i].due_ms, l->recover, l->mail_held}};
    r.o.job = (uint32_t)i;
    run_job(&r);
    file_write(out, &r.o, sizeof r.o);
    _exit(0);
}

static void launch(struct loop *l, size_t i) {
    struct slot *s = &l->slots[i];
    pid_t pid = fork();
    if (pid == 0)
        runner(l, i);
    if (pid < 0) {
        refuse(l, i, RESULT_FAILURE, EX_OSERR, strerror(errno));
        return;
    }
    s->pid = pid;
    l->running++;
    l->locked += l->jobs->v[i].instance_lock;
    l->state.records[i].running = true;
    changed(l);
}

// Runs a job that is due: now, when the lock is held, or never.
static void begin(struct loop *l, size_t i, int64_t due_ms) {
    struct slot *s = &l->slots[i];
    struct err e;
    s->due_ms = due_ms;
    if (!l->jobs->v[i].instance_lock || l->lock.state == LOCK_HELD) {
        launch(l, i);
        return;
    }
    if (l->lock.state == LOCK_NONE &&
        lock_start(&l->lock, l->jobs, NULL, l->jobs->lock_wait_ms, &e) < 0) {
        refuse(l, i, RESULT_HELD, EX_UNAVAILABLE, e.text);
        return;
    }
    s->waiting = true;
    l->waiting++;
}

// A time has come.
static void due(struct loop *l, size_t i, int64_t due_ms) {
    struct slot *s = &l->slots[i];
    l->state.records[i].tick_ms = due_ms;
    changed(l);
    if (!s->pid && !s->waiting) {
        begin(l, i, due_ms);
        return;
    }
    if (l->jobs->v[i].overlap == OVERLAP_SKIP || s->waiting || s->queued) {
        int64_t first = s->due_ms;
        s->due_ms = due_ms;
        refuse(l, i, RESULT_SKIPPED, EX_TEMPFAIL,
               s->waiting ? "still waits for the lock" : "the run before is still going on");
        s->due_ms = first;
        return;
    }
    s->queued = true;
    if (l->jobs->v[i].overlap == OVERLAP_KILL)
        kill(s->pid, SIGUSR2);
}

// For all that wait for the lock: run, or the reason why not.
static void lock_decided(struct loop *l, enum lock_event event) {
    char reason[600];
    bool busy = event == LOCK_BUSY;
    snprintf(reason, sizeof reason, busy ? "the lock is held by %s" : "lock: %s", l->lock.text);
    for (size_t i = 0; i < l->jobs->n && l->waiting; i++) {
        if (!l->slots[i].waiting)
            continue;
        l->slots[i].waiting = false;
        l->waiting--;
        if (event == LOCK_GOT)
            launch(l, i);
        else
            refuse(l, i, busy ? RESULT_SKIPPED : RESULT_HELD, busy ? EX_TEMPFAIL : EX_UNAVAILABLE,
                   reason);
    }
}

static void take_lock(struct loop *l) {
    enum lock_event event = lock_read(&l->lock);
    if (event == LOCK_NOTHING)
        return;
    if (event == LOCK_LOST) {
        log_error("the lock is lost: %s: runs under it are ended", l->lock.text);
        for (size_t i = 0; i < l->jobs->n; i++)
            if (l->slots[i].pid && l->jobs->v[i].instance_lock)
                kill(l->slots[i].pid, SIGUSR1);
    }
    lock_decided(l, event);
}

static void ended(struct loop *l, size_t i) {
    struct slot *s = &l->slots[i];
    s->pid = 0;
    l->running--;
    l->locked -= l->jobs->v[i].instance_lock;
    l->state.records[i].running = false;
    if (s->queued && !l->stopping) {
        s->queued = false;
        begin(l, i, clock_wall_ms());
    }
}

static void take_results(struct loop *l) {
    struct outcome o;
    while (read(l->results[0], &o, sizeof o) == sizeof o)
        if (o.job < l->jobs->n)
            finish(l, &o);
}

// A runner that ended without an outcome was killed; what it watched over comes to us and ends.
static void reap(struct loop *l) {
    take_results(l);
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid <= 0)
            return;
        size_t i = 0;
        while (i < l->jobs->n && l->slots[i].pid != pid)
            i++;
        if (i == l->jobs->n)
            continue;
        if (status) {
            size_t n = 0;
            pid_t *keep = calloc(l->jobs->n + 1, sizeof *keep);
            refuse(l, i, RESULT_CRASHED, EX_SOFTWARE, "its runner was killed");
            for (size_t k = 0; keep && k < l->jobs->n; k++)
                if (k != i && l->slots[k].pid)
                    keep[n++] = l->slots[k].pid;
            if (keep && l->lock.state != LOCK_NONE)
                keep[n++] = l->lock.pid;
            if (keep)
                tree_kill(getpid(), (struct tree_spare){keep, n});
            free(keep);
        }
        ended(l, i);
    }
}

static void stop(struct loop *l, int signal) {
    if (!l->stopping)
        log_notice("%s: no job begins any more; %zu running", sigabbrev_np(signal), l->running);
    l->stopping = true;
    for (size_t i = 0; i < l->jobs->n; i++) {
        l->slots[i].queued = false;
        if (l->slots[i].waiting) {
            l->slots[i].waiting = false;
            l->waiting--;
            refuse(l, i, RESULT_SKIPPED, EX_TEMPFAIL, "stopping");
        }
        if (l->slots[i].pid)
            kill(l->slots[i].pid, SIGTERM);
    }
}

static void take_signals(struct loop *l) {
    struct signalfd_siginfo s;
    while (read(l->signals, &s, sizeof s) == sizeof s)
        if (s.ssi_signo == SIGTERM || s.ssi_signo == SIGINT)
            stop(l, (int)s.ssi_signo);
    reap(l);
}

static void arm(struct loop *l) {
    int64_t due_ms = l->stopping || l->once ? NEXT_NEVER : sched_first(&l->sched, NULL);
    struct itimerspec t = {0};
    t.it_value.tv_sec = due_ms == NEXT_NEVER ? INT32_MAX * 2LL : due_ms / 1000;
    t.it_value.tv_nsec = due_ms == NEXT_NEVER ? 0 : due_ms % 1000 * 1000000;
    timerfd_settime(l->timer, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &t, NULL);
}

static void take_time(struct loop *l) {
    uint64_t ticks;
    if (read(l->timer, &ticks, sizeof ticks) < 0 && errno == ECANCELED) {
        int64_t now = clock_wall_ms(), offset = now - clock_mono_ms();
        log_notice("the clock was set by %lld ms", (long long)(offset - l->clock_offset_ms));
        sched_jumped(&l->sched, l->jobs, now, offset - l->clock_offset_ms);
        l->clock_offset_ms = offset;
    }
    size_t i;
    int64_t when;
    for (enum sched_action a;
         (a = sched_take(&l->sched, l->jobs, clock_wall_ms(), &i, &when)) != SCHED_WAIT;) {
        if (a == SCHED_RUN)
            due(l, i, when);
        else
            log_notice("job %s: its time passed more than %d h ago; not run", l->jobs->v[i].name,
                       SCHED_JUMP_MS / 3600000);
    }
}

static void start_next(struct loop *l) {
    while (l->once && !l->running && !l->waiting && !l->stopping && l->done < l->n_todo)
        begin(l, l->todo[l->done++], 0);
}

static bool finished(const struct loop *l) {
    if (l->running || l->waiting)
        return false;
    return l->stopping || (l->once && l->done == l->n_todo);
}

// The lock is kept between the jobs of --once, else only while a job runs under it.
static void let_go(struct loop *l) {
    bool needed = l->locked || l->waiting || (l->once && l->done < l->n_todo && !l->stopping);
    if (l->lock.state != LOCK_NONE && !needed)
        lock_release(&l->lock);
}

static void turn(struct loop *l) {
    struct pollfd p[] = {{l->signals, POLLIN, 0},
                         {l->timer, POLLIN, 0},
                         {l->results[0], POLLIN, 0},
                         {l->lock.state == LOCK_NONE ? -1 : l->lock.out, POLLIN, 0}};
    int64_t left = l->save_ms ? l->save_ms - clock_mono_ms() : -1;
    if (poll(p, 4, l->save_ms && left < 0 ? 0 : (int)left) < 0)
        return;
    if (p[1].revents && !l->stopping)
        take_time(l);
    if (p[3].revents)
        take_lock(l);
    if (p[0].revents)
        take_signals(l);
    if (p[2].revents)
        take_results(l);
    if (l->save_ms && clock_mono_ms() >= l->save_ms)
        save(l);
}

// USR1 and USR2 are only blocked for the runners: one that is told before it is ready keeps it.
static int block_signals(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int prepare(struct loop *l, struct err *e) {
    size_t n = l->jobs->n;
    l->slots = calloc(n + 1, sizeof *l->slots);
    if (!l->slots || !sched_init(&l->sched, n))
        return err_set(e, EX_OSERR, "out of memory");
    if (state_load(&l->state, l->jobs, e) < 0)
        return -1;
    l->signals = block_signals();
    l->timer = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    if (l->signals < 0 || l->timer < 0 || pipe2(l->results, O_CLOEXEC) < 0)
        return err_errno(e, EX_OSERR, "start");
    fcntl(l->results[0], F_SETFL, O_NONBLOCK);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    int64_t now = clock_wall_ms();
    l->clock_offset_ms = now - clock_mono_ms();
    for (size_t i = 0; i < n; i++)
        sched_start(&l->sched, &l->jobs->v[i], i, now, l->state.records[i].tick_ms);
    return 0;
}

static void start(struct loop *l) {
    int target = lines_target(2);
    if (target >= 0)
        log_to(target); // a reader that stalls must not stop us
    if (l->once)
        return;
    log_info("%zu job%s", l->n_todo, l->n_todo == 1 ? "" : "s");
    for (size_t i = 0; i < l->jobs->n; i++)
        if (l->jobs->v[i].enabled && l->jobs->v[i].schedule &&
            l->jobs->v[i].expr.kind == EXPR_START)
            begin(l, i, 0);
    changed(l);
}

static int loop_run(struct loop *l) {
    struct err e;
    if (prepare(l, &e) < 0) {
        log_error("%s", e.text);
        return e.code;
    }
    take_state(l);
    start(l);
    for (start_next(l); !finished(l); start_next(l)) {
        let_go(l);
        arm(l);
        turn(l);
    }
    lock_release(&l->lock);
    save(l);
    // The next pod, or whoever waits for our end, is to find the lock free; but a database that
    // hangs is not waited for.
    for (int i = 0; i < 200 && l->lock.pid > 0 && waitpid(l->lock.pid, NULL, WNOHANG) == 0; i++)
        poll(NULL, 0, 10);
    return l->once ? l->worst : EX_OK;
}

// The jobs that are meant: those named, in that order, even if not enabled; else all enabled ones.
static int choose(struct loop *l, struct jobs *j, char *const *names) {
    for (char *const *n = names; *n; n++) {
        struct job *job = jobs_find(j, *n);
        if (!job)
            return command_usage("there is no job %s", *n);
        l->todo[l->n_todo++] = (size_t)(job - j->v);
    }
    for (size_t i = 0; i < j->n; i++) {
        if (*names)
            j->v[i].enabled = false;
        else if (j->v[i].enabled)
            l->todo[l->n_todo++] = i;
    }
    for (size_t i = 0; i < l->n_todo; i++)
        j->v[l->todo[i]].enabled = true;
    return EX_OK;
}

static int run_with(const char *config, int n_names, char *const *names, bool once) {
    struct jobs j = {0};
    struct err e = {0};
    struct loop l = {.jobs = &j, .once = once, .recover = true, .lock = {.in = -1, .out = -1}};
    int rc = EX_OSERR;
    if (jobs_load_strict(&j, config, &e) < 0) {
        log_error("%s", e.text);
        rc = e.code;
    } else if ((l.todo = calloc(j.n + (size_t)n_names + 1, sizeof *l.todo)) &&
               (rc = choose(&l, &j, names)) == EX_OK)
        rc = loop_run(&l);
    state_free(&l.state);
    sched_free(&l.sched);
    free(l.slots);
    free(l.todo);
    jobs_free(&j);
    return rc;
}

int command_run(const char *config, int argc, char **argv) {
    static const struct option options[] = {{"once", no_argument, NULL, 'o'}, {0}};
    bool once = false;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
        if (c == 'o')
            once = true;
        else
            return EX_USAGE;
    return run_with(config, argc - optind, argv + optind, once);
}

int command_run_job(const char *config, int argc, char **argv) {
    if (argc != 2)
        return command_usage("run-job takes the name of one job");
    return run_with(config, 1, argv + 1, true);
}
