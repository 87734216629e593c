// Reads civicrm_job_log.
#ifndef CIVICRM_JOBLOG_H
#define CIVICRM_JOBLOG_H

#include "helper.h"
#include "verdict.h"

// The id of the newest row, 0 when there is none: what a run writes has higher ids.
int joblog_mark(struct helper *h, int64_t *ret_mark, struct err *e);

// Judges the rows after mark. Ends with verdict_free.
int joblog_judge(struct helper *h, int64_t mark, const struct verdict_process *p, struct verdict *v,
                 struct err *e);

#endif
