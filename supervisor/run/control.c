#include "run/control.h"

#include "base/log.h"
#include "base/text.h"
#include "run/loop.h"
#include "run/notify.h"
#include "run/publish.h"
#include "run/reload.h"
#include "run/stop.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sysexits.h>
#include <unistd.h>

enum {
    PATIENCE = 2000, // for a client to say its line
    PAUSE = 1000,
};

static bool address(struct sockaddr_un *a, const char *run_dir) {
    *a = (struct sockaddr_un){.sun_family = AF_UNIX};
    return snprintf(a->sun_path, sizeof a->sun_path, "%s/control", run_dir) <
           (int)sizeof a->sun_path;
}

bool control_taken(const char *run_dir) {
    struct sockaddr_un a;
    if (!address(&a, run_dir))
        return false;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool taken = connect(fd, (struct sockaddr *)&a, sizeof a) == 0 || errno == EAGAIN;
    close(fd);
    return taken;
}

void control_open(struct sup *s) {
    struct sockaddr_un a;
    publish_run_dir(s);
    if (!address(&a, s->plan->run_dir)) {
        log_warning("no control socket: %s/control: name too long", s->plan->run_dir);
        return;
    }
    unlink(a.sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || chmod(a.sun_path, 0600) < 0 ||
        listen(fd, SUP_CLIENTS) < 0 || loop_watch(s, fd, LOOP_CONTROL, 0) < 0) {
        log_warning("no control socket: %s: %s", a.sun_path, strerrordesc_np(errno));
        if (fd >= 0)
            close(fd);
        return;
    }
    s->control = fd;
    // Kept for the day when descriptors run out: see control_accept.
    s->spare = fcntl(s->signals, F_DUPFD_CLOEXEC, 3);
}

