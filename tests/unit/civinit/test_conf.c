#include "conf/conf.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64];

static void make_dir(void) {
    strcpy(dir, "/tmp/civinit-conf-XXXXXX");
    cr_assert(mkdtemp(dir));
}

static void remove_dir(void) {
    char command[100];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    cr_expect(system(command) == 0);
}

static char *put(const char *name, const char *text) {
    static char path[200];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    cr_assert(f);
    fputs(text, f);
    fclose(f);
    return path;
}

TestSuite(conf, .init = make_dir, .fini = remove_dir);

Test(conf, long_lines_continuations_and_drop_ins) {
    char text[4000] = "[service apache]\ncommand = x ";
    memset(text + strlen(text), 'y', 1000);
    strcat(text,
           " \";\" kept\nafter = a\n  b\n\nenv.X = 1\n; comment\n[container]\nmain = apache\n");
    char d[100], path[200];
    snprintf(d, sizeof d, "%s/web.d", dir);
    mkdir(d, 0755);
    put("web.d/10.ini", "[service apache]\nenv.X = 2\nafter = c\n");
    put("web.d/ignored.txt", "rubbish");
    strcpy(path, put("web.ini", text));
    struct conf c = {0};
    struct err e = {0};
    cr_assert(conf_load(&c, path, NULL, &e) == 0, "%s", e.text);
    cr_expect(c.nproblems == 0, "%s", c.nproblems ? c.problems[0] : "");
    const char *command = conf_text(&c, "service", "apache", "command", "");
    cr_expect(strlen(command) == 1000 + 2 + 9, "%zu", strlen(command));
    cr_expect(strstr(command, " \";\" kept"));
    cr_expect_str_eq(conf_text(&c, "service", "apache", "env.X", ""), "2");
    char **after = conf_list(&c, "service", "apache", "after");
    cr_expect_str_eq(after[0], "c", "a drop-in replaces");
    cr_expect_null(after[1]);
    conf_free(&c);
}

Test(conf, every_problem_has_its_line) {
    char path[200];
    strcpy(path,
           put("bad.ini",
               "stray = 1\n[servise x]\ncommand = a\n[service apache]\ncomand = b\nready = maybe\n"
               "restart = sometimes\nrubbish\n[service\n[container] x\n[service]\n"
               "[container]\ngrace = 5\nlog = text\nlog = json\nenv.A = ${NOT_SET_AT_ALL}\n"
               "env.B = ${file:/nonexistent}\nenv.C = ${unclosed\n"));
    struct conf c = {0};
    struct err e = {0};
    cr_assert(conf_load(&c, path, NULL, &e) == 0);
    static const char *const want[] = {
        "bad.ini:1: a key before",
        "bad.ini:2: [servise x]: unknown section; did you mean [service]?",
        "bad.ini:5: [service apache] comand: unknown key; did you mean \"command\"?",
        "bad.ini:8:",
        "bad.ini:9:",
        "bad.ini:10:",
        "bad.ini:11: [service]: this section needs a name",
        "bad.ini:15: [container] log: given twice; first on line 14",
        "bad.ini:6: [service apache] ready: \"maybe\" is no check",
        "bad.ini:7:",
        "bad.ini:13: [container] grace:",
        "bad.ini:16: [container] env.A: the environment variable NOT_SET_AT_ALL",
        "bad.ini:17:",
        "bad.ini:18:"};
    for (unsigned i = 0; i < sizeof want / sizeof *want; i++) {
        bool found = false;
        for (size_t j = 0; j < c.nproblems; j++)
            found |= strstr(c.problems[j], want[i]) != NULL;
        cr_expect(found, "%s", want[i]);
    }
    cr_expect(c.nproblems == sizeof want / sizeof *want, "%zu", c.nproblems);
    conf_free(&c);
}

Test(conf, variables_files_and_secrets) {
    char secret[200], text[500], path[200];
    strcpy(secret, put("secret", "s3cr3t\n"));
    setenv("CONF_TEST_A", "alpha", 1);
    snprintf(text, sizeof text,
             "[container]\nenv.A = ${CONF_TEST_A}/${CONF_TEST_NONE:-none}/$1 $$ $(x)\nenv.S = "
             "${file:%s}\n",
             secret);
    strcpy(path, put("v.ini", text));
    struct conf c = {0};
    struct err e = {0};
    cr_assert(conf_load(&c, path, NULL, &e) == 0);
    cr_expect(c.nproblems == 0);
    cr_expect_str_eq(conf_text(&c, "container", "", "env.A", ""), "alpha/none/$1 $ $(x)");
    cr_expect_str_eq(conf_text(&c, "container", "", "env.S", ""), "s3cr3t");
    cr_expect(conf_find(&c, "container", "", "env.S")->secret);
    cr_expect(!conf_find(&c, "container", "", "env.A")->secret);
    conf_free(&c);
    // Sections that are not used need no secret.
    unlink(secret);
    const char *used[] = {"service", NULL};
    cr_assert(conf_load(&c, path, used, &e) == 0);
    cr_expect(c.nproblems == 0);
    conf_free(&c);
}

Test(conf, a_comment_needs_a_line_of_its_own) {
    char path[200];
    strcpy(
        path,
        put("c.ini",
            "[container]\nmain = a ; the one\n[service a]\ncommand = sleep 1 ; x\n"
            "after = b ;c\n[service b]\ncommand = sh -c 'a ; b' \\; \";\" a;b\nenv.X = a ; b\n"));
    struct conf c = {0};
    struct err e = {0};
    cr_assert(conf_load(&c, path, NULL, &e) == 0);
    cr_expect(c.nproblems == 3, "%zu %s", c.nproblems, c.nproblems > 3 ? c.problems[3] : "");
    for (size_t i = 0; i < c.nproblems; i++)
        cr_expect(strstr(c.problems[i], "a line of its own"), "%s", c.problems[i]);
    conf_free(&c);
}
