#include "conf/plan.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct conf c;
static struct plan p;
static char dir[64], path[100];

static void make_dir(void) {
    strcpy(dir, "/tmp/civinit-plan-XXXXXX");
    cr_assert(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/web.ini", dir);
}

static void remove_dir(void) {
    char command[100];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    cr_expect(system(command) == 0);
    plan_free(&p);
    conf_free(&c);
}

static void plan_with(const char *text, struct plan_options o) {
    FILE *f = fopen(path, "w");
    cr_assert(f);
    fputs(text, f);
    fclose(f);
    plan_free(&p);
    conf_free(&c);
    struct err e = {0};
    cr_assert(conf_load(&c, path, plan_sections, &e) == 0, "%s", e.text);
    o.role = "web.ini";
    o.config = path;
    cr_assert(plan_make(&p, &c, &o, &e) == 0, "%s", e.text);
}

static void plan_text(const char *text) {
    plan_with(text, (struct plan_options){0});
}

static const char *env_of(const struct plan_service *s, const char *name) {
    size_t n = strlen(name);
    for (char **v = s->envp; *v; v++)
        if (strncmp(*v, name, n) == 0 && (*v)[n] == '=')
            return *v + n + 1;
    return NULL;
}

TestSuite(plan, .init = make_dir, .fini = remove_dir);

Test(plan, order_defaults_and_environment) {
    char envfile[120], text[900];
    snprintf(envfile, sizeof envfile, "%s/env", dir);
    FILE *f = fopen(envfile, "w");
    fputs("# comment\n\nexport A=file\nB='two words'\n", f);
    fclose(f);
    snprintf(text, sizeof text,
             "[container]\nmain = apache\ngrace = 20s\nenv.A = container\nenv.C = container\n"
             "[service apache]\ncommand = apache2 'a b'\nafter = router warm off\nready = notify\n"
             "env_file = %s\nenv.C = own\nrlimit.nofile = 100:200\nrlimit.core = unlimited\n"
             "success = 1 2\n"
             "[service router]\ncommand = router\nready = unix:/run/x.sock\nstop_signal = INT\n"
             "[task warm]\ncommand = true\nafter = router\nretry = 3\n"
             "[service off]\ncommand = x\nenabled = no\n",
             envfile);
    plan_text(text);
    cr_assert(c.nproblems == 0, "%s", c.nproblems ? c.problems[0] : "");
    cr_assert(p.n == 3);
    cr_expect_str_eq(p.services[0].name, "router");
    cr_expect_str_eq(p.services[1].name, "warm");
    cr_expect_str_eq(p.services[2].name, "apache");
    cr_expect(p.main == 2 && p.services[2].main && p.services[2].nafter == 2);
    cr_expect(p.services[2].depth == 2 && p.services[0].depth == 0);
    cr_expect_str_eq(p.role, "web");
    const struct plan_service *apache = &p.services[2], *router = &p.services[0];
    cr_expect_str_eq(apache->argv[1], "a b");
    cr_expect_str_eq(env_of(apache, "A"), "file");
    cr_expect_str_eq(env_of(apache, "B"), "two words");
    cr_expect_str_eq(env_of(apache, "C"), "own");
    cr_expect(env_of(apache, "NOTIFY_SOCKET") && !env_of(router, "NOTIFY_SOCKET"));
    cr_expect(apache->restart == VERDICT_NEVER && router->restart == VERDICT_ALWAYS);
    cr_expect(router->stop_signal == SIGINT && router->stop_timeout_ms == 10000);
    cr_expect(p.services[1].max_restarts == 3 && p.services[1].restart == VERDICT_ON_FAILURE);
    cr_expect(apache->nsuccess == 2 && apache->success[1] == 2);
    cr_expect(apache->nrlimits == 2 && apache->rlimits[0].limit.rlim_max == 200);
    cr_expect(router->ready.kind == CHECK_PROBE);
    cr_expect_str_eq(router->ready.argv[1], "--wait");
    cr_expect_str_eq(router->ready.argv[2], "60000ms");
    cr_expect_str_eq(router->ready.argv[3], "unix");
    cr_expect_str_eq(router->ready.argv[4], "/run/x.sock");
}

Test(plan, words_and_once) {
    char *words[] = {(char *)"--x", (char *)"y z", NULL};
    plan_with("[service a]\ncommand = a b\nrestart = always\n",
              (struct plan_options){.words = words, .once = true});
    cr_assert(c.nproblems == 0);
    cr_expect_str_eq(p.services[0].argv[3], "y z");
    cr_expect_null(p.services[0].argv[4]);
    cr_expect(p.services[0].restart == VERDICT_NEVER);
}

Test(plan, a_hash_for_what_a_process_is_started_with) {
    static const char base[] = "[container]\nmain = a\n[service a]\ncommand = x\n";
    static const struct {
        const char *more;
        bool same;
    } rows[] = {{"", true},
                {"ready_timeout = 5s\n", true},
                {"stop_signal = INT\n", true},
                {"env.A = 1\n", false},
                {"cwd = /\n", false},
                {"nice = 3\n", false},
                {"user = 1234\n", false},
                {"rlimit.nofile = 9\n", false},
                {"ready = notify\n", false},
                {"health = tcp:127.0.0.1:1\n", true}};
    if (getuid() != 0)
        cr_skip_test("only root becomes somebody");
    plan_text(base);
    uint64_t first = p.services[0].hash;
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[300];
        snprintf(text, sizeof text, "%s%s", base, rows[i].more);
        plan_text(text);
        cr_expect((p.services[0].hash == first) == rows[i].same, "%s", rows[i].more);
    }
}