static void answer(int fd, const char *text) {
    char line[600];
    int n = snprintf(line, sizeof line, "%s\n", text);
    if (n >= (int)sizeof line)
        n = sizeof line - 1;
    // One short line fits into the buffer of a fresh socket; who does not read has no answer.
    send(fd, line, n, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void hang_up(struct client *c) {
    close(c->fd);
    *c = (struct client){.fd = -1};
}

static bool may(int fd) {
    struct ucred who;
    socklen_t len = sizeof who;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 &&
           (who.uid == 0 || who.uid == geteuid());
}

static void welcome(struct sup *s, int fd) {
    struct client *c = NULL;
    for (int i = 0; i < SUP_CLIENTS; i++)
        if (s->clients[i].fd < 0)
            c = &s->clients[i];
    if (!may(fd))
        answer(fd, "error 77 only root and the user of civinit may control it");
    else if (!c)
        answer(fd, "error 75 too many clients");
    else if (loop_watch(s, fd, LOOP_CLIENT, c - s->clients) == 0) {
        c->fd = fd;
        c->until_ms = s->now_ms + PATIENCE;
        return;
    }
    close(fd);
}

// No descriptor is left. The client would keep the socket readable, and us awake: take it with the
// spare one and send it away; if that is gone, too, do not look for a while.
static void refuse(struct sup *s) {
    if (s->spare >= 0)
        close(s->spare);
    int fd = accept4(s->control, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
        answer(fd, "error 71 out of descriptors");
        close(fd);
    } else if (errno != EAGAIN) {
        log_warning("control socket: %s", strerrordesc_np(errno));
        loop_ignore(s, s->control);
        s->control_ms = s->now_ms + PAUSE;
    }
    s->spare = fcntl(s->signals, F_DUPFD_CLOEXEC, 3);
}

void control_accept(struct sup *s) {
    for (int i = 0; i < SUP_CLIENTS; i++) {
        int fd = accept4(s->control, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            welcome(s, fd);
            continue;
        }
        if (errno != EMFILE && errno != ENFILE)
            return;
        refuse(s);
        return;
    }
}

static void start(struct svc *v) {
    v->wanted = true;
    v->in_row = 0;
    if (v->state == SVC_BACKOFF)
        *v->reason = 0;
}

// What a person asks of one service; the text of the answer.
static void command(struct sup *s, const char *verb, struct svc *v, char *text, size_t size) {
    const char *name = v->def->name;
    snprintf(text, size, "ok %s %s", verb, name);
    if (strcmp(verb, "reload") == 0 && !v->def->reload_signal) {
        snprintf(text, size, "error %d %s has no reload_signal", EX_CONFIG, name);
    } else if (strcmp(verb, "reload") == 0 && !v->pid) {
        snprintf(text, size, "error %d %s has no process", EX_UNAVAILABLE, name);
    } else if (strcmp(verb, "reload") == 0) {
        kill(v->pid, v->def->reload_signal);
        log_info("service %s: reload: SIG%s", name, sigabbrev_np(v->def->reload_signal));
    } else if (strcmp(verb, "stop") == 0) {
        v->wanted = false;
        sup_because(v, "asked to stop");
    } else {
        start(v);
        sup_feed(s, v, SVC_RESET);
        if (strcmp(verb, "restart") == 0 && svc_alive(v->state) && v->state != SVC_STOPPING) {
            v->cause = CAUSE_ASKED;
            sup_because(v, "asked to restart");
            sup_feed(s, v, SVC_STOP);
        }
    }
    s->dirty = true;
}

static void unknown(struct sup *s, const char *name, char *text, size_t size) {
    const char *names[2 * PLAN_SERVICES + 1] = {0};
    for (size_t i = 0; i < s->n && i < 2 * PLAN_SERVICES; i++)
        names[i] = s->svc[i].def->name;
    const char *near = text_nearest(name, names);
    snprintf(text, size,
             near ? "error %d there is no service or task \"%s\"; did you mean \"%s\"?"
                  : "error %d there is no service or task \"%s\"",
             EX_USAGE, name, near);
}

static void obey(struct sup *s, char *line, char *text, size_t size) {
    static const char *const verbs[] = {"start", "stop", "restart", "reload", NULL};
    char *name = strchr(line, ' ');
    if (name)
        *name++ = 0;
    bool known = false;
    for (int i = 0; verbs[i]; i++)
        known |= strcmp(line, verbs[i]) == 0;
    struct svc *v = known && name ? sup_find(s, name) : NULL;
    if (strcmp(line, "ping") == 0)
        snprintf(text, size, "ok");
    else if (strcmp(line, "heap") == 0) // for the test that counts
        snprintf(text, size, "ok %zu", mallinfo2().uordblks);
    else if (!known)
        snprintf(text, size, "error %d unknown command", EX_USAGE);
    else if (s->phase != SUP_RUNNING)
        snprintf(text, size, "error %d the container stops", EX_TEMPFAIL);
    else if (!name && strcmp(line, "reload") == 0)
        reload(s, text, size);
    else if (!v)
        unknown(s, name ? name : "", text, size);
    else
        command(s, line, v, text, size);
}

void control_read(struct sup *s, size_t index) {
    struct client *c = &s->clients[index];
    char text[500];
    if (c->fd < 0)
        return;
    ssize_t n = recv(c->fd, c->line + c->len, sizeof c->line - 1 - c->len, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        hang_up(c);
        return;
    }
    c->len += n;
    c->line[c->len] = 0;
    char *end = strchr(c->line, '\n');
    if (!end && (c->len == sizeof c->line - 1 || memchr(c->line, 0, c->len))) {
        answer(c->fd, "error 64 not a command");
        hang_up(c);
    } else if (end) {
        *end = 0;
        obey(s, c->line, text, sizeof text);
        answer(c->fd, text);
        hang_up(c);
    }
}

void control_timers(struct sup *s) {
    if (s->control_ms && s->control_ms <= s->now_ms) {
        s->control_ms = 0;
        loop_watch(s, s->control, LOOP_CONTROL, 0);
    }
    for (int i = 0; i < SUP_CLIENTS; i++)
        if (s->clients[i].fd >= 0 && s->clients[i].until_ms <= s->now_ms)
            hang_up(&s->clients[i]);
}

void control_close(struct sup *s) {
    char path[4096];
    for (size_t i = 0; i < s->n; i++)
        notify_close(s, &s->svc[i]);
    if (s->control < 0)
        return;
    snprintf(path, sizeof path, "%s/control", s->plan->run_dir);
    unlink(path);
    snprintf(path, sizeof path, "%s/status", s->plan->run_dir);
    unlink(path);
}
