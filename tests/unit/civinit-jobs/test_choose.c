// Which command runs CiviCRM's jobs, by what is there.
#include "cron/choose.h"

#include <criterion/criterion.h>
#include <string.h>

Test(choose, cv_tells_its_version) {
    static const struct {
        const char *said, *version;
    } cases[] = {
        {"cv 0.3.71.0\n", "0.3.71.0"},
        {"cv v0.3.65\n", "0.3.65"},
        {"cv 0.3.x\n", "0.3"},
        {"cv 1.0.0-beta1\n", "1.0.0"},
        {"PHP Deprecated:  a recv 9 in /usr/bin/cv on line 3\ncv 0.3.64\n", "0.3.64"},
        {"cv UNKNOWN\n", ""},
        {"sh: 1: php: not found\n", ""},
        {"", ""},
        {NULL, ""},
    };
    char buf[20];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        cr_assert_str_eq(choice_cv_version(cases[i].said, buf, sizeof buf), cases[i].version, "%s",
                         cases[i].said);
    cr_assert_str_eq(choice_cv_version("cv 1234567890.1234567890.12", buf, 8), "1234567");
}

Test(choose, the_best_that_both_have) {
    static const struct {
        struct choice_facts f;
        enum choice_form form;
        const char *text;
    } cases[] = {
        {{true, "", "cv 0.3.65", "6.5.0", "admin", "php cli"},
         CHOICE_CV_CRON,
         "cv cron: cv 0.3.65, CiviCRM 6.5.0"},
        {{true, "", "cv 0.4", "6.17.2"}, CHOICE_CV_CRON, "cv cron: cv 0.4, CiviCRM 6.17.2"},
        {{true, "", "cv 0.3.71", "6.5.beta1"}, CHOICE_CV_CRON, "CiviCRM 6.5.beta1"},
        {{true, "", "cv 0.3.71", "6.5.alpha1", "u"}, CHOICE_CV_API, "older than 6.5"},
        {{true, "", "cv 0.3.71", "6.4.3", "u"},
         CHOICE_CV_API,
         "as u: CiviCRM 6.4.3 is older than 6.5"},
        {{true, "", "cv 0.3.71", "6.4.3", ""},
         CHOICE_CV_EVAL,
         "cv ev: CiviCRM 6.4.3 is older than 6.5, and for"},
        {{true, "", "cv 0.3.71", "5.33.2"}, CHOICE_CV_EVAL, "CiviCRM 5.33.2 is older"},
        {{true, "", "cv 0.3.71", "", "u"}, CHOICE_CV_API, "CiviCRM is not known"},
        {{true, "", "cv 0.3.71", NULL, "u"}, CHOICE_CV_API, "CiviCRM is not known"},
        {{true, "", "cv 0.3.64", "6.17.2", "u"}, CHOICE_CV_API, "cv 0.3.64 is older than 0.3.65"},
        {{true, "", "cv 0.3.9", "6.17.2", "u"}, CHOICE_CV_API, "cv 0.3.9 is older"},
        {{true, "", "cv 0.3.x", "6.17.2", "u"}, CHOICE_CV_API, "cv 0.3 is older"},
        {{true, "", NULL, "6.17.2", "u"}, CHOICE_CV_API, "does not tell its version"},
        {{true, "", NULL, "6.17.2", NULL, "php cli"}, CHOICE_CV_EVAL, "does not tell its version"},
        {{false, "exec cv: not found in PATH", NULL, "6.17.2", "u", "php cli"},
         CHOICE_CLI,
         "cli_command: exec cv: not found in PATH"},
        {{false, "exec cv: not found in PATH", NULL, "6.17.2", "u", ""},
         CHOICE_NONE,
         "exec cv: not found in PATH, and [civicrm] cli_command is not set"},
        {{false, ""}, CHOICE_NONE, "there is no cv, and"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct choice c;
        choice_make(&cases[i].f, &c);
        cr_assert_eq(c.form, cases[i].form, "case %zu: %s", i, c.text);
        cr_assert(strstr(c.text, cases[i].text), "case %zu: %s", i, c.text);
    }
}
