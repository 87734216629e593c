// Whether CiviCRM's jobs may run now.
#ifndef CIVICRM_PRECHECK_H
#define CIVICRM_PRECHECK_H

#include "base/text.h"
#include "helper.h"

// Appends why jobs must wait (nothing when they may run): no schema, an upgrade that is pending,
// maintenance. The version of CiviCRM that the database is at is added to version. -1: the
// database could not be asked. Connects by itself.
int precheck(struct helper *h, struct buf *why, struct buf *version, struct err *e);

#endif
