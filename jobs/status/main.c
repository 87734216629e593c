// civinit-statusd: what happens in the container, for kubelets, Prometheus and people.
#include "base/clock.h"
#include "base/log.h"
#include "conf/conf.h"
#include "status/history.h"
#include "status/metrics.h"
#include "status/push.h"
#include "status/report.h"
#include "status/server.h"
#include "status/trim.h"
#include "status/view.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sysexits.h>
#include <unistd.h>

static const char usage_text[] =
    "usage: civinit-statusd [--config ROLE|FILE] [--listen HOST:PORT]    serve until SIGTERM\n"
    "       civinit-statusd [--config ROLE|FILE] --push-once | --textfile FILE | --print\n"
    "       civinit-statusd report [--config ROLE|FILE] [--json]\n"
    "\n"
    "  /livez /readyz [?verbose]   for probes\n"
    "  /metrics                    OpenMetrics for Prometheus\n"
    "  /status                     JSON\n"
    "\n"
    "  --push-once       push the figures of jobs and backups to [status] push, and end\n"
    "  --textfile FILE   write them for node exporter's textfile collector, and end\n"
    "  --print           print all metrics, and end\n"
    "  report            what requests and limits should be, from what was used so far\n"
    "  --help  --version\n";

enum {
    UNWATCHED_MS = 60000, // without a scrape for so long, a sample is taken
    SAVE_MS = 300000,     // between two writes of the history
};

struct app {
    struct conf conf;
    struct view_options options;
    const char *listen, *push, *textfile, *history_path;
    bool print, push_once, textfile_once, report, json;
    struct history history;
    int64_t looked_ms, saved_ms; // monotonic: the last sample or scrape, the last write
    bool save_failed;
};

static void save(struct app *a) {
    struct err e;
    a->saved_ms = clock_mono_ms();
    bool failed = history_write(&a->history, a->history_path, &e) < 0;
    if (failed && !a->save_failed) // once, not every five minutes
        log_warning("the history is kept in memory only: %s", e.text);
    a->save_failed = failed;
}

static int look(struct app *a, struct view *v, struct err *e) {
    if (view_take(&a->options, v, e) < 0)
        return -1;
    a->looked_ms = clock_mono_ms();
    history_steady_cpu(&a->history, v);
    history_add(&a->history, v, a->looked_ms);
    if (a->looked_ms - a->saved_ms >= SAVE_MS)
        save(a);
    return 0;
}

static void respond(void *arg, struct server_exchange *x) {
    struct app *a = arg;
    struct view v;
    struct err e;
    if (look(a, &v, &e) < 0) {
        x->status = 500;
        buf_printf(&x->body, "%s\n", e.text);
        return;
    }
    bool live = view_live(&v), ready = view_ready(&v);
    if (strcmp(x->path, "/livez") == 0 || strcmp(x->path, "/readyz") == 0) {
        bool good = x->path[1] == 'l' ? live : ready;
        x->status = good ? 200 : 503;
        if (x->verbose || !good)
            view_verbose(&v, good, &x->body);
        else
            buf_str(&x->body, "ok\n");
    } else if (strcmp(x->path, "/metrics") == 0) {
        x->type = x->openmetrics ? METRICS_OPEN_TYPE : METRICS_TEXT_TYPE;
        metrics_write(&v, x->openmetrics, &x->body);
    } else if (strcmp(x->path, "/status") == 0) {
        x->type = "application/json";
        view_json(&v, &x->body);
    } else if (strcmp(x->path, "/") == 0) {
        buf_str(&x->body, "civinit-statusd " CIVINIT_VERSION "\n/livez /readyz /metrics /status\n");
    } else {
        x->status = 404;
        buf_str(&x->body, "not here: /livez /readyz /metrics /status\n");
    }
    view_free(&v);
}

static bool has_section(const struct app *a, const char *section) {
    for (size_t i = 0; i < a->conf.nsections; i++)
        if (strcmp(a->conf.sections[i].section, section) == 0)
            return true;
    return false;
}

// Which of them this role is for; one that names neither may be for both.
static bool is_for_jobs(const struct app *a) {
    return has_section(a, "jobs") || has_section(a, "job") || !has_section(a, "backup");
}

static bool is_for_backups(const struct app *a) {
    return has_section(a, "backup") || (!has_section(a, "jobs") && !has_section(a, "job"));
}

