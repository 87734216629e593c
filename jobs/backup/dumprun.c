#include "backup/dumprun.h"

#include "backup/dump.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

extern char **environ;

enum {
    PIPE_BYTES = 1 << 20,
    READ_BYTES = 256 << 10,
    NAP_US = 1500, // a fast dump fills half of the pipe meanwhile
    ASK_MAX = 256 << 10,
    OPTION_FD = 3, // in the child: --defaults-file=/dev/fd/3
};

struct child {
    pid_t pid;
    int out, err;
    char line[1024], last[1024]; // of stderr: the one being read, the last one
    size_t len;
    bool changed; // it said 1412
    bool roomy;   // the pipe of out is as large as was asked for
};

// out and err get the reading ends; option (or -1) becomes OPTION_FD. The child leads a process
// group, so that a signal to ours does not end it before we say so.
static int start(struct child *c, char *const *argv, int option, struct err *e) {
    int out[2], err[2];
    if (pipe2(out, O_CLOEXEC) < 0)
        return err_errno(e, EX_OSERR, "pipe");
    if (pipe2(err, O_CLOEXEC) < 0) {
        err_errno(e, EX_OSERR, "pipe");
        close(out[0]);
        close(out[1]);
        return -1;
    }
    c->roomy = fcntl(out[0], F_SETPIPE_SZ, PIPE_BYTES) >= PIPE_BYTES;
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attr);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, out[1], 1);
    posix_spawn_file_actions_adddup2(&files, err[1], 2);
    if (option >= 0)
        posix_spawn_file_actions_adddup2(&files, option, OPTION_FD);
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    posix_spawnattr_setpgroup(&attr, 0);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                        POSIX_SPAWN_SETPGROUP);
    int rc = posix_spawn(&c->pid, argv[0], &files, &attr, argv, environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attr);
    close(out[1]);
    close(err[1]);
    c->out = out[0];
    c->err = err[0];
    if (rc == 0)
        return 0;
    close(c->out);
    close(c->err);
    errno = rc;
    return err_errno(e, EX_UNAVAILABLE, "%s", argv[0]);
}

