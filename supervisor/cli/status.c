#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/statusfile.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/usageof.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sysexits.h>
#include <unistd.h>

struct view {
    bool json, watch, colour;
    const char *run_dir;
    char **names; // NULL-terminated; empty: all
};

static bool shown(const struct view *w, const char *name) {
    for (char **n = w->names; *n; n++)
        if (strcmp(*n, name) == 0)
            return true;
    return !*w->names;
}

static const char *colour_of(const struct view *w, const char *state) {
    if (!w->colour)
        return "";
    return strcmp(state, "ready") == 0 || strcmp(state, "done") == 0       ? "\033[32m"
           : strcmp(state, "failed") == 0 || strcmp(state, "backoff") == 0 ? "\033[31m"
                                                                           : "\033[33m";
}

static void head(const struct view *w, const struct statusfile *f, struct buf *b) {
    char up[32];
    buf_printf(b, "%s: %s%s%s", f->role, colour_of(w, f->state), f->state,
               w->colour ? "\033[0m" : "");
    if (*f->reason)
        buf_printf(b, " (%s)", f->reason);
    buf_printf(b, ", up %s", text_ms(clock_wall_ms() - f->started_ms, up, sizeof up));
    if (*f->main)
        buf_printf(b, ", main service %s", f->main);
    if (f->oom_kills)
        buf_printf(b, ", %lld out-of-memory kills", (long long)f->oom_kills);
    buf_str(b, "\n");
}

// What is worth a reader's while: the reason, or what the service says of itself.
static const char *remark(const struct statusfile_service *v) {
    return *v->reason ? v->reason : v->status;
}

static void row(const struct view *w, const struct statusfile_service *v, int width,
                struct buf *b) {
    char age[32], cpu[32] = "-", memory[32] = "-", pid[24] = "-";
    struct usageof u;
    text_ms(clock_wall_ms() - v->since_ms, age, sizeof age);
    if (v->pid > 0)
        snprintf(pid, sizeof pid, "%lld", (long long)v->pid);
    if (v->pid > 0 && usageof(v->pid, &u) == 0) {
        text_ms(u.cpu_ms, cpu, sizeof cpu);
        text_bytes(u.rss_bytes, memory, sizeof memory);
    }
    buf_printf(b, "%-*s  %s%-8s%s  %7s  %8s  %8lld  %8s  %8s  %s\n", width, v->name,
               colour_of(w, v->state), v->state, w->colour ? "\033[0m" : "", pid, age,
               (long long)v->restarts, cpu, memory, remark(v));
}

static void table(const struct view *w, const struct statusfile *f, struct buf *b) {
    int width = 7;
    for (size_t i = 0; i < f->n; i++)
        if (shown(w, f->services[i].name) && (int)strlen(f->services[i].name) > width)
            width = (int)strlen(f->services[i].name);
    head(w, f, b);
    buf_printf(b, "%-*s  %-8s  %7s  %8s  %8s  %8s  %8s  %s\n", width, "SERVICE", "STATE", "PID",
               "SINCE", "RESTARTS", "CPU", "MEMORY", "REMARK");
    for (size_t i = 0; i < f->n; i++)
        if (shown(w, f->services[i].name))
            row(w, &f->services[i], width, b);
}

static void json(const struct view *w, const struct statusfile *f, struct buf *b) {
    const char *comma = "";
    buf_str(b, "{");
    statusfile_json(f, b);
    buf_str(b, ",\"services\":[");
    for (size_t i = 0; i < f->n; i++) {
        const struct statusfile_service *v = &f->services[i];
        struct usageof u;
        if (!shown(w, v->name))
            continue;
        buf_printf(b, "%s{", comma);
        comma = ",";
        statusfile_service_json(v, b);
        if (v->pid > 0 && usageof(v->pid, &u) == 0)
            buf_printf(b, ",\"cpu_ms\":%lld,\"rss_bytes\":%lld", (long long)u.cpu_ms,
                       (long long)u.rss_bytes);
        buf_str(b, "}");
    }
    buf_str(b, "]}\n");
}

// expected: that there is none any more is no error.
static int show(const struct view *w, bool expected) {
    struct statusfile f;
    struct err e;
    autobuf struct buf b = {0};
    if (statusfile_read(w->run_dir, &f, &e) < 0) {
        if (!expected || e.code != EX_UNAVAILABLE)
            log_error("%s", e.text);
        return e.code;
    }
    for (char **n = w->names; *n; n++) {
        if (statusfile_find(&f, *n))
            continue;
        log_error("there is no service or task \"%s\"", *n);
        statusfile_free(&f);
        return EX_USAGE;
    }
    if (w->watch && w->colour)
        buf_str(&b, "\033[H\033[2J");
    if (w->json)
        json(w, &f, &b);
    else
        table(w, &f, &b);
    statusfile_free(&f);
    if (b.failed)
        return EX_OSERR;
    fputs(b.data, stdout);
    return fflush(stdout) == 0 ? 0 : EX_IOERR;
}

// Again at each change, and on a terminal each second for the times; until the container ends.
static int watch(const struct view *w) {
    bool seen = false;
    autoclose int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    inotify_add_watch(fd, w->run_dir, IN_MOVED_TO | IN_DELETE);
    for (;;) {
        char drop[4096];
        int rc = show(w, seen);
        if (rc)
            return seen && rc == EX_UNAVAILABLE ? 0 : rc;
        seen = true;
        struct pollfd p = {.fd = fd, .events = POLLIN};
        poll(&p, 1, w->colour ? 1000 : -1);
        while (read(fd, drop, sizeof drop) > 0)
            ;
    }
}

int cli_status(int argc, char **argv) {
    static const char *const options[] = {"--json", "--watch", "--run-dir", NULL};
    struct view w = {.run_dir = statusfile_run_dir(), .names = argv + argc};
    int names = argc;
    for (int i = 1; i < argc && names == argc; i++) {
        int got = cli_value(argv[0], "--run-dir", argc, argv, &i, &w.run_dir);
        if (got < 0)
            return EX_USAGE;
        if (got)
            continue;
        if (strcmp(argv[i], "--json") == 0)
            w.json = true;
        else if (strcmp(argv[i], "--watch") == 0)
            w.watch = true;
        else if (argv[i][0] == '-')
            return cli_usage(argv[0], argv[i], options);
        else
            names = i;
    }
    w.names = argv + names;
    w.colour = !w.json && isatty(1) && !getenv("NO_COLOR");
    return w.watch ? watch(&w) : show(&w, false);
}
