#include "run/reap.h"

#include "base/log.h"
#include "base/text.h"
#include "core/verdict.h"
#include "run/logs.h"
#include "run/notify.h"
#include "run/oom.h"
#include "run/ready.h"
#include "run/stop.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <sysexits.h>

static struct verdict verdict_of(const struct sup *s, const struct svc *v) {
    const struct plan_service *d = v->def;
    return (struct verdict){
        .main = d->main,
        .asked = v->cause == CAUSE_ASKED || s->phase >= SUP_STOPPING,
        .failed_check = v->cause == CAUSE_UNHEALTHY || v->cause == CAUSE_NOT_READY,
        .never_ready = v->cause == CAUSE_NOT_READY && !v->def->task && !v->was_ready,
        .code = v->code,
        .signal = v->signal,
        .stop_signal = d->stop_signal,
        .success = d->success,
        .nsuccess = d->nsuccess,
        .policy = d->restart,
        .restarts = v->in_row,
        .max_restarts = d->max_restarts};
}

// "exited with 1 after 3.2s", "killed by signal 9 (KILL): out of memory".
static void describe_end(const struct sup *s, const struct svc *v, char *buf, size_t size) {
    char after[32];
    text_ms(s->now_ms - v->started_ms, after, sizeof after);
    if (v->signal)
        snprintf(buf, size, "killed by signal %d (%s) after %s%s", v->signal,
                 sigabbrev_np(v->signal) ? sigabbrev_np(v->signal) : "?", after,
                 v->oom ? ": out of memory" : "");
    else
        snprintf(buf, size, "exited with %d after %s", v->code, after);
}

// No process of the service is left: what follows. `how` is how it ended.
static void finish(struct sup *s, struct svc *v, const char *how) {
    struct verdict x = verdict_of(s, v);
    enum svc_event event = verdict_event(&x);
    char before[SUP_REASON];
    // A failed check is the reason, and how it then ended is not.
    snprintf(before, sizeof before, "%s", x.failed_check ? v->reason : how);
    // Then its code is the answer to our own signal, and says nothing.
    v->unavailable = x.failed_check;
    bool limit = event == SVC_GAVE_UP && !x.never_ready && x.policy != VERDICT_NEVER;
    sup_because(v, "%.*s%s", SUP_REASON - 80, before,
                limit ? v->def->task ? "; no try is left" : "; restart limit is used up" : "");
    bool again = event == SVC_AGAIN || (event == SVC_ENDED && v->wanted && s->phase < SUP_STOPPING);
    sup_feed(s, v, event);
    if (v->def->main && !again)
        stop_main_ended(s, v, verdict_code(&x));
}

static bool group_left(const struct svc *v) {
    return v->group && kill(-v->group, 0) == 0;
}

static void main_ended(struct sup *s, struct svc *v, int status) {
    char how[120];
    v->pid = 0;
    v->code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
    v->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    v->oom = v->signal == SIGKILL && !v->killed && oom_happened(s);
    s->dirty = true;
    describe_end(s, v, how, sizeof how);
    if (!group_left(v)) {
        finish(s, v, how);
        return;
    }
    if (v->cause == CAUSE_NONE)
        sup_because(v, "%s; it left processes of its group", how);
    sup_feed(s, v, SVC_LEFTOVER);
}

void reap_unborn(struct sup *s, struct svc *v) {
    char how[SUP_REASON];
    snprintf(how, sizeof how, "%s", v->reason);
    finish(s, v, how);
}

void reap_give_up(struct sup *s, struct svc *v) {
    char how[120];
    describe_end(s, v, how, sizeof how);
    log_warning("service %s: processes of its group do not end", v->def->name);
    finish(s, v, how);
}

static void ended(struct sup *s, pid_t pid, int status) {
    for (size_t i = 0; i < s->n; i++) {
        struct svc *v = &s->svc[i];
        if (v->leader == pid)
            v->leader = 0;
        // What it said before it ended is heard first: that another is the main process now.
        if (v->pid == pid && v->notify_fd >= 0)
            notify_read(s, i);
        if (v->pid == pid) {
            main_ended(s, v, status);
            return;
        }
        if (v->check == pid) {
            ready_check_ended(s, v, status);
            return;
        }
    }
    if (logs_ended(s, pid, status))
        return;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        oom_orphan(s, pid);
}

void reap_main_pid(struct sup *s, size_t index) {
    struct svc *v = index < s->n ? &s->svc[index] : NULL;
    if (!v || v->pid_fd < 0)
        return;
    pid_t pid = v->pid;
    notify_forget_main(v);
    reap_all(s);
    v = &s->svc[index];
    if (!v->pid || v->pid != pid)
        return; // it was our child
    if (v->leader) {
        log_notice("service %s: main process %d has ended; %d, which had started it, is it again",
                   v->def->name, pid, v->leader);
        v->pid = v->leader;
        s->dirty = true;
        if (v->state == SVC_STOPPING)
            stop_signal(v, v->def->stop_signal);
    } else {
        main_ended(s, v, W_EXITCODE(EX_SOFTWARE, 0)); // only its parent knows how
    }
}

// Services whose main process has ended while others of its group had not: have they now?
static void look_at_groups(struct sup *s) {
    for (size_t i = 0; i < s->n; i++) {
        struct svc *v = &s->svc[i];
        char how[120];
        if (v->state != SVC_STOPPING || v->pid || group_left(v))
            continue;
        describe_end(s, v, how, sizeof how);
        finish(s, v, how);
    }
}

void reap_all(struct sup *s) {
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        s->reaped = true;
        ended(s, pid, status);
    }
    s->no_children = pid < 0 && errno == ECHILD;
    look_at_groups(s);
}
