#include "backup/jobslock.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

extern char **environ;

#define HELPER "civinit-jobs-helper"

// Beside this program, else by PATH.
static void find_helper(char *path, size_t size) {
    ssize_t n = readlink("/proc/self/exe", path, size - 1);
    path[n > 0 ? n : 0] = 0;
    char *slash = strrchr(path, '/');
    if (slash)
        snprintf(slash + 1, size - (slash + 1 - path), "%s", HELPER);
    if (!slash || access(path, X_OK) < 0)
        snprintf(path, size, "%s", HELPER);
}

// The first line it prints, without the newline.
static void read_line(int fd, char *line, size_t size) {
    size_t n = 0;
    for (char c; n < size - 1;) {
        ssize_t got = read(fd, &c, 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0 || c == '\n')
            break;
        line[n++] = c;
    }
    line[n] = 0;
}

static int start(struct jobslock *l, const struct options *o, int *ret_out, struct err *e) {
    char path[4096], wait[32];
    int in[2], out[2];
    find_helper(path, sizeof path);
    snprintf(wait, sizeof wait, "%lldms", (long long)o->lock_wait_ms);
    const char *argv[] = {path,    "lock",   "--config", o->config, "--name",
                          o->lock, "--wait", wait,       NULL};
    if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0)
        return err_errno(e, EX_OSERR, "pipe");
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, in[0], 0);
    posix_spawn_file_actions_adddup2(&files, out[1], 1);
    int rc = posix_spawnp(&l->pid, path, &files, NULL, (char *const *)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&files);
    close(in[0]);
    close(out[1]);
    l->in = in[1];
    *ret_out = out[0];
    if (rc == 0)
        return 0;
    l->pid = 0;
    close(in[1]);
    close(out[0]);
    errno = rc;
    return err_errno(e, EX_UNAVAILABLE, "%s", HELPER);
}

int jobslock_take(struct jobslock *l, const struct options *o, struct err *e) {
    char line[512] = "";
    if (!o->config)
        return err_set(e, EX_CONFIG, "[backup] lock needs a configuration file");
    autoclose int out = -1;
    if (start(l, o, &out, e) < 0)
        return -1;
    read_line(out, line, sizeof line);
    if (strcmp(line, "held") == 0)
        return 0;
    jobslock_release(l);
    if (strncmp(line, "busy", 4) == 0)
        return err_set(e, EX_TEMPFAIL, "the jobs' lock %s is held%s%s", o->lock,
                       line[4] ? " by " : "", line[4] ? line + 5 : "");
    return err_set(e, EX_UNAVAILABLE, "the jobs' lock %s cannot be taken", o->lock);
}

void jobslock_release(struct jobslock *l) {
    if (!l->pid)
        return;
    close(l->in);
    while (waitpid(l->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    l->pid = 0;
}
