#include "helper.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

enum {
    CONNECT_MS = 10000,
    RETRY_MS = 250,
    ERRORS_MAX = 64 << 10,
    // The server's numbers (the same in MySQL and MariaDB).
    NO_SUCH_TABLE = 1146,
    BAD_FIELD = 1054,
    BAD_DB = 1049,
    DB_DENIED = 1044,
    TABLE_DENIED = 1142,
    READ_ONLY = 1290,
};

static const char *const sections[] = {"container", "database", "jobs", "job",
                                       "mail",      "civicrm",  NULL};

int helper_load(struct helper *h, const char *path, struct err *e) {
    h->config = conf_path(&h->conf, path);
    if (!h->config)
        return err_set(e, EX_OSERR, "out of memory");
    if (conf_load_strict(&h->conf, h->config, sections, e) < 0)
        return -1;
    h->database = conf_text(&h->conf, "civicrm", "", "database", NULL);
    char **names = h->database ? NULL : conf_list(&h->conf, "database", "", "names");
    // By name, where one is called so; else the first.
    for (size_t i = 0; names && names[i]; i++)
        if (!h->database || strstr(names[i], "civicrm"))
            h->database = names[i];
    h->state_dir = conf_text(&h->conf, "jobs", "", "state_dir", "/var/lib/civinit");
    return 0;
}

static int connect_to(struct helper *h, const char *database, int64_t read_ms, struct err *e) {
    struct db_options o;
    if (db_options_from_conf(&h->conf, &o, e) < 0)
        return -1;
    o.database = database;
    o.connect_ms = CONNECT_MS;
    o.read_ms = read_ms;
    if (db_open(&o, &h->db, NULL, e) < 0)
        return -1;
    // Nearly all of CiviCRM's time columns are TIMESTAMP.
    if (db_query(h->db, "SET time_zone = '+00:00'", NULL, e) == 0)
        return 0;
    db_close(h->db);
    h->db = NULL;
    return -1;
}

int helper_connect(struct helper *h, int64_t read_ms, struct err *e) {
    if (!h->database)
        return err_set(e, EX_CONFIG, "[civicrm] database is missing: the name of its database");
    return connect_to(h, h->database, read_ms, e);
}

int helper_connect_server(struct helper *h, int64_t read_ms, struct err *e) {
    return connect_to(h, NULL, read_ms, e);
}

int helper_connect_wait(struct helper *h, int64_t read_ms, int64_t wait_ms, struct err *e) {
    int64_t end = clock_mono_ms() + wait_ms;
    while (helper_connect(h, read_ms, e) < 0) {
        if (e->code != EX_UNAVAILABLE || clock_mono_ms() >= end)
            return -1;
        nanosleep(&(struct timespec){.tv_nsec = RETRY_MS * 1000000L}, NULL);
    }
    return 0;
}

void helper_free(struct helper *h) {
    db_close(h->db);
    conf_free(&h->conf);
}

char *helper_program(const char *name) {
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    char *slash, *path = NULL;
    if (n > 0) {
        self[n] = 0;
        slash = strrchr(self, '/');
        *slash = 0;
        if (asprintf(&path, "%s/%s", self, name) < 0)
            return NULL;
        if (access(path, X_OK) == 0)
            return path;
        free(path);
    }
    return strdup(name);
}

static void child(char *const *argv, int errors) {
    int null = open("/dev/null", O_RDONLY);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    setpgid(0, 0);
    if (null >= 0)
        dup2(null, 0); // the copy is not close-on-exec
    dup2(errors, 2);
    execvp(argv[0], argv);
    dprintf(2, "%s: %s\n", argv[0], strerror(errno));
    _exit(errno == ENOENT ? 127 : 126);
}

// Reads until the child has ended (true) or the time is over. A process that it leaves behind with
// its stderr is not waited for.
static bool read_until_end(int process, int from, int64_t end_ms, struct buf *errors) {
    struct pollfd p[] = {{.fd = process, .events = POLLIN}, {.fd = from, .events = POLLIN}};
    char chunk[4096];
    for (int64_t left; (left = end_ms - clock_mono_ms()) > 0;) {
        if (poll(p, 2, left > 60000 ? 60000 : (int)left) < 0 && errno != EINTR)
            return false;
        ssize_t n = p[1].revents ? read(from, chunk, sizeof chunk) : -1;
        if (n > 0 && errors->len < ERRORS_MAX)
            buf_add(errors, chunk, (size_t)n);
        if (n == 0)
            p[1].fd = -1;
        if (p[0].revents && n <= 0)
            return true;
    }
    return false;
}

int helper_run(char *const *argv, int64_t timeout_ms, struct buf *errors, struct err *e) {
    int ends[2], status = 0;
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return err_errno(e, EX_OSERR, "pipe");
    autoclose int from = ends[0];
    pid_t pid = fork();
    if (pid == 0)
        child(argv, ends[1]);
    close(ends[1]);
    if (pid < 0)
        return err_errno(e, EX_OSERR, "fork");
    setpgid(pid, pid); // whichever of the two comes first
    autoclose int process = (int)syscall(SYS_pidfd_open, pid, 0);
    bool ended =
        process >= 0 && read_until_end(process, from, clock_mono_ms() + timeout_ms, errors);
    if (!ended)
        kill(-pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (!ended)
        return err_set(e, EX_UNAVAILABLE, "%s: no answer within %lld ms", argv[0],
                       (long long)timeout_ms);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

char **helper_row(const struct db_rows *rows, size_t row) {
    return rows->cells + row * rows->columns;
}

int64_t helper_number(const struct db_rows *rows, size_t row, size_t column) {
    const char *cell = rows->cells[row * rows->columns + column];
    return cell ? strtoll(cell, NULL, 10) : 0;
}

int helper_missing(struct db *db) {
    unsigned n = db_errno(db);
    return n == NO_SUCH_TABLE || n == BAD_FIELD || n == BAD_DB;
}

int helper_denied(struct db *db) {
    unsigned n = db_errno(db);
    return n == DB_DENIED || n == TABLE_DENIED || n == READ_ONLY;
}
