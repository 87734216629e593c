#include "run/notify.h"

#include "base/log.h"
#include "run/loop.h"
#include "run/publish.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sysexits.h>
#include <unistd.h>

// In the run dir, for programs that know only paths; where that is not to be had, a name of the
// kernel's choice in the abstract space ("@…" in NOTIFY_SOCKET).
static int bind_somewhere(struct sup *s, struct svc *v, int fd, struct sockaddr_un *a,
                          socklen_t *len) {
    *a = (struct sockaddr_un){.sun_family = AF_UNIX};
    int n =
        snprintf(a->sun_path, sizeof a->sun_path, "%s/notify.%s", s->plan->run_dir, v->def->name);
    *len = sizeof *a;
    _Static_assert(PLAN_NOTIFY_ROOM > sizeof a->sun_path + sizeof "NOTIFY_SOCKET=", "room");
    if (n < (int)sizeof a->sun_path) {
        unlink(a->sun_path);
        if (bind(fd, (struct sockaddr *)a, sizeof *a) == 0)
            return chmod(a->sun_path, 0666);
    }
    return bind(fd, (struct sockaddr *)a, sizeof(sa_family_t)) < 0
               ? -1
               : getsockname(fd, (struct sockaddr *)a, len);
}

static int open_socket(struct sup *s, struct svc *v, struct err *e) {
    struct sockaddr_un a;
    socklen_t len;
    int one = 1;
    publish_run_dir(s);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &one, sizeof one) < 0 ||
        bind_somewhere(s, v, fd, &a, &len) < 0 || loop_watch(s, fd, LOOP_NOTIFY, v - s->svc) < 0) {
        err_errno(e, EX_OSERR, "notify socket");
        if (fd >= 0)
            close(fd);
        return -1;
    }
    bool abstract = !a.sun_path[0];
    size_t room = len - offsetof(struct sockaddr_un, sun_path) - abstract;
    snprintf(v->def->notify_env, PLAN_NOTIFY_ROOM, "NOTIFY_SOCKET=%s%.*s", abstract ? "@" : "",
             (int)room, a.sun_path + abstract);
    v->notify_fd = fd;
    return 0;
}

int notify_open(struct sup *s, struct svc *v, int *ret_write, struct err *e) {
    if ((v->def->ready.kind == CHECK_NOTIFY || v->def->task) && v->notify_fd < 0)
        return open_socket(s, v, e);
    if (v->def->ready.kind != CHECK_FD)
        return 0;
    int p[2];
    if (pipe2(p, O_CLOEXEC) < 0)
        return err_errno(e, EX_OSERR, "pipe");
    if (fcntl(p[0], F_SETFL, O_NONBLOCK) < 0 ||
        loop_watch(s, p[0], LOOP_READY_FD, v - s->svc) < 0) {
        err_errno(e, EX_OSERR, "pipe");
        close(p[0]);
        close(p[1]);
        return -1;
    }
    v->ready_fd = p[0];
    *ret_write = p[1];
    return 0;
}

// Parent, session and user of a process; see proc(5). Nothing is allocated.
static bool look_up(pid_t pid, pid_t *ret_parent, pid_t *ret_session, uid_t *ret_user) {
    char path[40], text[512];
    int parent, group, session;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat owner;
    ssize_t n = fd < 0 || fstat(fd, &owner) < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return false;
    text[n] = 0;
    // The name may hold blanks and brackets: fields are counted behind the last one.
    const char *p = strrchr(text, ')');
    if (!p || sscanf(p + 1, " %*c %d %d %d", &parent, &group, &session) != 3)
        return false;
    *ret_parent = parent;
    *ret_session = session;
    *ret_user = owner.st_uid;
    return true;
}

// Whether a process is the service's own: of its session, or descended from what we started; or
// such an orphan of its user that has come to us, and is in no other's session. Else anybody's
// could be named, and would be killed for it.
static bool is_own(const struct sup *s, const struct svc *v, pid_t pid) {
    enum {
        DEEPEST = 64
    };
    pid_t parent, session, first, any;
    uid_t user, whose;
    if (!look_up(pid, &parent, &session, &user))
        return false;
    if (session == v->group)
        return true;
    first = parent;
    for (int i = 0; parent > 1 && i < DEEPEST; i++) {
        if (parent == v->leader)
            return true;
        if (!look_up(parent, &parent, &any, &whose))
            return false;
    }
    for (size_t i = 0; i < s->n; i++)
        if (session == s->svc[i].group)
            return false;
    return first == getpid() && pid != s->log.pid && pid != s->forward.pid &&
           user == (v->def->set_user ? v->def->user.uid : geteuid());
}

