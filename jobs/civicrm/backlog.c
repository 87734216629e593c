#include "backlog.h"

#include "base/cleanup.h"

#include <string.h>
#include <sysexits.h>

// The parts of mailings, with {held} as they will be again. What we have paused still waits.
static const char parts_sql[] =
    "(SELECT id, mailing_id, scheduled_date, is_test, job_type, job_limit, IF(status = 'Paused' "
    "AND id IN ({held}), IF(start_date IS NULL, 'Scheduled', 'Running'), status) AS status FROM "
    "civicrm_mailing_job)";

// One number per row of this table; {parts} is parts_sql. Test mailings are left out.
static const struct {
    const char *part, *key, *table, *sql;
} numbers[] = {
    // Recipients of mailings that are due: not yet split into parts; in parts that have no queue
    // yet; queued, and neither delivered nor bounced.
    {"mail", "pending", "civicrm_mailing_job",
     "SELECT COALESCE(SUM(n), 0) FROM ("
     "SELECT COUNT(*) AS n FROM {parts} j JOIN civicrm_mailing_recipients r ON "
     "r.mailing_id = j.mailing_id WHERE j.is_test = 0 AND COALESCE(j.job_type, '') <> 'child' AND "
     "j.status = 'Scheduled' AND j.scheduled_date <= NOW() "
     "UNION ALL SELECT SUM(COALESCE(j.job_limit, 0)) FROM {parts} j WHERE "
     "j.is_test = 0 AND j.job_type = 'child' AND j.status = 'Scheduled' AND "
     "j.scheduled_date <= NOW() "
     "UNION ALL SELECT COUNT(*) FROM {parts} j JOIN civicrm_mailing_event_queue q ON "
     "q.job_id = j.id WHERE j.is_test = 0 AND j.status = 'Running' AND NOT EXISTS (SELECT 1 FROM "
     "civicrm_mailing_event_delivered d WHERE d.event_queue_id = q.id) AND NOT EXISTS (SELECT 1 "
     "FROM civicrm_mailing_event_bounce b WHERE b.event_queue_id = q.id)) waiting"},
    {"mail", "oldest_due_s", "civicrm_mailing_job",
     "SELECT GREATEST(COALESCE(TIMESTAMPDIFF(SECOND, MIN(scheduled_date), NOW()), 0), 0) FROM "
     "{parts} j WHERE is_test = 0 AND status IN ('Scheduled', 'Running') AND "
     "COALESCE(job_type, '') <> 'child' AND scheduled_date <= NOW()"},
    // "Bounces" that our own mail server or its settings caused.
    {"mail", "lost_24h", "civicrm_mailing_event_bounce",
     "SELECT COUNT(*) FROM civicrm_mailing_event_bounce WHERE time_stamp > NOW() - INTERVAL 1 DAY "
     "AND (bounce_reason LIKE '%authentication fail%' OR bounce_reason LIKE 'Failed to connect%' "
     "OR bounce_reason LIKE '%not connected%' OR bounce_reason LIKE 'Failed to set sender%')"},
    {"mail", "delivered_1h", "civicrm_mailing_event_delivered",
     "SELECT COUNT(*) FROM civicrm_mailing_event_delivered WHERE time_stamp > NOW() - INTERVAL 1 "
     "HOUR"},
    {"mail", "bounced_1h", "civicrm_mailing_event_bounce",
     "SELECT COUNT(*) FROM civicrm_mailing_event_bounce WHERE time_stamp > NOW() - INTERVAL 1 "
     "HOUR"},
    {"mail", "on_hold_24h", "civicrm_email",
     "SELECT COUNT(*) FROM civicrm_email WHERE on_hold > 0 AND hold_date > NOW() - INTERVAL 1 DAY"},
    {"mail", "paused", "civicrm_mailing_job",
     "SELECT COUNT(DISTINCT mailing_id) FROM {parts} j WHERE is_test = 0 AND status = 'Paused'"},
    {"runs", "begun_24h", "civicrm_job_log",
     "SELECT COUNT(*) FROM civicrm_job_log WHERE job_id IS NULL AND description LIKE 'Starting "
     "scheduled jobs%' AND run_time > NOW() - INTERVAL 1 DAY"},
    {"runs", "finished_24h", "civicrm_job_log",
     "SELECT COUNT(*) FROM civicrm_job_log WHERE job_id IS NULL AND description LIKE 'Finishing "
     "scheduled jobs%' AND run_time > NOW() - INTERVAL 1 DAY"},
    {"runs", "last_finished", "civicrm_job_log",
     "SELECT 1000 * UNIX_TIMESTAMP(MAX(run_time)) FROM civicrm_job_log WHERE job_id IS NULL AND "
     "description LIKE 'Finishing scheduled jobs%'"},
};

// A failure is told by ", Error message: ", which CiviCRM does not translate; a job that never
// ended by a start whose next row of that job is not its end.
static const char jobs_sql[] =
    "SELECT j.name, j.is_active, j.run_frequency, 1000 * UNIX_TIMESTAMP(j.last_run), "
    "1000 * UNIX_TIMESTAMP(l.success), COALESCE(l.failures, 0), COALESCE(u.unfinished, 0) "
    "FROM civicrm_job j LEFT JOIN (SELECT job_id, MAX(IF(bad, NULL, run_time)) AS success, "
    "SUM(bad AND run_time > NOW() - INTERVAL 1 DAY) AS failures FROM (SELECT job_id, run_time, "
    "description REGEXP ' with result: [^(]*, Error message: ' AS bad FROM civicrm_job_log WHERE "
    "job_id IS NOT NULL AND description LIKE 'Finished execution of %') f GROUP BY job_id) l ON "
    "l.job_id = j.id LEFT JOIN (SELECT s.job_id, COUNT(*) AS unfinished FROM civicrm_job_log s "
    "WHERE s.job_id IS NOT NULL AND s.run_time > NOW() - INTERVAL 1 DAY AND s.description LIKE "
    "'Starting execution of %' AND COALESCE((SELECT n.description FROM civicrm_job_log n WHERE "
    "n.job_id = s.job_id AND n.id > s.id AND n.description NOT LIKE 'Error while%' ORDER BY n.id "
    "LIMIT 1), '') NOT LIKE 'Finished execution of %' GROUP BY s.job_id) u ON u.job_id = j.id "
    "ORDER BY j.name, j.id";

