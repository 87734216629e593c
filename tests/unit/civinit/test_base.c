#include "base/spawn.h"
#include "base/statusfile.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

// Runs `sh -c script` so, its output in `out`; the exit status.
static int run(struct spawn s, const char *script, char *out, size_t size) {
    int p[2];
    cr_assert(pipe2(p, O_CLOEXEC) == 0);
    struct spawn_fd fds[] = {{p[1], 1}};
    char *argv[] = {(char *)"sh", (char *)"-c", (char *)script, NULL};
    if (!s.fds) {
        s.fds = fds;
        s.nfds = 1;
    }
    s.argv = argv;
    struct err e = {0};
    pid_t pid;
    cr_assert(spawn_process(&s, &pid, &e) == 0, "%s", e.text);
    close(p[1]);
    size_t n = 0;
    ssize_t got;
    while ((got = read(p[0], out + n, size - 1 - n)) > 0)
        n += got;
    out[n] = 0;
    close(p[0]);
    int status;
    cr_assert(waitpid(pid, &status, 0) == pid);
    return status;
}

Test(spawn, what_the_child_gets) {
    char out[400];
    char *envp[] = {(char *)"PATH=/usr/bin:/bin", (char *)"A=b", NULL};
    struct spawn_rlimit limit = {RLIMIT_NOFILE, "nofile", {77, 77}};
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    signal(SIGPIPE, SIG_IGN);
    struct spawn s = {.envp = envp,
                      .cwd = "/usr",
                      .rlimits = &limit,
                      .nrlimits = 1,
                      .set_umask = true,
                      .umask = 027,
                      .set_nice = true,
                      .nice = 5,
                      .session = true};
    int status = run(s,
                     "echo $A $PWD $(ulimit -n) $(umask) $(nice) "
                     "$(cut -d' ' -f6 /proc/self/stat | grep -qx $$ && echo leads) "
                     "$(grep -E 'SigBlk|SigIgn' /proc/self/status | tr -d ' \\n\\t' | "
                     "sed 's/Ign:\\(.\\{8\\}\\)8/Ign:\\10/'); exit 3", // 32 is the C library's own
                     out, sizeof out);
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 3);
    cr_expect_str_eq(out, "b /usr 77 0027 5 leads "
                          "SigBlk:0000000000000000SigIgn:0000000000000000\n");
    if (getuid() != 0)
        return;
    gid_t groups[] = {7, 9};
    struct spawn user = {
        .set_user = true, .uid = 12345, .gid = 54321, .groups = groups, .ngroups = 2};
    run(user, "id -u; id -g; id -G", out, sizeof out);
    cr_expect_str_eq(out, "12345\n54321\n54321 7 9\n");
}

Test(spawn, crossed_descriptors) {
    int p[2];
    char out[100];
    cr_assert(pipe2(p, O_CLOEXEC) == 0);
    int a = fcntl(open("/dev/null", O_RDWR | O_CLOEXEC), F_DUPFD_CLOEXEC, 60);
    dup3(a, 55, O_CLOEXEC);
    dup3(p[1], 56, O_CLOEXEC);
    struct spawn_fd fds[] = {{55, 56}, {56, 55}, {56, 1}};
    char *argv[] = {(char *)"sh", (char *)"-c",
                    (char *)"readlink /proc/$$/fd/56; echo x >/proc/$$/fd/55", NULL};
    struct spawn s = {.argv = argv, .fds = fds, .nfds = 3};
    pid_t pid;
    struct err e = {0};
    cr_assert(spawn_process(&s, &pid, &e) == 0, "%s", e.text);
    int status;
    waitpid(pid, &status, 0);
    ssize_t n = read(p[0], out, sizeof out - 1);
    out[n > 0 ? n : 0] = 0;
    cr_expect_str_eq(out, "/dev/null\nx\n");
}

Test(spawn, failures_name_their_step) {
    struct spawn_rlimit limit = {RLIMIT_NOFILE, "nofile", {100, 50}};
    const struct {
        struct spawn s;
        const char *program;
        const char *want;
        int why;
    } rows[] = {
        {{0}, "/nonexistent/x", "exec /nonexistent/x: No such file or directory", ENOENT},
        {{0}, "nonexistent-program", "exec nonexistent-program: not found in PATH", ENOENT},
        {{0}, "/etc/passwd", "exec /etc/passwd: Permission denied", EACCES},
        {{.cwd = "/nonexistent"}, "true", "cwd /nonexistent: No such file or directory", ENOENT},
        {{.rlimits = &limit, .nrlimits = 1}, "true", "rlimit.nofile: Invalid argument", EINVAL},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *argv[] = {(char *)rows[i].program, NULL};
        struct spawn s = rows[i].s;
        s.argv = argv;
        struct err e = {0};
        pid_t pid = -7;
        cr_expect(spawn_process(&s, &pid, &e) < 0);
        cr_expect(errno == rows[i].why, "%d", errno);
        cr_expect_str_eq(e.text, rows[i].want);
        cr_expect(pid == -7 && waitpid(-1, NULL, WNOHANG) < 0, "no child is left");
    }
}

Test(statusfile, what_is_written_is_read) {
    struct statusfile_service services[] = {
        {.name = "apache",
         .kind = "service",
         .state = "ready",
         .pid = 12,
         .since_ms = 5,
         .ready_ms = 120,
         .exit = -1,
         .status = "100 % of\ncaf\xc3\xa9",
         .reason = ""},
        {.name = "warm", .kind = "task", .state = "failed", .exit = 1, .signal = 9, .oom = true},
    };
    struct statusfile s = {.role = "web",
                           .state = "starting",
                           .started_ms = 1767225600000,
                           .pid = 1,
                           .main = "apache",
                           .services = services,
                           .n = 2},
                      r;
    char text[4096];
    struct err e = {0};
    size_t len = statusfile_format(&s, text, sizeof text);
    cr_assert(len == strlen(text) && len);
    cr_expect(strstr(text, "status=100%20%25%20of%0Acaf%C3%A9 "), "%s", text);
    cr_expect(statusfile_format(&s, text, len) == 0, "too small by one");
    cr_assert(statusfile_format(&s, text, len + 1) == len);
    cr_assert(statusfile_parse(text, &r, &e) == 0);
    cr_expect_str_eq(r.role, "web");
    cr_expect(r.started_ms == 1767225600000 && r.n == 2);
    cr_expect_str_eq(r.services[0].status, services[0].status);
    cr_expect_str_eq(r.services[1].reason, "");
    cr_expect(r.services[1].oom && r.services[1].signal == 9 && r.services[0].pid == 12);
    cr_expect(statusfile_find(&r, "warm") == &r.services[1]);
    statusfile_free(&r);
    cr_assert(statusfile_parse("civinit 1\nnew thing=1\nservice x name=a%zz odd pid=x\nservice \n",
                               &r, &e) == 0);
    cr_expect(r.n == 2);
    cr_expect_str_eq(r.services[0].name, "a%zz");
    statusfile_free(&r);
    cr_expect(statusfile_parse("civinit 2\n", &r, &e) < 0);
    cr_expect(statusfile_read("/nonexistent", &r, &e) < 0);
    cr_expect(e.code == 69, "%d", e.code);
}
