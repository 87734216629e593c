// run and run-job: the loop that starts a runner when a job is due, and --once.
//
// It waits for one timer (the next due time), its signals, the outcomes that runners send and the
// instance's lock; between due times nothing wakes it.
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "cron/command.h"
#include "cron/lines.h"
#include "cron/next.h"
#include "cron/sched.h"
#include "cron/slots.h"

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

struct loop {
    struct slots slots;
    struct sched sched;
    int signals, timer, state_lock;
    bool once, save_failed;
    int64_t clock_offset_ms;    // wall - monotonic: shows how far the clock was set
    size_t *todo, n_todo, done; // of --once
};

static void save(struct loop *l) {
    char path[PATH_MAX];
    struct err e;
    autofree char *backlog = NULL;
    l->slots.changed_ms = 0;
    if (l->state_lock < 0)
        return;
    snprintf(path, sizeof path, "%s/backlog.part", l->slots.jobs->state_dir);
    file_read(path, 1 << 20, &backlog, NULL, NULL);
    if (state_save(&l->slots.state, l->slots.jobs, backlog, &e) == 0)
        l->save_failed = false;
    else if (!l->save_failed) {
        log_warning("the state of the jobs cannot be written: %s", e.text);
        l->save_failed = true;
    }
}

// Only one process writes the state; another one (run-job beside the loop) goes without.
static void take_state(struct loop *l) {
    char path[PATH_MAX];
    mkdir(l->slots.jobs->state_dir, 0755); // there already, or the next step tells why not
    snprintf(path, sizeof path, "%s/jobs.lock", l->slots.jobs->state_dir);
    l->state_lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (l->state_lock < 0)
        log_warning("%s: %s: the state of the jobs will not be remembered", path, strerror(errno));
    else if (flock(l->state_lock, LOCK_EX | LOCK_NB) < 0) {
        log_notice("another civinit-jobs writes to %s: this one's runs are not recorded there",
                   l->slots.jobs->state_dir);
        close(l->state_lock);
        l->state_lock = -1;
    }
}

static void take_signals(struct loop *l) {
    struct signalfd_siginfo s;
    while (read(l->signals, &s, sizeof s) == sizeof s)
        if (s.ssi_signo == SIGTERM || s.ssi_signo == SIGINT)
            slots_stop(&l->slots, (int)s.ssi_signo);
    slots_reap(&l->slots);
}

static int set_timer(struct loop *l) {
    int64_t due_ms = l->slots.stopping || l->once ? NEXT_NEVER : sched_first(&l->sched, NULL);
    struct itimerspec t = {0};
    t.it_value.tv_sec = due_ms == NEXT_NEVER ? INT32_MAX * 2LL : due_ms / 1000;
    t.it_value.tv_nsec = due_ms == NEXT_NEVER ? 0 : due_ms % 1000 * 1000000;
    return timerfd_settime(l->timer, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &t, NULL);
}

static void clock_was_set(struct loop *l) {
    int64_t now = clock_wall_ms(), offset = now - clock_mono_ms();
    log_notice("the clock was set by %lld ms", (long long)(offset - l->clock_offset_ms));
    sched_jumped(&l->sched, l->slots.jobs, now, offset - l->clock_offset_ms);
    l->clock_offset_ms = offset;
}

// Set while we were about something else, the clock is only told of here (timerfd_create(2),
// NOTES).
static void arm(struct loop *l) {
    if (set_timer(l) < 0 && errno == ECANCELED) {
        clock_was_set(l);
        set_timer(l);
    }
}

static void take_time(struct loop *l) {
    uint64_t ticks;
    if (read(l->timer, &ticks, sizeof ticks) < 0 && errno == ECANCELED)
        clock_was_set(l);
    size_t i;
    int64_t when;
    for (enum sched_action a;
         (a = sched_take(&l->sched, l->slots.jobs, clock_wall_ms(), &i, &when)) != SCHED_WAIT;) {
        if (a == SCHED_RUN)
            slots_due(&l->slots, i, when);
        else
            log_notice("job %s: its time passed more than %d h ago; not run",
                       l->slots.jobs->v[i].name, SCHED_JUMP_MS / 3600000);
    }
}

