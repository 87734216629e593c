#include "base/cleanup.h"
#include "base/log.h"
#include "base/statusfile.h"
#include "base/text.h"
#include "cli/cli.h"
#include "run/control.h"
#include "run/loop.h"
#include "run/sup.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sysexits.h>
#include <unistd.h>

static int take_options(int argc, char **argv, struct plan_options *o) {
    static const char *const options[] = {"--once", "--config", NULL};
    for (int i = 1; i < argc; i++) {
        int got = cli_value(o->role, "--config", argc, argv, &i, &o->config);
        if (got < 0)
            return EX_USAGE;
        if (got)
            continue;
        if (strcmp(argv[i], "--once") == 0) {
            o->once = true;
        } else if (strcmp(argv[i], "--") == 0) {
            o->words = argv + i + 1;
            break;
        } else {
            return cli_usage(o->role, argv[i], options);
        }
    }
    return 0;
}

// Nothing has that role's file: perhaps another was meant, or a subcommand.
static int no_role(const char *role, const char *path) {
    enum {
        MOST = 64
    };
    static const char *const verbs[] = {"check", "status",  "ready",  "live",   "start", "stop",
                                        "exec",  "restart", "reload", "report", "help"};
    const char *list[MOST + 1] = {0};
    char names[MOST][64], folder[4096];
    size_t n = 0;
    for (; n < sizeof verbs / sizeof *verbs; n++)
        list[n] = verbs[n];
    snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash)
        *slash = 0;
    DIR *d = opendir(folder);
    for (struct dirent *x; d && n < MOST && (x = readdir(d));) {
        size_t len = strlen(x->d_name);
        if (len <= 4 || len >= sizeof names[n] || strcmp(x->d_name + len - 4, ".ini") != 0)
            continue;
        snprintf(names[n], sizeof names[n], "%.*s", (int)len - 4, x->d_name);
        list[n] = names[n];
        n++;
    }
    if (d)
        closedir(d);
    const char *near = text_nearest(role, list);
    log_error(near ? "no role or command \"%s\" (there is no %s); did you mean \"%s\"?"
                   : "no role or command \"%s\" (there is no %s); see civinit --help",
              role, path, near);
    return EX_USAGE;
}

// Where Kubernetes shows why a container did not even begin: the problems too, not only their
// number.
static void tell_termination_log(const struct conf *c, const struct err *e) {
    autofile FILE *f =
        access("/dev/termination-log", W_OK) == 0 ? fopen("/dev/termination-log", "we") : NULL;
    for (size_t i = 0; f && c && i < c->nproblems; i++)
        fprintf(f, "%s\n", c->problems[i]);
    if (f)
        fprintf(f, "%s\n", e->text);
}

// The plan; -1: what is wrong has been told.
static int load(struct plan *p, struct plan_options *o, struct err *e) {
    struct conf c = {0};
    int rc = conf_load_strict(&c, o->config, plan_sections, e);
    if (rc == 0)
        rc = plan_make(p, &c, o, e);
    for (size_t i = 0; rc == 0 && i < c.nproblems; i++)
        log_error("%s", c.problems[i]);
    if (rc == 0 && c.nproblems)
        rc = err_set(e, EX_CONFIG, "%s: %zu problem%s in the configuration", o->config, c.nproblems,
                     c.nproblems == 1 ? "" : "s");
    if (rc < 0) {
        log_error("%s", e->text);
        tell_termination_log(&c, e);
    }
    conf_free(&c);
    return rc;
}

static int fail(const struct err *e) {
    log_error("%s", e->text);
    tell_termination_log(NULL, e);
    return e->code;
}

// Becomes the supervisor. The plan is the supervisor's from now on: a reload replaces it.
static int supervise(struct plan *p, const struct plan_options *o) {
    static struct sup s;
    struct err e;
    s.plan = p;
    if (control_taken(p->run_dir)) {
        err_set(&e, EX_TEMPFAIL, "another civinit runs with %s", p->run_dir);
        return fail(&e);
    }
    if (getpid() != 1)
        prctl(PR_SET_CHILD_SUBREAPER, 1);
    if (sup_init(&s, p, o, &e) < 0)
        return fail(&e);
    _exit(sup_run(&s)); // nothing is buffered, and nobody shall wait for the C library's farewell
}

int cli_run(int argc, char **argv) {
    struct plan_options o = {.role = argv[0]};
    static struct conf paths; // the path lives as long as we do
    struct err e;
    int rc = take_options(argc, argv, &o);
    if (rc)
        return rc;
    loop_block();
    if (o.once)
        setenv("CIVINIT_ONCE", "1", 1);
    const char *path = conf_path(&paths, o.config ? o.config : o.role);
    if (!path)
        return EX_OSERR;
    if (!o.config && access(path, F_OK) < 0)
        return no_role(o.role, path);
    o.config = path;
    struct plan *p = calloc(1, sizeof *p);
    if (!p)
        return EX_OSERR;
    if (load(p, &o, &e) == 0)
        return supervise(p, &o);
    plan_free(p);
    free(p);
    return e.code;
}
