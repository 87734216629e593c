#include "run/ready.h"

#include "base/log.h"
#include "base/text.h"
#include "run/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    FIRST_PAUSE = 50, // between two tries of exec:COMMAND
    LAST_PAUSE = 1000,
    LEEWAY = 2000, // a probe that gives up itself says why; only then it is cut off
};

// What it prints goes into a pipe that never blocks it; the last line is the reason it gives.
static int start(struct svc *v, const struct plan_check *k, struct err *e) {
    const struct plan_service *d = v->def;
    int p[2];
    if (pipe2(p, O_CLOEXEC | O_NONBLOCK) < 0)
        return err_errno(e, 71, "pipe");
    struct spawn_fd fds[] = {{p[1], 1}, {p[1], 2}};
    struct spawn spawn = {
        .argv = k->argv, .fds = fds, .nfds = 2, .session = true, .patience_ms = SUP_PATIENCE_MS};
    if (k->kind == CHECK_EXEC) {
        spawn.envp = d->envp;
        spawn.cwd = d->cwd;
        spawn.set_user = d->set_user;
        spawn.uid = d->user.uid;
        spawn.gid = d->user.gid;
        spawn.groups = d->user.groups;
        spawn.ngroups = d->user.ngroups;
    }
    int rc = spawn_process(&spawn, &v->check, e);
    close(p[1]);
    if (rc < 0) {
        close(p[0]);
        v->check = 0;
        return -1;
    }
    v->check_fd = p[0];
    v->check_late = v->check_said = false;
    return 0;
}

// The last line that the check printed, into out; false: it has printed nothing since.
static bool last_line(struct svc *v, char *out, size_t size, bool *ret_end) {
    char text[2048];
    size_t len = 0;
    ssize_t n = -1;
    // As much as the buffer holds; more is dropped from its front.
    while (v->check_fd >= 0 && (n = read(v->check_fd, text + len, sizeof text - 1 - len)) > 0) {
        len += n;
        if (len > sizeof text / 2) {
            memmove(text, text + len - sizeof text / 4, sizeof text / 4);
            len = sizeof text / 4;
        }
    }
    text[len] = 0;
    while (len && (text[len - 1] == '\n' || text[len - 1] == ' '))
        text[--len] = 0;
    const char *line = strrchr(text, '\n') ? strrchr(text, '\n') + 1 : text;
    const char *said = strstr(line, ": error: "), *told = strstr(line, ": notice: ");
    *ret_end = n == 0;
    if (!len)
        return false;
    snprintf(out, size, "%s", said ? said + 9 : told ? told + 10 : line);
    return true;
}

// What the check said last, into v->reason.
static void last_words(struct svc *v) {
    char text[SUP_REASON];
    bool end;
    bool new = last_line(v, text, sizeof text, &end);
    sup_because(v, "%s", new ? text : v->check_said ? v->waits : "");
}

void ready_check_said(struct sup *s, size_t index) {
    struct svc *v = index < s->n ? &s->svc[index] : NULL;
    bool end;
    if (!v || v->check_fd < 0 || v->state != SVC_STARTING)
        return;
    if (last_line(v, v->waits, sizeof v->waits, &end))
        s->dirty = v->check_said = true;
    if (end)
        loop_ignore(s, v->check_fd);
}

static void not_ready(struct sup *s, struct svc *v) {
    char why[SUP_REASON];
    snprintf(why, sizeof why, "%s", v->reason);
    sup_because(v, "not ready: %s", *why ? why : "its check says no");
    v->cause = CAUSE_NOT_READY;
    sup_feed(s, v, SVC_STOP);
}

void ready_begin(struct sup *s, struct svc *v) {
    const struct plan_check *k = &v->def->ready;
    int64_t leeway = k->kind == CHECK_PROBE ? LEEWAY : 0;
    struct err e;
    if (v->def->task || k->kind != CHECK_NONE)
        v->timer_ms = s->now_ms + v->def->ready_timeout_ms + leeway;
    if (v->def->task)
        return;
    if (k->kind == CHECK_NONE) {
        sup_feed(s, v, SVC_IS_READY);
    } else if (k->kind == CHECK_PROBE || k->kind == CHECK_EXEC) {
        v->check_pause_ms = FIRST_PAUSE;
        if (start(v, k, &e) < 0) {
            sup_because(v, "%s", e.text);
            not_ready(s, v);
        } else {
            loop_watch(s, v->check_fd, LOOP_CHECK, v - s->svc);
        }
    }
}

