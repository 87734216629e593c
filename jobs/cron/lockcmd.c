// lock NAME -- CMD…: a command that runs while a lock of the database is held.
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "cron/command.h"
#include "cron/watch.h"

#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <sysexits.h>

static int wait_for_lock(struct watcher *w, const char *name) {
    while (w->lock_event == LOCK_NOTHING && !w->drain)
        watcher_step(w, INT64_MAX);
    enum lock_event event = w->lock_event;
    w->lock_event = LOCK_NOTHING;
    if (event == LOCK_GOT)
        return 0;
    if (event == LOCK_BUSY) {
        log_error("lock %s is held by %s", name, w->lock.text);
        return EX_TEMPFAIL;
    }
    if (event == LOCK_NOTHING)
        return 128 + SIGTERM;
    log_error("lock %s: %s", name, w->lock.text);
    return EX_UNAVAILABLE;
}

// The command has our standard streams; only its end is watched. A lost lock ends it.
static int watch_over(struct watcher *w, struct watch *x, const char *name, int64_t grace_ms) {
    int64_t kill_ms = INT64_MAX;
    bool lost = false;
    while (!x->exited) {
        if (!lost && w->lock_event == LOCK_LOST) {
            log_error("lock %s is lost: %s: the command is ended", name, w->lock.text);
            lost = true;
        }
        if (kill_ms == INT64_MAX && (lost || w->drain)) {
            watcher_signal(w, SIGTERM);
            kill_ms = clock_mono_ms() + grace_ms;
        } else if (clock_mono_ms() >= kill_ms) {
            watcher_kill(w);
            kill_ms = clock_mono_ms() + 1000;
        }
        watcher_step(w, kill_ms);
    }
    if (lost)
        return EX_UNAVAILABLE;
    return WIFEXITED(x->status) ? WEXITSTATUS(x->status) : 128 + WTERMSIG(x->status);
}

static int run_locked(const struct jobs *j, const char *name, int64_t wait_ms, char **command) {
    struct watcher w;
    struct watch x = {.out = {{.fd = -1}, {.fd = -1}}};
    struct err e;
    if (watcher_init(&w, "", &e) < 0 || lock_start(&w.lock, j, name, wait_ms, &e) < 0) {
        log_error("%s", e.text);
        return e.code;
    }
    int rc = wait_for_lock(&w, name);
    struct spawn s = {.argv = command};
    if (rc == 0 && spawn_process(&s, &x.pid, &e) < 0) {
        log_error("%s", e.text);
        rc = e.code;
    } else if (rc == 0) {
        x.watcher = &w;
        w.watches = &x;
        rc = watch_over(&w, &x, name, j->grace_ms);
    }
    lock_release(&w.lock);
    return rc;
}

int command_lock(const char *config, int argc, char **argv) {
    static const struct option options[] = {{"wait", required_argument, NULL, 'w'}, {0}};
    struct jobs j = {0};
    struct err e = {0};
    int64_t wait_ms = -1;
    int separator = 1;
    while (argv[separator] && strcmp(argv[separator], "--") != 0)
        separator++;
    if (separator + 1 >= argc)
        return command_usage("lock: write lock NAME -- COMMAND");
    argv[separator] = NULL;
    for (int c; (c = getopt_long(separator, argv, "", options, NULL)) != -1;)
        if (c != 'w')
            return EX_USAGE;
        else if (text_duration(optarg, &wait_ms, &e) < 0)
            return command_usage("--wait: %s", e.text);
    if (separator - optind != 1)
        return command_usage("lock: one NAME before --");
    if (jobs_load_strict(&j, config, &e) < 0) {
        log_error("%s", e.text);
        jobs_free(&j);
        return e.code;
    }
    int rc =
        run_locked(&j, argv[optind], wait_ms < 0 ? j.lock_wait_ms : wait_ms, argv + separator + 1);
    jobs_free(&j);
    return rc;
}