static void take_main_pid(struct sup *s, struct svc *v, const char *text) {
    char *end;
    long pid = strtol(text, &end, 10);
    if (*end || pid <= 1 || pid > INT_MAX || pid == v->pid)
        return;
    for (size_t i = 0; i < s->n; i++)
        if (s->svc[i].pid == pid || s->svc[i].check == pid)
            return; // another's
    if (!is_own(s, v, (pid_t)pid)) {
        log_warning("service %s: MAINPID=%ld is no process of its own", v->def->name, pid);
        return;
    }
    log_debug("service %s: main process is now %ld", v->def->name, pid);
    notify_forget_main(v);
    v->pid = (pid_t)pid;
    s->dirty = true;
    // While its parent lives, the kernel tells only that of its end.
    v->pid_fd = (int)syscall(SYS_pidfd_open, v->pid, 0);
    if (v->pid_fd >= 0 && loop_watch(s, v->pid_fd, LOOP_MAIN_PID, v - s->svc) < 0)
        notify_forget_main(v);
}

void notify_forget_main(struct svc *v) {
    if (v->pid_fd >= 0)
        close(v->pid_fd);
    v->pid_fd = -1;
}

static void take_line(struct sup *s, struct svc *v, const char *line) {
    if (strcmp(line, "READY=1") == 0) {
        if (!v->def->task)
            sup_feed(s, v, SVC_IS_READY);
    } else if (strncmp(line, "STATUS=", 7) == 0) {
        s->dirty |= strncmp(v->status, line + 7, sizeof v->status - 1) != 0;
        snprintf(v->status, sizeof v->status, "%s", line + 7);
    } else if (strncmp(line, "MAINPID=", 8) == 0) {
        take_main_pid(s, v, line + 8);
    } else if (strcmp(line, "STOPPING=1") == 0 && v->state != SVC_STOPPING) {
        sup_because(v, "it says that it stops");
        sup_feed(s, v, SVC_LEAVES);
    }
}

// Root, we, or the service's own user; a sender of another pid namespace has pid 0.
static bool allowed(const struct svc *v, struct msghdr *m) {
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_CREDENTIALS)
            continue;
        struct ucred who;
        memcpy(&who, CMSG_DATA(c), sizeof who);
        return who.pid > 0 && (who.uid == 0 || who.uid == geteuid() ||
                               (v->def->set_user && who.uid == v->def->user.uid));
    }
    return false;
}

// Descriptors that come along (FDSTORE=1) are not kept.
static void close_passed(struct msghdr *m) {
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
            for (size_t i = 0; CMSG_LEN((i + 1) * sizeof(int)) <= c->cmsg_len; i++) {
                int fd;
                memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
                close(fd);
            }
}

void notify_read(struct sup *s, size_t index) {
    enum {
        MOST = 32 // in one round: a flood must not keep us from all else
    };
    struct svc *v = index < s->n ? &s->svc[index] : NULL;
    for (int i = 0; v && v->notify_fd >= 0 && i < MOST; i++) {
        char text[2048];
        union {
            struct cmsghdr align;
            char room[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(64 * sizeof(int))];
        } control;
        struct iovec io = {text, sizeof text - 1};
        struct msghdr m = {.msg_iov = &io,
                           .msg_iovlen = 1,
                           .msg_control = control.room,
                           .msg_controllen = sizeof control.room};
        ssize_t n = recvmsg(v->notify_fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n < 0)
            return;
        close_passed(&m);
        text[n] = 0;
        if (!svc_alive(v->state) || !allowed(v, &m) || (m.msg_flags & MSG_TRUNC))
            continue;
        char *save;
        for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
            take_line(s, v, line);
    }
}

void notify_fd_read(struct sup *s, size_t index) {
    char text[256];
    struct svc *v = index < s->n ? &s->svc[index] : NULL;
    if (!v || v->ready_fd < 0)
        return;
    ssize_t n = read(v->ready_fd, text, sizeof text);
    if (n < 0)
        return;
    bool said = memchr(text, '\n', n) != NULL;
    if (n > 0 && !said)
        return;
    close(v->ready_fd);
    v->ready_fd = -1;
    if (said)
        sup_feed(s, v, SVC_IS_READY);
}

void notify_close(struct sup *s, struct svc *v) {
    char path[4096];
    if (v->notify_fd < 0)
        return;
    close(v->notify_fd);
    v->notify_fd = -1;
    snprintf(path, sizeof path, "%s/notify.%s", s->plan->run_dir, v->def->name);
    unlink(path);
}
