// What waits, what failed and what was lost, from CiviCRM's own tables.
#ifndef CIVICRM_BACKLOG_H
#define CIVICRM_BACKLOG_H

#include "base/text.h"
#include "helper.h"

// Appends one JSON object on one line:
//
//     {"civicrm":[{"name","active","frequency","last_run","last_success","failures_24h",
//                  "unfinished_24h"}],
//      "mail":{"pending","oldest_due_s","lost_24h","delivered_1h","bounced_1h","on_hold_24h",
//              "paused","by_status":{}},
//      "runs":{"begun_24h","finished_24h","last_finished"}, "missing":["TABLE"]}
//
// Times are ms since the epoch or null. A part whose table or column this database does not have
// is left out and named in "missing".
int backlog_print(struct helper *h, struct buf *out, struct err *e);

#endif
