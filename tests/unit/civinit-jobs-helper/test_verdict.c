#include "civicrm/verdict.h"

#include <criterion/criterion.h>
#include <string.h>

#define BEGIN                                                                                      \
    { 0, 100, NULL, "Starting scheduled jobs execution", NULL }
#define END                                                                                        \
    { 0, 200, NULL, "Finishing scheduled jobs execution.", NULL }
#define START(i, n)                                                                                \
    { i, 110, n, "Starting execution of " n, NULL }
#define OK(i, n)                                                                                   \
    { i, 117, n, "Finished execution of " n " with result: Success (1)", NULL }
#define BAD(i, n)                                                                                  \
    { i, 112, n, "Finished execution of " n " with result: Failure, Error message: no", NULL }
#define MAUVAIS(i, n)                                                                              \
    { i, 112, n, "Finished execution of " n " with result: Echec, Error message: non", NULL }

struct verdict_case {
    const char *what;
    struct verdict_row rows[8];
    struct verdict_process process;
    enum outcome run;
    const char *reason; // a part of it
    enum outcome jobs[4];
    size_t njobs;
};

static const struct verdict_case cases[] = {
    {"nothing due", {BEGIN, END}, {0}, OUTCOME_SUCCESS, "", {0}, 0},
    {"all fine",
     {BEGIN, START(1, "A"), OK(1, "A"), END},
     {0},
     OUTCOME_SUCCESS,
     "",
     {OUTCOME_SUCCESS},
     1},
    {"mailings are due, and nothing was sent",
     {BEGIN,
      START(1, "A"),
      {1, 117, "A", "Finished execution of A with result: Success (1)", NULL, 2},
      START(2, "B"),
      OK(2, "B"),
      END},
     {0},
     OUTCOME_FAILURE,
     "job \"A\" failed: 2 parts of mailings due, and nothing was sent: may the account",
     {OUTCOME_FAILURE, OUTCOME_SUCCESS},
     2},
    {"one failed",
     {BEGIN, START(1, "A"), BAD(1, "A"), START(2, "B"), OK(2, "B"), END},
     {0},
     OUTCOME_FAILURE,
     "job \"A\" failed: no",
     {OUTCOME_FAILURE, OUTCOME_SUCCESS},
     2},
    {"one failed, in French",
     {BEGIN, START(1, "A"), MAUVAIS(1, "A"), END},
     {0},
     OUTCOME_FAILURE,
     "job \"A\" failed: non",
     {OUTCOME_FAILURE},
     1},
    {"two failed",
     {BEGIN, START(1, "A"), BAD(1, "A"), START(2, "B"), BAD(2, "B"), END},
     {.exit = 1},
     OUTCOME_FAILURE,
     "(and 1 more)",
     {OUTCOME_FAILURE, OUTCOME_FAILURE},
     2},
    {"a success that speaks of errors",
     {BEGIN,
      START(1, "A"),
      {1, 111, "A", "Finished execution of A with result: Success (x, Error message: y)", NULL},
      END},
     {0},
     OUTCOME_SUCCESS,
     "",
     {OUTCOME_SUCCESS},
     1},
    {"a name that speaks of errors",
     {BEGIN, START(1, "A with result: X, Error message: y"),
      OK(1, "A with result: X, Error message: y"), END},
     {0},
     OUTCOME_SUCCESS,
     "",
     {OUTCOME_SUCCESS},
     1},
    {"exception",
     {BEGIN,
      START(1, "A"),
      {1, 111, "A", "Error while executing A: thrown", NULL},
      BAD(1, "A"),
      END},
     {0},
     OUTCOME_FAILURE,
     "thrown",
     {OUTCOME_FAILURE},
     1},
    {"not in production",
     {BEGIN, {1, 111, "A", "Error while executing A: Job has not been executed", NULL}, END},
     {0},
     OUTCOME_SUCCESS,
     "",
     {OUTCOME_SKIPPED},
     1},
    {"PHP error",
     {BEGIN, START(1, "A"), OK(1, "A"), START(2, "B")},
     {.exit = 255,
      .output =
          "<html>\n<p>There was a problem</p>\nPHP Fatal error:  Uncaught Error: nothing\n#0\n"},
     OUTCOME_CRASHED,
     "job \"B\" began and never ended: exit code 255: PHP Fatal error: Uncaught Error: nothing",
     {OUTCOME_SUCCESS, OUTCOME_CRASHED},
     2},
    {"killed",
     {BEGIN, START(1, "A")},
     {.signal = 15},
     OUTCOME_CRASHED,
     "killed by SIGTERM",
     {OUTCOME_CRASHED},
     1},
    {"killed under a shell",
     {BEGIN, START(1, "A")},
     {.exit = 139},
     OUTCOME_CRASHED,
     "exit code 139 (SIGSEGV)",
     {OUTCOME_CRASHED},
     1},
    {"ended silently",
     {BEGIN, START(1, "A")},
     {0},
     OUTCOME_INCOMPLETE,
     "job \"A\" began and never ended: exit code 0",
     {OUTCOME_CRASHED},
     1},
    {"ended between jobs",
     {BEGIN, START(1, "A"), OK(1, "A")},
     {0},
     OUTCOME_INCOMPLETE,
     "never finished",
     {OUTCOME_SUCCESS},
     1},
    {"ended before a job", {BEGIN}, {0}, OUTCOME_BROKEN, "before its first job", {0}, 0},
    {"wrong password",
     {{0}},
     {.output = "ERROR: Invalid username and/or password\n"},
     OUTCOME_BROKEN,
     "ERROR: Invalid username",
     {0},
     0},
    {"killed at once",
     {{0}},
     {.signal = 9},
     OUTCOME_CRASHED,
     "no job began, killed by SIGKILL",
     {0},
     0},
    {"exit code only", {BEGIN, END}, {.exit = 1}, OUTCOME_FAILURE, "exit code 1, though", {0}, 0},
    {"somebody else's job",
     {BEGIN, START(7, "Z"), START(1, "A"), OK(1, "A"), END},
     {0},
     OUTCOME_SUCCESS,
     "",
     {OUTCOME_UNFINISHED, OUTCOME_SUCCESS},
     2},
    {"one job of its own",
     {START(1, "A"), BAD(1, "A"), START(2, "B")},
     {.only_job = 1},
     OUTCOME_FAILURE,
     "job \"A\" failed: no",
     {OUTCOME_FAILURE},
     1},
    {"one job, crashed",
     {START(1, "A"), OK(1, "A"), START(2, "B")},
     {.only_job = 2, .exit = 255},
     OUTCOME_CRASHED,
     "exit code 255",
     {OUTCOME_CRASHED},
     1},
    {"one job, fine",
     {START(1, "A"), OK(1, "A")},
     {.only_job = 1},
     OUTCOME_SUCCESS,
     "",
     {OUTCOME_SUCCESS},
     1},
    {"one job, nothing", {BEGIN, END}, {.only_job = 1}, OUTCOME_BROKEN, "no job began", {0}, 0},
};

