// CiviCRM's scheduled jobs as its own rules see them (CRM_Core_ScheduledJob::needsRunning).
#ifndef CIVICRM_DUE_H
#define CIVICRM_DUE_H

#include "base/text.h"
#include "helper.h"

// What a job of this API action must be able to log in to: "smtp", "imap" or "".
const char *due_needs(const char *entity, const char *action);

// Appends one JSON line per active job that is due now, in the order in which CiviCRM runs them.
int due_print(struct helper *h, struct buf *out, struct err *e);

#endif
