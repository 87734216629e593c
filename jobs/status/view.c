#include "status/view.h"

#include "base/clock.h"
#include "base/text.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sysexits.h>

static int take_usage(struct view *v, struct err *e) {
    size_t n = v->running ? v->status.n : 0;
    pid_t *pids = arena_alloc(&v->arena, sizeof *pids * (n + 1));
    v->usage = arena_alloc(&v->arena, sizeof *v->usage * (n + 1));
    if (!pids || !v->usage)
        return err_set(e, EX_OSERR, "out of memory");
    for (size_t i = 0; i < n; i++)
        pids[i] = (pid_t)v->status.services[i].pid;
    pids[n] = v->running ? (pid_t)v->status.pid : 0;
    return proc_usage(pids, n + 1, v->usage) < 0 ? err_set(e, EX_OSERR, "out of memory") : 0;
}

static bool alive(int64_t pid) {
    return pid > 0 && (kill((pid_t)pid, 0) == 0 || errno == EPERM);
}

// What a container before this one left is nothing of ours, and a process that was killed did not
// tell that it is not connected any more.
static void check_forward(struct view *v) {
    struct state_forward *f = v->state.forward;
    if (!f)
        return;
    if (!v->running || f->updated_ms < v->status.started_ms)
        v->state.forward = NULL;
    f->connected = f->connected && alive(f->pid);
}

int view_take(const struct view_options *o, struct view *ret, struct err *e) {
    struct view v = {.now_ms = clock_wall_ms(), .instance = o->instance ? o->instance : ""};
    v.running = statusfile_read(o->run_dir, &v.status, &v.why_not) == 0;
    v.role = v.running && *v.status.role ? v.status.role : o->role;
    figures_read(o->cgroup_root, "/proc/self/cgroup", &v.figures);
    state_read(
        &(struct state_options){o->state_dirs, o->run_dir, v.instance, !o->no_jobs, !o->no_backups},
        &v.arena, &v.state);
    check_forward(&v);
    if (take_usage(&v, e) < 0) {
        view_free(&v);
        return -1;
    }
    *ret = v;
    return 0;
}

void view_free(struct view *v) {
    if (v->running)
        statusfile_free(&v->status);
    arena_free(&v->arena);
    v->running = false;
}

const char *view_name(const struct view *v, size_t i) {
    return v->running && i < v->status.n ? v->status.services[i].name : "civinit";
}

bool view_ready(const struct view *v) {
    return view_live(v) && strcmp(v->status.state, "ready") == 0;
}

bool view_live(const struct view *v) {
    return v->running && alive(v->status.pid);
}

void view_verbose(const struct view *v, bool good, struct buf *out) {
    for (size_t i = 0; v->running && i < v->status.n; i++) {
        const struct statusfile_service *s = &v->status.services[i];
        bool fine = strcmp(s->state, "ready") == 0 || strcmp(s->state, "done") == 0;
        const char *why = *s->reason || fine ? s->reason : s->status;
        buf_printf(out, "[%c] %s %s%s%s\n", fine ? '+' : '-', s->name, s->state, *why ? ": " : "",
                   why);
    }
    if (!v->running)
        buf_printf(out, "%s\n", v->why_not.text);
    else
        buf_printf(out, "container %s%s%s\n", v->status.state, *v->status.reason ? ": " : "",
                   v->status.reason);
    buf_str(out, good ? "ok\n" : "failed\n");
}