Test(verdict, cases) {
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct verdict_case *c = &cases[i];
        struct verdict v;
        size_t n = 0;
        while (n < 8 && c->rows[n].description)
            n++;
        cr_assert(verdict_judge(&v, c->rows, n, &c->process) == 0);
        cr_expect(v.outcome == c->run, "%s: %s", c->what, outcome_word(v.outcome));
        cr_expect(strstr(v.reason, c->reason) != NULL, "%s: \"%s\"", c->what, v.reason);
        cr_expect((c->run == OUTCOME_SUCCESS) == (*v.reason == 0), "%s: \"%s\"", c->what, v.reason);
        cr_expect(v.n == c->njobs, "%s: %zu jobs", c->what, v.n);
        for (size_t k = 0; k < v.n && k < c->njobs; k++)
            cr_expect(v.jobs[k].outcome == c->jobs[k], "%s: job %zu: %s", c->what, k,
                      outcome_word(v.jobs[k].outcome));
        verdict_free(&v);
    }
}

// The description is cut inside the name or the error: `data` has the whole text.
Test(verdict, long_texts) {
    static const struct verdict_row rows[] = {
        BEGIN,
        START(1, "A"),
        {1, 115, "A", "Finished execution of A with (...)",
         "\n\nFull message: \nFinished execution of A with result: Echec, Error message: "
         "the\n<b>whole</b>\ttext \x1b[31m"},
        END};
    struct verdict v;
    cr_assert(verdict_judge(&v, rows, 4, &(struct verdict_process){0}) == 0);
    cr_expect(v.outcome == OUTCOME_FAILURE);
    cr_assert(v.n == 1);
    cr_expect_str_eq(v.jobs[0].message, "the whole text [31m");
    cr_expect(v.jobs[0].seconds == 5);
    struct buf out = {0};
    verdict_print(&v, &out);
    cr_expect_str_eq(
        out.data,
        "{\"job\":\"A\",\"id\":1,\"outcome\":\"failure\",\"seconds\":5,\"message\":\"the whole "
        "text [31m\"}\n{\"run\":\"failure\",\"reason\":\"job \\\"A\\\" failed: the whole text "
        "[31m\"}\n");
    buf_free(&out);
    verdict_free(&v);
}

Test(verdict, telling_line) {
    static const struct {
        const char *output, *line;
    } rows[] = {
        {"", ""},
        {"\n \n", ""},
        {"one\ntwo\n", "two"},
        {"<h1>Initialization Error</h1>\nArray\n(\n)\n", "Initialization Error"},
        {"x\nERROR: Invalid username and/or password\ny\n",
         "ERROR: Invalid username and/or password"},
        {"Critical error. Please see server logs for errorID:x\n\nInitialization Error:\nArray\n(\n"
         "    [message] => DB Error: connect failed\n"
         "    [debug_info] =>  [nativecode=Access denied for user 'site'@'127.0.0.1' (using "
         "password: "
         "YES)]\n)\n",
         "database: Access denied for user 'site'@'127.0.0.1' (using password: YES)"},
        {"Initialization Error:\n [nativecode=2002 ** Connection refused",
         "database: 2002 ** Connection refused"},
        {"ERROR: no\n[nativecode=1146 ** Table]\n", "ERROR: no"},
        {"\nIn Authenticator.php line 487:\n          \n  Must specify principal with valid user  "
         "\n    \n\n"
         "core:cron [-f|--force]\n\n",
         "Must specify principal with valid user"},
        {"Exception: Call to undefined function x() (Error)\n#0 /x.php(459): y()\n#1 {main}\n",
         "Exception: Call to undefined function x() (Error)"},
        {"In Authenticator.php line 487:\n", "In Authenticator.php line 487:"},
        {"a < b\n", "a < b"},
        {"caf\xc3\xa9\n", "caf\xc3\xa9"},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct arena a = {0};
        const char *line = verdict_telling_line(&a, rows[i].output);
        cr_expect_str_eq(line, rows[i].line);
        arena_free(&a);
    }
}
