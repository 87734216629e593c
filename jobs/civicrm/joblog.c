#include "joblog.h"

#include "base/cleanup.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

int joblog_mark(struct helper *h, int64_t *ret_mark, struct err *e) {
    autorows struct db_rows rows = {0};
    if (db_query(h->db, "SELECT COALESCE(MAX(id), 0) FROM civicrm_job_log", &rows, e) < 0)
        return -1;
    *ret_mark = rows.n ? helper_number(&rows, 0, 0) : 0;
    return 0;
}

// Whether a row of process_mailing says that nothing was sent, although something is due that it
// could have begun: see struct verdict_row. What is being sent by another process does not count.
static int unsent(struct helper *h, struct verdict_row *r, struct err *e) {
    autorows struct db_rows got = {0};
    if (!r->job_id || !r->description || !strstr(r->description, "s:9:\"processed\";i:0;"))
        return 0;
    if (db_queryf(h->db, &got, e,
                  "SELECT COUNT(*) FROM civicrm_job s JOIN civicrm_mailing m ON m.domain_id = "
                  "s.domain_id AND m.sms_provider_id IS NULL JOIN civicrm_mailing_job j ON "
                  "j.mailing_id = m.id WHERE s.id = %lld AND s.api_action = 'process_mailing' AND "
                  "j.job_type = 'child' AND j.is_test = 0 AND j.status = 'Scheduled' AND "
                  "j.start_date IS NULL AND j.scheduled_date <= NOW() AND NOT EXISTS (SELECT 1 "
                  "FROM civicrm_mailing_job WHERE job_type = 'child' AND status = 'Running')",
                  (long long)r->job_id) < 0)
        return helper_missing(h->db) ? 0 : -1;
    r->unsent = got.n ? helper_number(&got, 0, 0) : 0;
    return 0;
}

int joblog_judge(struct helper *h, int64_t mark, const struct verdict_process *p, struct verdict *v,
                 struct err *e) {
    autorows struct db_rows got = {0};
    if (db_queryf(h->db, &got, e,
                  "SELECT COALESCE(job_id, 0), UNIX_TIMESTAMP(run_time), name, description, data "
                  "FROM civicrm_job_log WHERE id > %lld ORDER BY id",
                  (long long)mark) < 0)
        return -1;
    autofree struct verdict_row *rows = calloc(got.n + 1, sizeof *rows);
    if (!rows)
        return err_set(e, EX_OSERR, "out of memory");
    for (size_t i = 0; i < got.n; i++) {
        char **cell = helper_row(&got, i);
        rows[i] = (struct verdict_row){.job_id = helper_number(&got, i, 0),
                                       .time_s = helper_number(&got, i, 1),
                                       .name = cell[2],
                                       .description = cell[3],
                                       .data = cell[4]};
        if (!p->mail_held && unsent(h, &rows[i], e) < 0)
            return -1;
    }
    if (verdict_judge(v, rows, got.n, p) < 0)
        return err_set(e, EX_OSERR, "out of memory");
    return 0;
}