Test(plan, users) {
    if (getuid() != 0)
        cr_skip_test("only root becomes somebody");
    plan_text("[container]\nmain = a\n[service a]\ncommand = x\nuser = 33\n"
              "[service b]\ncommand = x\nuser = www-data\ngroup = 7777\n"
              "[service c]\ncommand = x\nuser = 54321\n");
    cr_assert(c.nproblems == 0, "%s", c.nproblems ? c.problems[0] : "");
    cr_expect(p.services[0].user.gid == 33);
    cr_expect_str_eq(env_of(&p.services[0], "USER"), "www-data");
    cr_expect(p.services[1].user.uid == 33 && p.services[1].user.gid == 7777);
    cr_expect(p.services[2].user.uid == 54321 && p.services[2].user.gid == 54321);
}

Test(plan, each_problem_is_said) {
    static const struct {
        const char *text, *want;
    } rows[] = {
        {"[container]\ngrace = 5s\n", "main: there is no service"},
        {"[service a]\ncommand = x\n[service b]\ncommand = x\n", "main: missing"},
        {"[container]\nmain = apach\n[service apache]\ncommand = x\n",
         ":2: [container] main: no enabled service \"apach\"; did you mean \"apache\"?"},
        {"[service a]\nnice = 1\n", ":1: [service a] command: is missing"},
        {"[service a]\ncommand = x\nafter = b\n", "after: there is no service or task \"b\""},
        {"[container]\nmain = a\n[service a]\ncommand = x\nafter = b\n[task b]\ncommand = "
         "x\nafter = a\n",
         "a after b after a"},
        {"[service a]\ncommand = x\nafter = a\n", "a after a"},
        {"[service a]\ncommand = x\n[task a]\ncommand = x\n", "of the same name"},
        {"[container]\ngrace = 5s\ndrain = 5s\n[service a]\ncommand = x\n", "drain: is as long"},
        {"[container]\ngrace = 5s\n[service a]\ncommand = x\nstop_timeout = 6s\n", "stop_timeout:"},
        {"[service a]\ncommand = x\nuser = www-dat\n", "did you mean \"www-data\"?"},
        {"[service a]\ncommand = x\ngroup = www-dat\n", "] group: the group \"www-dat\""},
        {"[service a]\ncommand = x\nrlimit.nofiles = 5\n", "did you mean rlimit.nofile?"},
        {"[service a]\ncommand = x\nrlimit.nofile = 5:4\n", "soft limit"},
        {"[service a]\ncommand = x\nrlimit.nofile = many\n", "\"many\" is no limit"},
        {"[service a]\ncommand = x\nnice = 99\n", "nice: 99 is not between -20 and 19"},
        {"[service a]\ncommand = x\noom_score_adj = x\n", "oom_score_adj:"},
        {"[service a]\ncommand = x\ncwd = here\n", "cwd: is not an absolute"},
        {"[service a]\ncommand = x\nhealth = notify\n", "cannot tell its health"},
        {"[service a]\ncommand = x\nready = fd:1\n", "ready: fd:N:"},
        {"[service a]\ncommand = x\nsuccess = 300\n", "success:"},
        {"[service a]\ncommand = x\nbackoff = 5s\nbackoff_max = 1s\n", "backoff_max:"},
        {"[service a]\ncommand = x\nenv_file = /nonexistent\n", "env_file: /nonexistent"},
        {"[service a]\ncommand = x\nhealth_interval = 0\n", "health_interval:"},
        {"[container]\numask = 9\n[service a]\ncommand = x\n", "umask:"},
        {"[container]\nlog = inherit\n[forward]\nto = x:1\n[service a]\ncommand = x\n",
         "log: [forward] needs"},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        plan_text(rows[i].text);
        bool found = false;
        for (size_t k = 0; k < c.nproblems; k++)
            found |= strstr(c.problems[k], rows[i].want) != NULL;
        cr_expect(found && c.nproblems == 1, "%s: %zu: %s", rows[i].want, c.nproblems,
                  c.nproblems ? c.problems[0] : "none");
    }
}
