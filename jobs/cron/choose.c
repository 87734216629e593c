#include "cron/choose.h"

#include "common/version.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

// core:cron came with cv 0.3.65 (June 2025); that it reports failed jobs, with CiviCRM 6.5
// (CRM_Core_JobLogger, in its first beta).
static const char cv_with_cron[] = "0.3.65", civicrm_with_log[] = "6.5.beta1";

const char *choice_cv_version(const char *said, char *buf, size_t size) {
    *buf = 0;
    for (const char *at = said; at && (at = strstr(at, "cv ")); at++) {
        const char *number = at + 3 + (at[3] == 'v');
        size_t n = strspn(number, "0123456789.");
        if ((at != said && !isspace((unsigned char)at[-1])) || !isdigit((unsigned char)*number))
            continue;
        while (n && number[n - 1] == '.')
            n--;
        snprintf(buf, size, "%.*s", (int)n, number);
        return buf;
    }
    return buf;
}

static bool given(const char *text) {
    return text && *text;
}

static void without_cv(const struct choice_facts *f, struct choice *ret) {
    const char *why = given(f->no_cv) ? f->no_cv : "there is no cv";
    ret->form = given(f->cli) ? CHOICE_CLI : CHOICE_NONE;
    snprintf(ret->text, sizeof ret->text,
             ret->form == CHOICE_CLI ? "cli_command: %s"
                                     : "%s, and [civicrm] cli_command is not set",
             why);
}

// Why cv cron is not to be had, into buf; false: it is.
static bool too_old(const char *cv, const char *civicrm, char *buf, size_t size) {
    if (!*cv)
        snprintf(buf, size, "cv does not tell its version");
    else if (version_compare(cv, cv_with_cron) < 0)
        snprintf(buf, size, "cv %s is older than %s", cv, cv_with_cron);
    else if (!given(civicrm))
        snprintf(buf, size, "the version of CiviCRM is not known");
    else if (version_compare(civicrm, civicrm_with_log) < 0)
        snprintf(buf, size, "CiviCRM %s is older than 6.5", civicrm);
    else
        return false;
    return true;
}

void choice_make(const struct choice_facts *f, struct choice *ret) {
    char cv[40], why[100];
    if (!f->cv) {
        without_cv(f, ret);
        return;
    }
    choice_cv_version(f->cv_said, cv, sizeof cv);
    if (!too_old(cv, f->civicrm, why, sizeof why)) {
        ret->form = CHOICE_CV_CRON;
        snprintf(ret->text, sizeof ret->text, "cv cron: cv %s, CiviCRM %s", cv, f->civicrm);
    } else if (given(f->user)) {
        ret->form = CHOICE_CV_API;
        snprintf(ret->text, sizeof ret->text, "cv api job.execute as %.40s: %s", f->user, why);
    } else {
        ret->form = CHOICE_CV_EVAL;
        snprintf(ret->text, sizeof ret->text,
                 "cv ev: %s, and for cv api there is no [civicrm] user", why);
    }
}
