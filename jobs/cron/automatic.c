// command = auto: asks the job's cv for its version, and chooses.
#include "base/cleanup.h"
#include "base/log.h"
#include "cron/choose.h"
#include "cron/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

enum {
    CV_TIMEOUT_MS = 60000 // a cold cache on a slow disk
};

static void look(struct run *r, struct choice *ret) {
    static const char *const argv[] = {"cv", "--version", NULL};
    autobuf struct buf said = {0};
    struct err e = {0};
    char why[CHOICE_TEXT / 2];
    int rc = run_quiet(r, (char *const *)argv, CV_TIMEOUT_MS, &said, &e);
    struct choice_facts f = {.cv = rc >= 0 || e.code == EX_UNAVAILABLE,
                             .no_cv = why,
                             .cv_said = rc == 0 ? said.data : NULL,
                             .civicrm = r->civicrm,
                             .user = r->jobs->civicrm_user,
                             .cli = r->jobs->cli_command};
    snprintf(why, sizeof why, "%.*s", (int)sizeof why - 1, e.text);
    choice_make(&f, ret);
}

// The words of argv in one piece of memory, as text_words gives them.
static char **copy(const char *const *argv) {
    size_t n = 0, bytes = 0;
    for (; argv[n]; n++)
        bytes += strlen(argv[n]) + 1;
    char **list = malloc((n + 1) * sizeof *list + bytes),
         *to = list ? (char *)(list + n + 1) : NULL;
    for (size_t i = 0; list && i < n; i++) {
        list[i] = to;
        to = stpcpy(to, argv[i]) + 1;
    }
    if (list)
        list[n] = NULL;
    return list;
}

static char **command_of(const struct run *r, enum choice_form form) {
    char user[300];
    snprintf(user, sizeof user, "--user=%s", r->jobs->civicrm_user ? r->jobs->civicrm_user : "");
    switch (form) {
    case CHOICE_CV_CRON:
        return copy((const char *[]){"cv", "cron", NULL});
    case CHOICE_CV_API:
        return copy((const char *[]){"cv", "api", user, "job.execute", NULL});
    default:
        return copy((const char *[]){
            "cv", "ev", CIVICRM_AS_DOMAIN "(new CRM_Core_JobManager())->execute(FALSE);", NULL});
    }
}

char **run_automatic(struct run *r, struct err *e) {
    struct choice c;
    char **argv = NULL;
    look(r, &c);
    if (strcmp(c.text, r->o.choice) != 0)
        log_info("job %s: %s", r->job->name, c.text);
    memcpy(r->o.choice, c.text, sizeof r->o.choice);
    if (c.form == CHOICE_NONE) {
        err_set(e, EX_CONFIG, "%s", c.text);
        return NULL;
    }
    if (c.form == CHOICE_CLI)
        return text_words(r->jobs->cli_command, &argv, e) < 0 ? NULL : argv;
    if (!(argv = command_of(r, c.form)))
        err_set(e, EX_OSERR, "out of memory");
    return argv;
}