void ready_watch_health(struct sup *s, struct svc *v) {
    v->unhealthy = 0;
    if (v->def->health.kind != CHECK_NONE)
        v->check_ms = s->now_ms + v->def->health_interval_ms;
}

void ready_anew(struct sup *s, struct svc *v) {
    int64_t next = s->now_ms + v->def->health_interval_ms;
    bool other = v->check_anew && (v->state == SVC_STARTING || v->state == SVC_READY);
    v->check_anew = false;
    if (other) { // what the one before found says nothing of this one
        ready_cancel(v);
        v->unhealthy = 0;
        *v->reason = 0;
    }
    if (other && v->state == SVC_STARTING)
        ready_begin(s, v);
    else if (v->state == SVC_READY && v->def->health.kind != CHECK_NONE && !v->check &&
             (!v->check_ms || v->check_ms > next))
        v->check_ms = next;
}

void ready_late(struct sup *s, struct svc *v) {
    char text[32], why[SUP_REASON];
    if (v->check && !*v->reason)
        last_words(v);
    snprintf(why, sizeof why, "%s", v->reason);
    sup_because(v, "not ready within %s%s%s", text_ms(v->def->ready_timeout_ms, text, sizeof text),
                *why ? ": " : "", why);
    v->cause = CAUSE_NOT_READY;
    sup_feed(s, v, SVC_STOP);
}

static void health_ended(struct sup *s, struct svc *v, bool well) {
    v->check_ms = s->now_ms + v->def->health_interval_ms;
    if (well) {
        s->dirty |= v->unhealthy != 0;
        v->unhealthy = 0;
        *v->reason = 0;
        return;
    }
    s->dirty = true;
    v->unhealthy++;
    log_warning("service %s: health check %s failed (%lld of %lld): %s", v->def->name,
                v->def->health.text, (long long)v->unhealthy, (long long)v->def->health_failures,
                v->reason);
    if (v->unhealthy < v->def->health_failures)
        return;
    char why[SUP_REASON];
    snprintf(why, sizeof why, "%s", v->reason);
    sup_because(v, "unhealthy: %s", why);
    v->cause = CAUSE_UNHEALTHY;
    sup_feed(s, v, SVC_STOP);
}

void ready_check_ended(struct sup *s, struct svc *v, int status) {
    bool well = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    v->check = 0;
    v->check_ms = 0;
    if (!well)
        last_words(v);
    if (!well && v->check_late)
        sup_because(v, "no answer in time");
    else if (!well && !*v->reason && WIFSIGNALED(status))
        sup_because(v, "its check was killed by signal %d", WTERMSIG(status));
    else if (!well && !*v->reason)
        sup_because(v, "its check exited with %d", WEXITSTATUS(status));
    if (v->check_fd >= 0)
        close(v->check_fd);
    v->check_fd = -1;
    if (v->state == SVC_READY) {
        health_ended(s, v, well);
    } else if (v->state == SVC_STARTING && well) {
        *v->reason = 0;
        sup_feed(s, v, SVC_IS_READY);
    } else if (v->state == SVC_STARTING && v->def->ready.kind == CHECK_EXEC) {
        s->dirty |= strcmp(v->waits, v->reason) != 0;
        snprintf(v->waits, sizeof v->waits, "%s", v->reason);
        v->check_ms = s->now_ms + v->check_pause_ms;
        v->check_pause_ms = v->check_pause_ms * 2 < LAST_PAUSE ? v->check_pause_ms * 2 : LAST_PAUSE;
    } else if (v->state == SVC_STARTING) {
        not_ready(s, v);
    }
}

void ready_timer(struct sup *s, struct svc *v) {
    struct err e;
    v->check_ms = 0;
    if (v->check) {
        v->check_late = true;
        kill(-v->check, SIGKILL);
        return;
    }
    bool health = v->state == SVC_READY;
    if (start(v, health ? &v->def->health : &v->def->ready, &e) < 0) {
        // Our own trouble (no descriptors, no processes) is not the service's: try again later.
        log_warning("service %s: cannot run its check: %s", v->def->name, e.text);
        v->check_ms = s->now_ms + LAST_PAUSE;
        return;
    }
    if (health)
        v->check_ms = s->now_ms + v->def->health_timeout_ms +
                      (v->def->health.kind == CHECK_PROBE ? LEEWAY : 0);
}

void ready_cancel(struct svc *v) {
    if (v->check)
        kill(-v->check, SIGKILL);
    if (v->check_fd >= 0)
        close(v->check_fd);
    if (v->ready_fd >= 0)
        close(v->ready_fd);
    v->check = 0;
    v->check_fd = v->ready_fd = -1;
    v->check_ms = 0;
}
