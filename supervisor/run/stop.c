#include "run/stop.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "run/logs.h"
#include "run/reap.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

enum {
    SCAN_PAUSE = 100,
};

static void enter(struct sup *s, enum sup_phase phase) {
    s->phase = phase;
    s->dirty = true;
    if (phase == SUP_STOPPING)
        for (size_t i = 0; i < s->n; i++)
            s->svc[i].wanted = false;
    s->drain_ms = phase == SUP_DRAINING ? s->now_ms + s->plan->drain_ms : 0;
}

// The clock of the grace time begins once.
static void start_clock(struct sup *s) {
    if (s->deadline_ms)
        return;
    s->deadline_ms = s->now_ms + s->plan->grace_ms;
    s->kill_ms = s->deadline_ms - plan_last_part(s->plan);
}

__attribute__((format(printf, 3, 4))) static void begin(struct sup *s, int code, const char *fmt,
                                                        ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(s->reason, sizeof s->reason, fmt, ap);
    va_end(ap);
    s->code = code;
    s->code_of_main = false;
    start_clock(s);
    enter(s, SUP_STOPPING);
}

void stop_asked(struct sup *s, int sig) {
    char text[32];
    if (s->phase == SUP_DRAINING) { // whoever asks twice is in a hurry
        enter(s, SUP_STOPPING);
        return;
    }
    if (s->phase != SUP_RUNNING)
        return;
    start_clock(s);
    snprintf(s->reason, sizeof s->reason, "SIG%s", sigabbrev_np(sig));
    if (s->plan->drain_ms)
        log_notice("SIG%s: not ready any more; stops in %s", sigabbrev_np(sig),
                   text_ms(s->plan->drain_ms, text, sizeof text));
    enter(s, s->plan->drain_ms ? SUP_DRAINING : SUP_STOPPING);
}

void stop_forward(struct sup *s, int sig) {
    const struct svc *v = s->plan->main < s->n ? &s->svc[s->plan->main] : NULL;
    if (v && v->pid)
        kill(v->pid, sig);
}

void stop_main_ended(struct sup *s, const struct svc *v, int code) {
    if (s->phase < SUP_STOPPING) {
        if (v->unavailable)
            code = EX_UNAVAILABLE;
        begin(s, code, "main service %s: %s", v->def->name, v->reason);
    } else if (s->code_of_main) {
        s->code = code;
        if (code)
            snprintf(s->reason, sizeof s->reason, "main service %s: %.*s", v->def->name,
                     SUP_REASON - 100, v->reason);
    }
}

int64_t stop_timeout(const struct sup *s, const struct svc *v) {
    int64_t at = s->now_ms + v->def->stop_timeout_ms;
    int64_t most = s->kill_ms - PLAN_PER_LEVEL * (int64_t)v->def->depth;
    return s->kill_ms && most < at ? most : at;
}

void stop_signal(struct svc *v, int sig) {
    if (v->pid)
        kill(v->pid, sig);
    else if (v->group)
        kill(-v->group, SIGTERM);
}

void stop_kill(struct svc *v) {
    v->killed = true;
    if (v->group)
        kill(-v->group, SIGKILL);
    if (v->pid && v->pid != v->group)
        kill(v->pid, SIGKILL);
}

// What has to end the container: a failure, or that there is nothing left to do.
static void look_for_end(struct sup *s) {
    bool all_done = s->plan->main == s->plan->n;
    for (size_t i = 0; i < s->n; i++) {
        const struct svc *v = &s->svc[i];
        if (v->state == SVC_FAILED && !v->removed) {
            int code = v->signal ? 128 + v->signal : v->code > 0 ? v->code : EX_SOFTWARE;
            begin(s, v->unavailable ? EX_UNAVAILABLE : code, "%s %s: %s",
                  v->def->task ? "task" : "service", v->def->name, v->reason);
            return;
        }
        all_done &= v->state == SVC_DONE;
    }
    if (all_done)
        begin(s, 0, "all tasks are done");
}

static bool any_alive(const struct sup *s) {
    for (size_t i = 0; i < s->n; i++)
        if (svc_alive(s->svc[i].state))
            return true;
    return false;
}