// Leaves what outlives the container where somebody finds it: only this role's, as pods may share
// their state folder, and an older copy of another's figures must not be left beside its own.
static int hand_over(struct app *a) {
    struct view v;
    struct err e;
    int code = 0;
    if (!a->push && !a->textfile)
        return 0;
    struct view_options o = a->options;
    o.no_jobs = !is_for_jobs(a);
    o.no_backups = !is_for_backups(a);
    if (view_take(&o, &v, &e) < 0) {
        log_error("%s", e.text);
        return e.code;
    }
    if (a->textfile && push_textfile(&v, a->textfile, &e) < 0) {
        log_error("textfile: %s", e.text);
        code = e.code;
    }
    if (a->push && push_url(&v, a->push, &e) < 0) {
        log_error("%s", e.text);
        code = e.code;
    }
    view_free(&v);
    return code;
}

static int next_ms(const struct app *a, const struct server *server) {
    int64_t left = a->looked_ms + UNWATCHED_MS - clock_mono_ms();
    int connections = server_timeout_ms(server);
    int ms = left > 0 ? (int)left : 0;
    return connections >= 0 && connections < ms ? connections : ms;
}

// When nobody asks, a sample now and then keeps the history going.
static void watch(struct app *a) {
    struct view v;
    struct err e;
    if (clock_mono_ms() - a->looked_ms < UNWATCHED_MS)
        return;
    if (look(a, &v, &e) == 0)
        view_free(&v);
    else
        a->looked_ms = clock_mono_ms();
}

static void loop(struct app *a, struct server *server, int signals) {
    struct pollfd fds[2] = {{.fd = signals, .events = POLLIN},
                            {.fd = server_fd(server), .events = POLLIN}};
    do {
        int n = poll(fds, 2, next_ms(a, server));
        if (n < 0 && errno != EINTR)
            break;
        server_run(server);
        watch(a);
    } while (!(fds[0].revents & POLLIN));
}

static int serve(struct app *a, struct err *e) {
    sigset_t mask;
    struct server *server;
    struct err ignored;
    sigemptyset(&mask);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGINT);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    int signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals < 0)
        return err_errno(e, EX_OSERR, "signalfd");
    if (server_start(a->listen, respond, a, &server, e) < 0) {
        close(signals);
        return -1;
    }
    if (access(a->history_path, F_OK) == 0 &&
        history_read(&a->history, a->history_path, &ignored) < 0)
        log_warning("a new history begins: %s", ignored.text);
    log_info("listening on port %d", server_port(server));
    trim_mappings();
    a->looked_ms = a->saved_ms = clock_mono_ms();
    loop(a, server, signals);
    server_stop(server);
    close(signals);
    if (a->history.seconds)
        save(a);
    return 0;
}

static int put(const struct buf *b, struct err *e) {
    if (b->failed || fwrite(b->data, 1, b->len, stdout) != b->len || fflush(stdout) != 0)
        return err_errno(e, EX_IOERR, "standard output");
    return 0;
}

static int report(struct app *a, struct err *e) {
    struct view v;
    autobuf struct buf b = {0};
    if (history_read(&a->history, a->history_path, e) < 0)
        return err_wrap(e, "no history (it is written by civinit-statusd every five minutes)");
    if (view_take(&a->options, &v, e) < 0)
        return -1;
    (a->json ? report_json : report_text)(&a->history, &v, &b);
    view_free(&v);
    return put(&b, e);
}

static int print(struct app *a, struct err *e) {
    struct view v;
    autobuf struct buf b = {0};
    if (view_take(&a->options, &v, e) < 0)
        return -1;
    metrics_write(&v, false, &b);
    view_free(&v);
    return put(&b, e);
}

// Where jobs and backups leave their state, unless [status] state_dirs names the folders.
static void default_dirs(struct app *a) {
    static char *dirs[3];
    size_t n = 0;
    if (is_for_jobs(a))
        dirs[n++] = (char *)conf_text(&a->conf, "jobs", "", "state_dir", "/var/lib/civinit");
    const char *backup = conf_text(&a->conf, "backup", "", "state_dir", "/var/lib/civinit");
    if (is_for_backups(a) && (!n || strcmp(backup, dirs[0]) != 0))
        dirs[n++] = (char *)backup;
    dirs[n] = NULL;
    a->options.state_dirs = dirs;
}

// For the report: the configuration of the civinit that runs here.
static const char *running_config(struct app *a) {
    struct statusfile s;
    if (statusfile_read(statusfile_run_dir(), &s, NULL) < 0)
        return NULL;
    const char *config =
        *s.config && access(s.config, R_OK) == 0 ? arena_text(&a->conf.arena, s.config) : NULL;
    statusfile_free(&s);
    return config;
}