int dump_ask(const char *program, const char *const *args, char **ret, struct err *e) {
    char *argv[8] = {(char *)(uintptr_t)program};
    for (int i = 0; i < 6 && args[i]; i++)
        argv[i + 1] = (char *)(uintptr_t)args[i];
    struct child c = {0};
    if (start(&c, argv, -1, e) < 0)
        return -1;
    autobuf struct buf text = {0};
    char chunk[4096];
    for (ssize_t n; (n = read(c.out, chunk, sizeof chunk)) > 0 || (n < 0 && errno == EINTR);)
        if (n > 0 && text.len + (size_t)n < ASK_MAX)
            buf_add(&text, chunk, (size_t)n);
    close(c.out);
    close(c.err);
    int status = 0;
    while (waitpid(c.pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || text.failed || !text.data)
        return err_set(e, EX_UNAVAILABLE, "%s %s: did not answer", program, args[0]);
    *ret = take_ptr(&text.data);
    return 0;
}

// A value of an option file in quotes.
static void add_value(struct buf *b, const char *key, const char *value) {
    buf_printf(b, "%s=\"", key);
    for (; *value; value++) {
        if (*value == '"' || *value == '\\')
            buf_add(b, "\\", 1);
        buf_add(b, value, 1);
    }
    buf_str(b, "\"\n");
}

// The account in a file that only this process and its child can see.
static int option_file(const struct db_options *w, struct err *e) {
    autobuf struct buf b = {0};
    buf_str(&b, "[client]\n");
    if (w->user)
        add_value(&b, "user", w->user);
    if (w->socket)
        add_value(&b, "socket", w->socket);
    else {
        add_value(&b, "host", w->host);
        buf_printf(&b, "port=%d\nprotocol=tcp\n", w->port ? w->port : 3306);
    }
    if (w->password_file) {
        autofree char *password = NULL;
        if (file_secret(w->password_file, &password, e) < 0)
            return -1;
        add_value(&b, "password", password);
        explicit_bzero(password, strlen(password));
    }
    autoclose int fd = memfd_create("options", MFD_CLOEXEC);
    // The clients ignore an option file that others may write to.
    if (fd < 0 || b.failed || fchmod(fd, 0600) < 0 || file_write(fd, b.data, b.len) < 0)
        return err_errno(e, EX_OSERR, "the dump's option file");
    explicit_bzero(b.data, b.len);
    lseek(fd, 0, SEEK_SET);
    return take_fd(&fd);
}

static void say(struct child *c) {
    c->line[c->len] = 0;
    if (c->len) {
        c->changed |= strstr(c->line, "1412") != NULL;
        snprintf(c->last, sizeof c->last, "%s", c->line);
        log_warning("%s", c->line);
    }
    c->len = 0;
}

// false: the end of stderr.
static bool read_stderr(struct child *c) {
    char text[1024];
    ssize_t n = read(c->err, text, sizeof text);
    if (n < 0)
        return errno == EINTR || errno == EAGAIN;
    for (ssize_t i = 0; i < n; i++) {
        if (text[i] == '\n' || c->len == sizeof c->line - 1)
            say(c);
        if (text[i] != '\n')
            c->line[c->len++] = text[i];
    }
    if (n == 0)
        say(c);
    return n > 0;
}

struct run {
    struct dumpscan *scan;
    dump_sink *sink;
    void *arg;
    const atomic_bool *stop;
    char *buffer;
};

// 1: more may come, 0: the end of stdout, -1: error.
static int read_stdout(struct child *c, struct run *r, struct err *e) {
    ssize_t n = read(c->out, r->buffer, READ_BYTES);
    if (n < 0)
        return errno == EINTR ? 1 : err_errno(e, EX_IOERR, "reading the dump");
    if (n == 0)
        return 0;
    dumpscan_add(r->scan, r->buffer, (size_t)n);
    if (r->sink(r->arg, r->buffer, (size_t)n, e) < 0)
        return -1;
    // The client writes 4 KB at a time. To be woken for each of them costs both sides more than
    // the dump itself: the pipe has room for what comes during a nap.
    if (c->roomy && n < READ_BYTES)
        usleep(NAP_US);
    return 1;
}

static int pass_on(struct child *c, struct run *r, struct err *e) {
    bool err_open = true, out_open = true;
    while (err_open || out_open) {
        struct pollfd p[2] = {{out_open ? c->out : -1, POLLIN}, {err_open ? c->err : -1, POLLIN}};
        int n = poll(p, 2, 200);
        if (*r->stop)
            return err_set(e, EX_TEMPFAIL, "told to stop");
        if (n < 0 && errno != EINTR)
            return err_errno(e, EX_OSERR, "poll");
        if (n > 0 && p[1].revents)
            err_open = read_stderr(c);
        if (n > 0 && p[0].revents) {
            int rc = read_stdout(c, r, e);
            if (rc < 0)
                return -1;
            out_open = rc > 0;
        }
    }
    return 0;
}

static int judge(const struct dump *d, const struct child *c, int status,
                 const struct dumpscan *scan, struct err *e) {
    const char *name = strrchr(d->program, '/') + 1;
    const char *sep = *c->last ? ": " : "";
    if (WIFSIGNALED(status))
        return err_set(e, EX_UNAVAILABLE, "%s was killed by signal %d%s%s", name, WTERMSIG(status),
                       sep, c->last);
    if (WEXITSTATUS(status) != 0)
        return err_set(e, EX_UNAVAILABLE, "%s ended with %d%s%s", name, WEXITSTATUS(status), sep,
                       c->last);
    if (!scan->completed)
        return err_set(e, EX_DATAERR, "%s ended without its closing line \"-- Dump completed\"",
                       name);
    return 0;
}

static size_t length(char *const *list) {
    size_t n = 0;
    while (list && list[n])
        n++;
    return n;
}

// The client writes 4 KB at a time, each a system call here and there: a tenth of a dump's time.
static char **with_buffer(char *stdbuf, char *const *argv) {
    static char option[] = DUMP_STDBUF_OPTION;
    size_t n = length(argv);
    char **more = calloc(n + 3, sizeof *more);
    if (more) {
        more[0] = stdbuf;
        more[1] = option;
        memcpy(more + 2, argv, n * sizeof *more);
    }
    return more;
}

static int run_once(const struct dump *d, char *const *argv, struct run *r, bool *ret_changed,
                    struct err *e) {
    struct child c = {0};
    autoclose int option = option_file(d->where, e);
    if (option < 0)
        return -1;
    autofree char **buffered = d->stdbuf ? with_buffer(d->stdbuf, argv) : NULL;
    if (start(&c, buffered ? buffered : argv, option, e) < 0)
        return -1;
    dumpscan_restart(r->scan);
    int rc = pass_on(&c, r, e), status = 0;
    close(c.out);
    close(c.err);
    if (rc < 0)
        kill(-c.pid, SIGKILL);
    while (waitpid(c.pid, &status, 0) < 0 && errno == EINTR)
        ;
    *ret_changed = c.changed;
    return rc < 0 ? -1 : judge(d, &c, status, r->scan, e);
}

static size_t put(char **argv, size_t n, char *const *list) {
    for (; list && *list; list++)
        argv[n++] = *list;
    return n;
}

static char defaults[] = "--defaults-file=/dev/fd/3", databases[] = "--databases",
            no_data[] = "--no-data", no_create[] = "--no-create-db",
            skip_routines[] = "--skip-routines", skip_events[] = "--skip-events";

// MySQL's client knows no --ignore-table-data: the structure comes from a run of its own, before
// the main one, whose views may need the tables.
static int run_structure(struct dump *d, const char *database, struct run *r, bool *ret_changed,
                         struct err *e) {
    size_t n = 0, prefix = strlen(database);
    char **argv = calloc(length(d->options) + length(d->structure) + 12, sizeof *argv);
    char name[260];
    if (!argv)
        return err_set(e, EX_OSERR, "out of memory");
    argv[n++] = d->program;
    argv[n++] = defaults;
    n = put(argv, n, d->options);
    argv[n++] = no_data;
    argv[n++] = no_create;
    argv[n++] = skip_routines;
    argv[n++] = skip_events;
    snprintf(name, sizeof name, "%s", database);
    argv[n++] = name;
    size_t before = n;
    for (char **t = d->structure; *t; t++)
        if (strncmp(*t, database, prefix) == 0 && (*t)[prefix] == '.')
            argv[n++] = *t + prefix + 1;
    int rc = 0;
    if (n > before) {
        autobuf struct buf head = {0};
        buf_printf(&head, "\n--\n-- Current Database: `%s`\n--\n\n", database);
        buf_printf(&head, "CREATE DATABASE /*!32312 IF NOT EXISTS*/ `%s`;\nUSE `%s`;\n", database,
                   database);
        dumpscan_restart(r->scan);
        dumpscan_add(r->scan, head.data, head.len);
        rc = r->sink(r->arg, head.data, head.len, e);
        if (rc == 0)
            rc = run_once(d, argv, r, ret_changed, e);
    }
    free(argv);
    return rc;
}

static int run_main(struct dump *d, bool has_ignore_data, struct run *r, bool *ret_changed,
                    struct err *e) {
    size_t n = 0, tables = length(d->structure);
    char **argv = calloc(length(d->options) + tables + length(d->o->databases) + 8, sizeof *argv);
    char **ignored = calloc(tables + 1, sizeof *ignored);
    int rc = argv && ignored ? 0 : err_set(e, EX_OSERR, "out of memory");
    for (size_t i = 0; rc == 0 && i < tables; i++)
        if (asprintf(&ignored[i], "--ignore-table%s=%s", has_ignore_data ? "-data" : "",
                     d->structure[i]) < 0)
            rc = err_set(e, EX_OSERR, "out of memory");
    if (rc == 0) {
        argv[n++] = d->program;
        argv[n++] = defaults;
        n = put(argv, n, d->options);
        n = put(argv, n, ignored);
        argv[n++] = databases;
        put(argv, n, d->o->databases);
        rc = run_once(d, argv, r, ret_changed, e);
    }
    for (size_t i = 0; ignored && i < tables; i++)
        free(ignored[i]);
    free(ignored);
    free(argv);
    return rc;
}

int dump_run(struct dump *d, dump_sink *sink, void *arg, struct dumpscan *scan,
             const atomic_bool *stop, bool *ret_changed, struct err *e) {
    struct run r = {scan, sink, arg, stop, malloc(READ_BYTES)};
    if (!r.buffer)
        return err_set(e, EX_OSERR, "out of memory");
    bool ignore_data = strstr(d->help, "--ignore-table-data") != NULL;
    int rc = 0;
    *ret_changed = false;
    for (char **name = d->o->databases; rc == 0 && !ignore_data && *name; name++)
        rc = run_structure(d, *name, &r, ret_changed, e);
    if (rc == 0)
        rc = run_main(d, ignore_data, &r, ret_changed, e);
    free(r.buffer);
    return rc;
}
