#include "run/launch.h"

#include "base/clock.h"
#include "base/log.h"
#include "run/logs.h"
#include "run/loop.h"
#include "run/notify.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

int launch(struct sup *s, struct svc *v) {
    const struct plan_service *d = v->def;
    struct spawn_fd fds[3];
    size_t nfds = 0;
    struct err e;
    int ready = -1;
    if (notify_open(s, v, &ready, &e) < 0)
        goto failed;
    if (v->out[1] >= 0) {
        fds[nfds++] = (struct spawn_fd){v->out[1], 1};
        fds[nfds++] = (struct spawn_fd){v->err[1], 2};
    }
    if (ready >= 0)
        fds[nfds++] = (struct spawn_fd){ready, d->ready.fd};
    struct spawn spawn = {.argv = d->argv,
                          .envp = d->envp,
                          .cwd = d->cwd,
                          .set_user = d->set_user,
                          .uid = d->user.uid,
                          .gid = d->user.gid,
                          .groups = d->user.groups,
                          .ngroups = d->user.ngroups,
                          .rlimits = d->rlimits,
                          .nrlimits = d->nrlimits,
                          .set_nice = d->set_nice,
                          .nice = d->nice,
                          .set_oom_score_adj = d->set_oom_score_adj,
                          .oom_score_adj = d->oom_score_adj,
                          .set_umask = s->plan->set_umask,
                          .umask = s->plan->umask,
                          .fds = fds,
                          .nfds = nfds,
                          .session = true,
                          .patience_ms = SUP_PATIENCE_MS};
    pid_t pid;
    int rc = spawn_process(&spawn, &pid, &e);
    if (ready >= 0)
        close(ready);
    if (rc < 0)
        goto failed;
    v->pid = v->leader = v->group = pid;
    v->started_ms = s->now_ms;
    v->ready_at_ms = 0;
    v->killed = v->oom = v->unavailable = false;
    v->cause = CAUSE_NONE;
    s->no_children = false;
    logs_pid(s, d->name, pid);
    return 0;
failed:
    v->code = e.code;
    v->signal = 0;
    v->ready_at_ms = 0;
    sup_because(v, "cannot start: %s", e.text);
    return -1;
}