// A text of [status]; NULL also when it is empty.
static const char *given(const struct app *a, const char *key) {
    const char *text = conf_text(&a->conf, "status", "", key, "");
    return *text ? text : NULL;
}

// "/etc/civinit/backup.ini" is the configuration of the role "backup".
static const char *role_of(struct app *a, const char *config) {
    const char *slash = strrchr(config, '/'), *name = slash ? slash + 1 : config;
    const char *dot = strrchr(name, '.');
    return arena_printf(&a->conf.arena, "%.*s", (int)(dot ? dot - name : (long)strlen(name)), name);
}

static int configure(struct app *a, const char *config, struct err *e) {
    static const char *const used[] = {"container", "status", "jobs", "backup", NULL};
    const char *root = getenv("CIVINIT_CGROUP_ROOT"), *run_dir = getenv("CIVINIT_RUN_DIR");
    if (!config && a->report)
        config = running_config(a);
    if (config) {
        const char *path = conf_path(&a->conf, config);
        if (!path)
            return err_set(e, EX_OSERR, "out of memory");
        if (conf_load_strict(&a->conf, path, used, e) < 0)
            return -1;
    }
    const char *dir = conf_text(&a->conf, "container", "", "run_dir", "/run/civinit");
    a->options.run_dir = run_dir && *run_dir ? run_dir : dir;
    a->options.role = config ? role_of(a, config) : "";
    a->options.cgroup_root = root ? root : "/sys/fs/cgroup";
    a->options.instance = conf_text(&a->conf, "container", "", "instance", "");
    a->options.state_dirs = conf_list(&a->conf, "status", "", "state_dirs");
    if (!a->options.state_dirs || !a->options.state_dirs[0])
        default_dirs(a);
    if (!a->listen)
        a->listen = conf_text(&a->conf, "status", "", "listen", ":9180");
    a->push = given(a, "push");
    a->history_path = given(a, "history");
    if (!a->history_path)
        a->history_path = arena_printf(&a->conf.arena, "%s/history", a->options.run_dir);
    if (!a->options.role || !a->history_path || history_init(&a->history, clock_wall_ms()) < 0)
        return err_set(e, EX_OSERR, "out of memory");
    if (!a->textfile)
        a->textfile = given(a, "textfile");
    return 0;
}

static int read_line(int argc, char **argv, struct app *a, const char **ret_config, struct err *e) {
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"listen", required_argument, NULL, 'l'},
        {"push-once", no_argument, NULL, 'p'},
        {"textfile", required_argument, NULL, 't'},
        {"print", no_argument, NULL, 'P'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {NULL, 0, NULL, 0},
    };
    int c;
    opterr = 0;
    while ((c = getopt_long(argc, argv, "hV", options, NULL)) != -1)
        switch (c) {
        case 'c':
            *ret_config = optarg;
            break;
        case 'l':
            a->listen = optarg;
            break;
        case 'p':
            a->push_once = true;
            break;
        case 't':
            a->textfile = optarg;
            a->textfile_once = true;
            break;
        case 'P':
            a->print = true;
            break;
        case 'j':
            a->json = true;
            break;
        case 'h':
            fputs(usage_text, stdout);
            exit(0);
        case 'V':
            puts("civinit-statusd " CIVINIT_VERSION);
            exit(0);
        default:
            return err_set(e, EX_USAGE, "unknown or incomplete option; see --help");
        }
    if (optind < argc && strcmp(argv[optind], "report") == 0) {
        a->report = true;
        optind++;
    }
    if (optind < argc)
        return err_set(e, EX_USAGE, "\"%s\" is not expected; see --help", argv[optind]);
    return 0;
}

static int run(struct app *a, struct err *e) {
    if (a->report)
        return report(a, e);
    if (a->print)
        return print(a, e);
    if (a->push_once && !a->push)
        return err_set(e, EX_CONFIG, "[status] push is missing");
    if (a->textfile_once && !a->push_once)
        a->push = NULL;
    if (!a->push_once && !a->textfile_once && serve(a, e) < 0)
        return -1;
    return hand_over(a);
}

int main(int argc, char **argv) {
    struct app a = {0};
    struct err e = {0};
    const char *config = NULL;
    log_init("civinit-statusd");
    signal(SIGPIPE, SIG_IGN);
    int rc = read_line(argc, argv, &a, &config, &e);
    if (rc == 0)
        rc = configure(&a, config, &e);
    if (rc == 0)
        rc = run(&a, &e);
    if (rc < 0)
        log_error("%s", e.text);
    history_free(&a.history);
    conf_free(&a.conf);
    return rc < 0 ? e.code : rc;
}