static void start_next(struct loop *l) {
    while (l->once && !l->slots.running && !l->slots.waiting && !l->slots.stopping &&
           l->done < l->n_todo)
        slots_begin(&l->slots, l->todo[l->done++], 0);
}

static bool finished(const struct loop *l) {
    if (l->slots.running || l->slots.waiting)
        return false;
    return l->slots.stopping || (l->once && l->done == l->n_todo);
}

// The lock is kept between the jobs of --once, else only while a job runs under it.
static void let_go(struct loop *l) {
    bool needed = l->slots.locked || l->slots.waiting ||
                  (l->once && l->done < l->n_todo && !l->slots.stopping);
    if (l->slots.lock.state != LOCK_NONE && !needed)
        lock_release(&l->slots.lock);
}

// Milliseconds until what has changed is to be saved; -1: nothing has.
static int until_save(const struct loop *l) {
    int64_t left = l->slots.changed_ms + SAVE_MS - clock_mono_ms();
    return !l->slots.changed_ms ? -1 : left < 0 ? 0 : (int)left;
}

static void turn(struct loop *l) {
    struct pollfd p[] = {{l->signals, POLLIN, 0},
                         {l->timer, POLLIN, 0},
                         {l->slots.results[0], POLLIN, 0},
                         {l->slots.lock.state == LOCK_NONE ? -1 : l->slots.lock.out, POLLIN, 0}};
    if (poll(p, 4, until_save(l)) < 0)
        return;
    if (p[1].revents && !l->slots.stopping)
        take_time(l);
    if (p[3].revents)
        slots_lock(&l->slots);
    if (p[0].revents)
        take_signals(l);
    if (p[2].revents)
        slots_results(&l->slots);
    if (until_save(l) == 0)
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

static int prepare(struct loop *l, const struct jobs *jobs, struct err *e) {
    if (slots_init(&l->slots, jobs, e) < 0)
        return -1;
    if (!sched_init(&l->sched, jobs->n))
        return err_set(e, EX_OSERR, "out of memory");
    l->signals = block_signals();
    l->timer = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    if (l->signals < 0 || l->timer < 0)
        return err_errno(e, EX_OSERR, "start");
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    int64_t now = clock_wall_ms();
    l->clock_offset_ms = now - clock_mono_ms();
    for (size_t i = 0; i < jobs->n; i++)
        sched_start(&l->sched, &jobs->v[i], i, now, l->slots.state.records[i].tick_ms);
    return 0;
}

static void start(struct loop *l) {
    int target = lines_target(2);
    if (target >= 0)
        log_to(target); // a reader that stalls must not stop us
    if (l->once)
        return;
    log_info("%zu job%s", l->n_todo, l->n_todo == 1 ? "" : "s");
    for (size_t i = 0; i < l->slots.jobs->n; i++)
        if (l->slots.jobs->v[i].enabled && l->slots.jobs->v[i].schedule &&
            l->slots.jobs->v[i].expr.kind == EXPR_START)
            slots_begin(&l->slots, i, 0);
    slots_changed(&l->slots);
}

static int loop_run(struct loop *l, const struct jobs *jobs) {
    struct err e;
    if (prepare(l, jobs, &e) < 0) {
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
    lock_release(&l->slots.lock);
    save(l);
    // The next pod, or whoever waits for our end, is to find the lock free; but a database that
    // hangs is not waited for.
    for (int i = 0;
         i < 200 && l->slots.lock.pid > 0 && waitpid(l->slots.lock.pid, NULL, WNOHANG) == 0; i++)
        poll(NULL, 0, 10);
    return l->once ? l->slots.worst : EX_OK;
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
    struct loop l = {.once = once};
    int rc = EX_OSERR;
    if (jobs_load_strict(&j, config, &e) < 0) {
        log_error("%s", e.text);
        rc = e.code;
    } else if ((l.todo = calloc(j.n + (size_t)n_names + 1, sizeof *l.todo)) &&
               (rc = choose(&l, &j, names)) == EX_OK)
        rc = loop_run(&l, &j);
    slots_free(&l.slots);
    sched_free(&l.sched);
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
