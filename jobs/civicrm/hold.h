// Mail that waits: pauses what CiviCRM would send, and puts exactly that back.
//
// Mailings: rows of civicrm_mailing_job that are Running, or Scheduled for the next hour, become
// Paused. A php that is sending looks at its row after every tenth mail, stops by itself and
// leaves nothing to be sent twice. They are put back as CiviCRM's own "resume" does: Running when
// begun, else Scheduled; but not when they have another status by then, nor when the mailing they
// are a part of was paused meanwhile by somebody else.
//
// Scheduled jobs that need SMTP or IMAP: their scheduled_run_date is set a day ahead (a date that
// somebody set in the future stays), so that a run does everything else. Should nobody put it
// back, it heals by itself.
//
// What was paused is remembered in the same transaction, in the table civinit_mail_hold of the
// CiviCRM database: a pod that is killed, and its state folder with it, loses nothing. Where the
// account may not create a table: in state_dir/mail-hold, written before the change is committed.
#ifndef CIVICRM_HOLD_H
#define CIVICRM_HOLD_H

#include "helper.h"

#include <stdbool.h>

struct hold_count {
    uint64_t mailings; // rows of civicrm_mailing_job
    uint64_t jobs;     // rows of civicrm_job
};

// Pauses; may be repeated while it is in force: what came up since is added, and the jobs wait a
// day from now. `mailings`: the rows of mailings too, and not only the jobs of smtp and imap. *ret
// counts what is paused that was not, or for longer than it was.
int hold_begin(struct helper *h, bool mailings, bool smtp, bool imap, struct hold_count *ret,
               struct err *e);

// Puts back what is remembered, whoever remembered it: only to be called while the lock of the
// instance is held. *ret counts the rows that changed.
int hold_end(struct helper *h, struct hold_count *ret, struct err *e);

// Scheduled jobs that ran in processes of their own (ids: "3,14") are not due, until hold_ran_end:
// for the run of the rest. Remembered as above, but only in the table; hold_end puts them back too.
int hold_ran(struct helper *h, const char *ids, struct err *e);
int hold_ran_end(struct helper *h, struct err *e);

#endif
