#include "run/logs.h"

#include "base/log.h"
#include "run/errout.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

enum {
    FIRST_PAUSE = 100,
    LAST_PAUSE = 10000,
    FIXED_WORDS = 10, // of civinit-log's command line
    WORD = 320,       // longest word of it
};

static const char *format_name(enum plan_log log) {
    static const char *const names[] = {"text", "text", "json", "logfmt"};
    return names[log];
}

static int make_pipe(int p[2]) {
    if (p[0] >= 0)
        return 0;
    return pipe2(p, O_CLOEXEC);
}

static int pipes_of(struct svc *v) {
    if (v->def->log == PLAN_INHERIT)
        return 0;
    return make_pipe(v->out) < 0 || make_pipe(v->err) < 0 ? -1 : 0;
}

// Room for the command line and the descriptors of civinit-log.
static int words_room(struct sup *s) {
    size_t words = FIXED_WORDS + 4 * (s->n + 1);
    free(s->log_argv);
    free(s->log_fds);
    s->log_argv = calloc(1, (words + 1) * sizeof *s->log_argv + words * WORD);
    s->log_fds = calloc(2 * s->n + 4, sizeof *s->log_fds);
    return s->log_argv && s->log_fds ? 0 : -1;
}

int logs_init(struct sup *s, struct err *e) {
    bool used = s->plan->log != PLAN_INHERIT;
    for (size_t i = 0; i < s->n; i++) {
        used |= s->svc[i].def->log != PLAN_INHERIT;
        if (pipes_of(&s->svc[i]) < 0)
            return err_errno(e, EX_OSERR, "pipes for the log");
    }
    if (!used)
        return 0;
    s->log.name = "civinit-log";
    spawn_sibling(s->log.name, s->log.path, sizeof s->log.path);
    if (words_room(s) < 0 || make_pipe(s->log_control) < 0 ||
        (s->plan->log != PLAN_INHERIT && make_pipe(s->own_log) < 0) ||
        (s->plan->forward && make_pipe(s->records) < 0))
        return err_errno(e, EX_OSERR, "pipes for the log");
    fcntl(s->log_control[1], F_SETFL, O_NONBLOCK);
    if (s->own_log[1] >= 0) {
        fcntl(s->own_log[1], F_SETFL, O_NONBLOCK);
        log_to(s->own_log[1]);
    }
    if (s->plan->forward) {
        s->forward.name = "civinit-forward";
        spawn_sibling(s->forward.name, s->forward.path, sizeof s->forward.path);
    }
    return 0;
}

// One more word, formatted, behind the others.
__attribute__((format(printf, 3, 4))) static void word(struct sup *s, size_t *n, const char *fmt,
                                                       ...) {
    size_t words = FIXED_WORDS + 4 * (s->n + 1);
    char *to = (char *)(s->log_argv + words + 1) + *n * WORD;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(to, WORD, fmt, ap);
    va_end(ap);
    s->log_argv[(*n)++] = to;
    s->log_argv[*n] = NULL;
}

static void stream(struct sup *s, size_t *words, size_t *fds, const char *name, const char *kind,
                   int fd, enum plan_log format) {
    word(s, words, "--stream");
    word(s, words, "%s:%s:%d:%s", name, kind, fd, format_name(format));
    s->log_fds[(*fds)++] = (struct spawn_fd){fd, fd};
}

static void start(struct sup *s, struct aide *a, const struct spawn *spawn) {
    struct err e;
    a->again_ms = 0;
    a->started_ms = s->now_ms;
    if (spawn_process(spawn, &a->pid, &e) == 0) {
        s->no_children = false;
        return;
    }
    a->pid = 0;
    a->backoff_ms = a->backoff_ms ? a->backoff_ms * 2 : FIRST_PAUSE;
    a->backoff_ms = a->backoff_ms < LAST_PAUSE ? a->backoff_ms : LAST_PAUSE;
    a->again_ms = s->phase < SUP_LOGS ? s->now_ms + a->backoff_ms : 0;
    errout_use(s); // nobody reads our pipe now
    log_error("%s does not start: %s", a->name, e.text);
}

// A new civinit-log knows nobody; what was said to the one before it is gone.
static void tell_pids(struct sup *s) {
    logs_pid(s, "civinit", getpid());
    for (size_t i = 0; i < s->n; i++)
        if (s->svc[i].pid)
            logs_pid(s, s->svc[i].def->name, s->svc[i].pid);
}

