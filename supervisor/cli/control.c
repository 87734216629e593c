#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/statusfile.h"
#include "base/text.h"
#include "cli/cli.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sysexits.h>
#include <unistd.h>

enum {
    ANSWER_SECONDS = 5,
    WAIT_MS = 60000
};

static int parse_answer(char *text) {
    text[strcspn(text, "\n")] = 0;
    if (strncmp(text, "ok", 2) == 0) {
        memmove(text, text + 2 + (text[2] == ' '), strlen(text + 2 + (text[2] == ' ')) + 1);
        return 0;
    }
    char *end;
    long code = strncmp(text, "error ", 6) == 0 ? strtol(text + 6, &end, 10) : EX_PROTOCOL;
    if (code != EX_PROTOCOL)
        memmove(text, end + (*end == ' '), strlen(end + (*end == ' ')) + 1);
    return (int)code;
}

int cli_ask(const char *run_dir, const char *line, char *text, int size) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct timeval patience = {.tv_sec = ANSWER_SECONDS};
    autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (snprintf(a.sun_path, sizeof a.sun_path, "%s/control", run_dir) >= (int)sizeof a.sun_path) {
        snprintf(text, size, "%s: name too long for a socket", run_dir);
        return EX_USAGE;
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&a, sizeof a) < 0) {
        snprintf(text, size, "no civinit answers at %s: %s", a.sun_path, strerrordesc_np(errno));
        return errno == EACCES ? EX_NOPERM : EX_UNAVAILABLE;
    }
    char message[400];
    int n = snprintf(message, sizeof message, "%s\n", line);
    int len = 0;
    // The refusal of a stranger may come before the request has been read.
    send(fd, message, n, MSG_NOSIGNAL);
    for (ssize_t got; len < size - 1 && (got = recv(fd, text + len, size - 1 - len, 0)) > 0;)
        len += (int)got;
    text[len] = 0;
    if (!strchr(text, '\n')) {
        snprintf(text, size, "civinit does not answer at %s", a.sun_path);
        return EX_UNAVAILABLE;
    }
    return parse_answer(text);
}

// Whether the request has come to its end, one way or the other; *ret_code is the exit code.
static bool settled(const char *verb, const struct statusfile_service *now,
                    const struct statusfile_service *before, int *ret_code) {
    const char *state = now->state;
    bool rests =
        strcmp(state, "down") == 0 || strcmp(state, "done") == 0 || strcmp(state, "failed") == 0;
    if (strcmp(verb, "stop") == 0) {
        *ret_code = 0;
        return rests;
    }
    bool again = now->since_ms != before->since_ms || now->pid != before->pid;
    bool fresh = strcmp(verb, "start") == 0 || (again && now->pid != before->pid);
    *ret_code = strcmp(state, "ready") == 0 || strcmp(state, "done") == 0 ? 0 : EX_UNAVAILABLE;
    if (*ret_code == 0)
        return fresh;
    return again && (strcmp(state, "failed") == 0 || strcmp(state, "backoff") == 0);
}

// Waits, by the status file, for what was asked for.
static int wait_for(const char *run_dir, const char *verb, const struct statusfile_service *before,
                    const char *name) {
    char age[32];
    int64_t end = clock_mono_ms() + WAIT_MS;
    autoclose int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    inotify_add_watch(watch, run_dir, IN_MOVED_TO | IN_DELETE);
    for (;;) {
        struct statusfile f;
        struct err e;
        int code = 0;
        if (statusfile_read(run_dir, &f, &e) < 0) {
            printf("%s: the container has ended\n", name);
            return 0;
        }
        const struct statusfile_service *now = statusfile_find(&f, name);
        bool over = !now || settled(verb, now, before, &code);
        if (over && now)
            printf("%s: %s%s%s\n", name, now->state, *now->reason ? ": " : "", now->reason);
        statusfile_free(&f);
        if (over)
            return code;
        int64_t left = end - clock_mono_ms();
        if (left <= 0) {
            log_error("%s: not done within %s; see civinit status", name,
                      text_ms(WAIT_MS, age, sizeof age));
            return EX_UNAVAILABLE;
        }
        char drop[4096];
        struct pollfd p = {.fd = watch, .events = POLLIN};
        poll(&p, 1, (int)left);
        while (read(watch, drop, sizeof drop) > 0)
            ;
    }
}

static int request(const char *run_dir, const char *verb, const char *name, bool wait) {
    char line[320], text[1024];
    struct statusfile f = {0};
    struct err e;
    bool known = name && statusfile_read(run_dir, &f, &e) == 0 && statusfile_find(&f, name);
    snprintf(line, sizeof line, "%s%s%s", verb, name ? " " : "", name ? name : "");
    int code = cli_ask(run_dir, line, text, sizeof text);
    if (code)
        log_error("%s", text);
    else if (known && wait && strcmp(verb, "reload") != 0)
        code = wait_for(run_dir, verb, statusfile_find(&f, name), name);
    else
        puts(text);
    statusfile_free(&f);
    return code;
}

int cli_control(int argc, char **argv) {
    static const char *const options[] = {"--run-dir", "--no-wait", NULL};
    const char *run_dir = statusfile_run_dir(), *name = NULL;
    bool wait = true;
    for (int i = 1; i < argc; i++) {
        int got = cli_value(argv[0], "--run-dir", argc, argv, &i, &run_dir);
        if (got < 0)
            return EX_USAGE;
        if (got)
            continue;
        if (strcmp(argv[i], "--no-wait") == 0)
            wait = false;
        else if (argv[i][0] == '-' || name)
            return cli_usage(argv[0], argv[i], options);
        else
            name = argv[i];
    }
    if (!name && strcmp(argv[0], "reload") != 0) {
        log_error("%s: which service? civinit status shows them", argv[0]);
        return EX_USAGE;
    }
    return request(run_dir, argv[0], name, wait);
}