// Signals every child of ours but the logger, by the kernel's list; how many there are. -1: there
// is no such list.
static int signal_children(struct sup *s, int sig) {
    int fd = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    char text[4096];
    int count = 0;
    pid_t pid = 0;
    ssize_t n;
    while ((n = read(fd, text, sizeof text)) > 0) {
        for (ssize_t i = 0; i < n; i++) {
            if (text[i] >= '0' && text[i] <= '9') {
                pid = pid * 10 + (text[i] - '0');
                continue;
            }
            if (pid && pid != s->log.pid && pid != s->forward.pid) {
                kill(pid, sig);
                count++;
            }
            pid = 0;
        }
    }
    close(fd);
    return count;
}

// Whether processes are left that are no service's: those that left their groups.
static bool rest_is_left(struct sup *s) {
    if (s->no_children)
        return false;
    int sig = s->rest_killed ? SIGKILL : SIGTERM;
    int count = signal_children(s, sig);
    if (count < 0 && getpid() == 1 && !s->log.pid)
        kill(-1, sig);
    s->scan_ms = count == 0 ? 0 : s->now_ms + SCAN_PAUSE;
    s->reaped = false;
    return count != 0;
}

// The reason for the end as the last line of the log and as Kubernetes shows it.
static void tell(struct sup *s) {
    char text[SUP_REASON + 64]; // more than both together
    int n = snprintf(text, sizeof text, "ends with %d: %s", s->code, s->reason);
    log_msg(s->code ? LOG_ERROR : LOG_NOTICE, "%s", text);
    int fd = open(s->plan->termination_log, O_WRONLY | O_TRUNC | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return;
    text[n++] = '\n';
    if (write(fd, text, n) < 0)
        log_debug("%s: not written", s->plan->termination_log);
    close(fd);
}

bool stop_settle(struct sup *s) {
    enum sup_phase before = s->phase;
    if (s->phase <= SUP_DRAINING)
        look_for_end(s);
    if (s->phase == SUP_STOPPING && !any_alive(s)) {
        enter(s, SUP_REST);
        s->reaped = true;
        if (!s->no_children)
            reap_all(s);
    }
    if (s->phase == SUP_REST && (s->no_children || (s->reaped && s->scan_ms <= s->now_ms)) &&
        !rest_is_left(s)) {
        enter(s, SUP_LOGS);
        s->scan_ms = 0;
        tell(s);
        logs_finish(s);
    }
    if (s->phase == SUP_LOGS && logs_gone(s))
        s->phase = SUP_GONE;
    return s->phase != before;
}

static void kill_all(struct sup *s) {
    log_warning("the grace time is over: what is left is killed");
    s->rest_killed = true;
    if (s->phase < SUP_STOPPING)
        enter(s, SUP_STOPPING);
    for (size_t i = 0; i < s->n; i++) {
        struct svc *v = &s->svc[i];
        if (!svc_alive(v->state))
            continue;
        v->cause = CAUSE_ASKED;
        if (v->state != SVC_STOPPING) {
            sup_because(v, "the grace time is over");
            sup_feed(s, v, SVC_STOP);
        }
        sup_feed(s, v, SVC_LATE);
    }
    if (s->phase == SUP_REST)
        rest_is_left(s);
}

void stop_timers(struct sup *s) {
    if (s->drain_ms && s->drain_ms <= s->now_ms)
        enter(s, SUP_STOPPING);
    if (s->scan_ms && s->scan_ms <= s->now_ms) {
        s->scan_ms = 0;
        if (s->rest_killed)
            s->reaped = true;
    }
    if (s->kill_ms && s->kill_ms <= s->now_ms) {
        s->kill_ms = 0;
        kill_all(s);
    }
    if (s->deadline_ms && s->deadline_ms <= s->now_ms && s->phase != SUP_GONE) {
        log_error("the grace time is over: leaving");
        if (s->phase < SUP_LOGS)
            tell(s);
        s->phase = SUP_GONE;
        logs_kill(s);
    }
}