static void start_log(struct sup *s) {
    size_t words = 0, fds = 0;
    tell_pids(s);
    word(s, &words, "%s", s->log.path);
    word(s, &words, "--format");
    word(s, &words, "%s", format_name(s->plan->log));
    word(s, &words, "--control");
    word(s, &words, "%d", s->log_control[0]);
    s->log_fds[fds++] = (struct spawn_fd){s->log_control[0], s->log_control[0]};
    if (s->plan->forward) {
        word(s, &words, "--records");
        word(s, &words, "%d", s->records[1]);
        s->log_fds[fds++] = (struct spawn_fd){s->records[1], s->records[1]};
        if (!s->plan->forward_stdout)
            word(s, &words, "--no-stdout");
    }
    if (s->own_log[0] >= 0)
        stream(s, &words, &fds, "civinit", "stderr", s->own_log[0], s->plan->log);
    for (size_t i = 0; i < s->n; i++) {
        struct svc *v = &s->svc[i];
        if (v->out[0] < 0)
            continue;
        stream(s, &words, &fds, v->def->name, "stdout", v->out[0], v->def->log);
        stream(s, &words, &fds, v->def->name, "stderr", v->err[0], v->def->log);
    }
    struct spawn spawn = {.argv = s->log_argv,
                          .fds = s->log_fds,
                          .nfds = fds,
                          .session = true,
                          .patience_ms = SUP_PATIENCE_MS};
    start(s, &s->log, &spawn);
    if (s->log.pid && s->own_log[1] >= 0 && s->phase < SUP_LOGS)
        log_to(s->own_log[1]);
}

static void start_forward(struct sup *s) {
    char *argv[] = {s->forward.path, (char *)"--config", (char *)s->plan->config, NULL};
    struct spawn_fd fd = {s->records[0], 0};
    struct spawn spawn = {
        .argv = argv, .fds = &fd, .nfds = 1, .session = true, .patience_ms = SUP_PATIENCE_MS};
    start(s, &s->forward, &spawn);
}

void logs_begin(struct sup *s) {
    if (!s->log.name)
        return;
    start_log(s);
    if (s->forward.name)
        start_forward(s);
}

void logs_pid(struct sup *s, const char *name, pid_t pid) {
    char line[WORD];
    if (s->log_control[1] < 0)
        return;
    int n = snprintf(line, sizeof line, "pid %s %d\n", name, pid);
    // A full pipe means a dead or stalled logger: lines then carry the process before.
    if (n < (int)sizeof line && write(s->log_control[1], line, n) < 0)
        return;
}

bool logs_ended(struct sup *s, pid_t pid, int status) {
    struct aide *a = pid == s->log.pid ? &s->log : pid == s->forward.pid ? &s->forward : NULL;
    if (!a)
        return false;
    a->pid = 0;
    bool well = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (s->phase >= SUP_LOGS) {
        if (!well)
            log_warning("%s: %s %d", a->name, WIFSIGNALED(status) ? "killed by signal" : "exit",
                        WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
        return true;
    }
    if (s->now_ms - a->started_ms > LAST_PAUSE || well)
        a->backoff_ms = 0;
    a->again_ms = s->now_ms + a->backoff_ms + 1;
    if (!well) {
        log_warning("%s ended (%s %d): starts again", a->name,
                    WIFSIGNALED(status) ? "signal" : "exit",
                    WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
        a->backoff_ms = a->backoff_ms ? a->backoff_ms * 2 : FIRST_PAUSE;
        a->backoff_ms = a->backoff_ms < LAST_PAUSE ? a->backoff_ms : LAST_PAUSE;
    }
    return true;
}

void logs_timers(struct sup *s) {
    if (s->log.again_ms && s->log.again_ms <= s->now_ms)
        start_log(s);
    if (s->forward.again_ms && s->forward.again_ms <= s->now_ms)
        start_forward(s);
}

// civinit-log writes what it can read at this moment and ends; the next one goes on.
void logs_reload(struct sup *s) {
    if (!s->log.name)
        return;
    for (size_t i = 0; i < s->n; i++)
        if (pipes_of(&s->svc[i]) < 0)
            log_error("service %s: no pipes for its log: %s", s->svc[i].def->name,
                      strerrordesc_np(errno));
    if (words_room(s) < 0)
        log_error("log: out of memory"); // cannot be: nothing is used of it until the start
    if (s->log.pid)
        kill(s->log.pid, SIGTERM);
}

static void shut(int *fd) {
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void logs_drop(struct sup *s, struct svc *v) {
    shut(&v->out[1]);
    shut(&v->err[1]);
    shut(&v->out[0]);
    shut(&v->err[0]);
}

void logs_finish(struct sup *s) {
    if (!s->log.name)
        return;
    errout_use(s);
    for (size_t i = 0; i < s->n; i++) {
        shut(&s->svc[i].out[1]);
        shut(&s->svc[i].err[1]);
    }
    shut(&s->own_log[1]);
    shut(&s->log_control[1]);
    if (!s->log.pid)
        start_log(s);
    shut(&s->records[1]);
    if (s->forward.name && !s->forward.pid)
        start_forward(s);
}

bool logs_gone(const struct sup *s) {
    return !s->log.pid && !s->forward.pid;
}

void logs_kill(struct sup *s) {
    if (s->log.pid)
        kill(s->log.pid, SIGKILL);
    if (s->forward.pid)
        kill(s->forward.pid, SIGKILL);
}
