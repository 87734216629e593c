// Which command runs CiviCRM's jobs when the configuration leaves it open (command = auto): the
// best that the cv in the job's PATH and the CiviCRM of this site have.
//
// CiviCRM runs jobs as somebody, and a mailing only leaves as a user who may see all contacts: as
// nobody, "cv api job.execute" answers Success and sends nothing (CiviCRM 6.14).
#ifndef CRON_CHOOSE_H
#define CRON_CHOOSE_H

#include <stdbool.h>
#include <stddef.h>

enum {
    CHOICE_TEXT = 200
};

enum choice_form {
    CHOICE_CV_CRON, // as the domain's contact, with all permissions
    CHOICE_CV_API,  // as [civicrm] user
    CHOICE_CV_EVAL, // as cv cron does it, where there is no such user
    CHOICE_CLI,
    CHOICE_NONE
};

struct choice {
    enum choice_form form;
    char text[CHOICE_TEXT]; // which and why, one line
};

// What is known. Texts may be NULL or "": not known.
struct choice_facts {
    bool cv;             // there is one
    const char *no_cv;   // else, why it cannot be run
    const char *cv_said; // the output of `cv --version`
    const char *civicrm; // version of CiviCRM
    const char *user;    // [civicrm] user
    const char *cli;     // [civicrm] cli_command
};

// Chooses. What is not known counts as old: the older command works with the newer program.
void choice_make(const struct choice_facts *f, struct choice *ret);

// The version in the output of `cv --version` ("cv 0.3.71", also behind warnings of PHP), into buf;
// "" when there is none.
const char *choice_cv_version(const char *said, char *buf, size_t size);

#endif
