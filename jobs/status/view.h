// All that statusd knows at one moment.
#ifndef STATUS_VIEW_H
#define STATUS_VIEW_H

#include "base/arena.h"
#include "base/err.h"
#include "base/statusfile.h"
#include "status/figures.h"
#include "status/proc.h"
#include "status/state.h"

struct view_options {
    const char *run_dir;
    char *const *state_dirs;  // NULL-terminated
    const char *cgroup_root;  // "/sys/fs/cgroup"
    const char *instance;     // "" when not configured
    bool no_jobs, no_backups; // leave these out
    const char *role;         // of the configuration; that of a running civinit goes before it
};

struct view {
    struct arena arena;
    const char *instance, *role;
    int64_t now_ms;
    bool running;       // a civinit is there: `status` is valid
    struct err why_not; // else
    struct statusfile status;
    struct proc_usage *usage; // one per service of status, and a last one: civinit and strays
    struct figures figures;
    struct state state;
};

// Looks at everything. -1 only when memory runs out. ret is the caller's to end with view_free.
int view_take(const struct view_options *o, struct view *ret, struct err *e);
void view_free(struct view *v);

// The name that a view's usage goes by: a service's, or "civinit" for the last one.
const char *view_name(const struct view *v, size_t i);

// Whether the container accepts work; whether its process 1 is there and well.
bool view_ready(const struct view *v);
bool view_live(const struct view *v);

// One line per service ("[+] apache ready"), as the kubelet's own health checks print them, and
// the verdict.
struct buf;
void view_verbose(const struct view *v, bool good, struct buf *out);

// /status
void view_json(const struct view *v, struct buf *out);

#endif
