// The jobs of a configuration, checked: what `civinit-jobs` knows before it runs anything.
#ifndef CRON_JOB_H
#define CRON_JOB_H

#include "conf/conf.h"
#include "conf/user.h"
#include "cron/expr.h"
#include "cron/zone.h"

#include <stdbool.h>
#include <stdint.h>

enum overlap {
    OVERLAP_SKIP,
    OVERLAP_QUEUE,
    OVERLAP_KILL,
};

enum needs { // bits
    NEEDS_DATABASE = 1,
    NEEDS_SMTP = 2,
    NEEDS_IMAP = 4,
    NEEDS_MAIL = 8, // what [mail] has
};

struct job {
    const char *name;
    const char *schedule; // as written; NULL: only by hand and by --once
    struct expr expr;
    const struct zone *zone;
    int64_t phase_ms;
    bool enabled, catch_up, civicrm, isolate;
    bool instance_lock; // runs under the instance's lock
    const char *lock;   // a lock of its own, or NULL
    unsigned needs;     // enum needs
    enum overlap overlap;
    int64_t timeout_ms; // 0: none
    int64_t retry, backoff_ms;
    const char *command; // one of these three, the others NULL
    bool automatic;      // command = auto: choose.h
    const char *shell;
    const char *url;
    const char
        *failure_text; // extended regular expression: a line that matches is a failure; or NULL
    const char *user, *group;
    const struct user *account; // NULL: civinit-jobs' own
    const char *cwd, *env_file;
    const struct job_env {
        const char *name, *value;
        const struct job_env *next;
    } * env;
    const char *ping, *on_failure; // NULL or "": none
};

// PHP for "cv ev", before what runs jobs: as the domain's contact, with all permissions, as "cv
// cron" does. As nobody, CiviCRM sends no mailing and calls it a success.
#define CIVICRM_AS_DOMAIN                                                                          \
    "CRM_Core_Config::singleton()->userPermissionTemp = new class extends "                        \
    "CRM_Core_Permission_Temp "                                                                    \
    "{ public function check($perm) { return TRUE; } }; CRM_Core_Session::singleton()->set("       \
    "'userID', CRM_Core_BAO_Domain::getDomain()->contact_id); "

struct jobs {
    struct conf conf;
    const char *path; // of the configuration, absolute
    const char *instance;
    const char *state_dir;
    int64_t lock_wait_ms;
    int64_t grace_ms; // from SIGTERM to the end of everything
    bool database;    // there is a [database]
    char *const *isolate_command;
    const char *cli_command;  // runs CiviCRM's jobs where there is no cv; or NULL
    const char *civicrm_user; // as whom "cv api" runs them; NULL or "": nobody
    struct job *v;            // in the order of the file
    size_t n;
    const struct zone *zone; // of [jobs]
    struct zone_link {
        struct zone *zone;
        struct zone_link *next;
    } * zones; // all that are loaded, once each
};

// Reads and checks the configuration at path into j (zero-initialised). -1: it cannot be read.
// What is wrong in it is added to j->conf.problems.
int jobs_load(struct jobs *j, const char *path, struct err *e);

// jobs_load, with the problems logged and as one error.
int jobs_load_strict(struct jobs *j, const char *path, struct err *e);

// The job of that name, or NULL.
struct job *jobs_find(const struct jobs *j, const char *name);

// When it is due next after after_ms; NEXT_NEVER when disabled or without times.
int64_t job_next(const struct job *job, int64_t after_ms);

void jobs_free(struct jobs *j);

#endif