static void note_missing(struct buf *missing, const char *table) {
    if (missing->len && strstr(missing->data, table))
        return;
    buf_printf(missing, "%s\"%s\"", missing->len ? "," : "", table);
}

static const char *or_null(const char *cell) {
    return cell ? cell : "null";
}

// Adds sql with each `mark` replaced.
static void fill(struct buf *to, const char *sql, const char *mark, const char *text) {
    for (const char *at; (at = strstr(sql, mark)); sql = at + strlen(mark)) {
        buf_add(to, sql, (size_t)(at - sql));
        buf_str(to, text);
    }
    buf_str(to, sql);
}

// parts_sql for this database: our memory of what is held may not be there.
static int parts_of(struct helper *h, struct buf *parts, struct err *e) {
    autorows struct db_rows rows = {0};
    bool held = db_query(h->db, "SELECT id FROM civinit_mail_hold LIMIT 1", &rows, e) == 0;
    if (!held && !helper_missing(h->db) && !helper_denied(h->db))
        return -1;
    fill(parts, parts_sql, "{held}",
         held ? "SELECT id FROM civinit_mail_hold WHERE what = 'm'" : "SELECT 0");
    return 0;
}

static int query(struct helper *h, const char *sql, const char *parts, struct db_rows *rows,
                 struct err *e) {
    autobuf struct buf filled = {0};
    fill(&filled, sql, "{parts}", parts);
    if (filled.failed)
        return err_set(e, EX_OSERR, "out of memory");
    return db_query(h->db, filled.data, rows, e);
}

static int print_part(struct helper *h, const char *part, const char *parts, struct buf *out,
                      struct buf *missing, struct err *e) {
    bool first = true;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        autorows struct db_rows rows = {0};
        if (strcmp(numbers[i].part, part) != 0)
            continue;
        if (query(h, numbers[i].sql, parts, &rows, e) < 0) {
            if (!helper_missing(h->db) && !helper_denied(h->db))
                return -1;
            note_missing(missing, numbers[i].table);
            continue;
        }
        buf_printf(out, "%s\"%s\":%s", first ? "" : ",", numbers[i].key,
                   or_null(rows.n ? rows.cells[0] : NULL));
        first = false;
    }
    return 0;
}

static int print_statuses(struct helper *h, const char *parts, struct buf *out, struct err *e) {
    autorows struct db_rows rows = {0};
    if (query(h,
              "SELECT COALESCE(status, 'none'), COUNT(*) FROM {parts} j WHERE is_test = 0 AND "
              "COALESCE(job_type, '') <> 'child' GROUP BY 1 ORDER BY 1",
              parts, &rows, e) < 0)
        return helper_missing(h->db) || helper_denied(h->db) ? 0 : -1;
    buf_str(out, ",\"by_status\":{");
    for (size_t i = 0; i < rows.n; i++) {
        buf_str(out, i ? "," : "");
        buf_json(out, helper_row(&rows, i)[0]);
        buf_printf(out, ":%s", helper_row(&rows, i)[1]);
    }
    buf_str(out, "}");
    return 0;
}

static int print_jobs(struct helper *h, struct buf *out, struct buf *missing, struct err *e) {
    autorows struct db_rows rows = {0};
    if (db_query(h->db, jobs_sql, &rows, e) < 0) {
        if (!helper_missing(h->db) && !helper_denied(h->db))
            return -1;
        note_missing(missing, "civicrm_job");
        return 0;
    }
    for (size_t i = 0; i < rows.n; i++) {
        char **cell = helper_row(&rows, i);
        buf_str(out, i ? ",{\"name\":" : "{\"name\":");
        buf_json(out, cell[0] ? cell[0] : "");
        buf_printf(out,
                   ",\"active\":%s,\"frequency\":", cell[1] && *cell[1] == '1' ? "true" : "false");
        buf_json(out, cell[2] ? cell[2] : "");
        buf_printf(out,
                   ",\"last_run\":%s,\"last_success\":%s,\"failures_24h\":%s,"
                   "\"unfinished_24h\":%s}",
                   or_null(cell[3]), or_null(cell[4]), cell[5], cell[6]);
    }
    return 0;
}

int backlog_print(struct helper *h, struct buf *out, struct err *e) {
    autobuf struct buf missing = {0}, parts = {0};
    if (parts_of(h, &parts, e) < 0)
        return -1;
    buf_str(out, "{\"civicrm\":[");
    if (print_jobs(h, out, &missing, e) < 0)
        return -1;
    buf_str(out, "],\"mail\":{");
    if (print_part(h, "mail", parts.data, out, &missing, e) < 0 ||
        print_statuses(h, parts.data, out, e) < 0)
        return -1;
    buf_str(out, "},\"runs\":{");
    if (print_part(h, "runs", parts.data, out, &missing, e) < 0)
        return -1;
    buf_printf(out, "},\"missing\":[%s]}\n", missing.data ? missing.data : "");
    return 0;
}
