#include "due.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

// A date set by hand wins; else last_run plus the frequency. Months are counted as PHP does: from
// 31 January a month later is 3 March (MySQL alone would say 28 February, which is early).
static const char due_sql[] =
    "SELECT id, name, api_entity, api_action FROM (SELECT id, name, api_entity, api_action, "
    "scheduled_run_date, last_run, run_frequency, "
    "DATE_FORMAT(last_run, '%Y-%m-01 %T') AS first, DAYOFMONTH(last_run) - 1 AS days "
    "FROM civicrm_job WHERE is_active = 1) j WHERE CASE "
    "WHEN scheduled_run_date IS NOT NULL THEN scheduled_run_date <= NOW() "
    "WHEN last_run IS NULL OR run_frequency = 'Always' THEN 1 "
    "WHEN run_frequency = 'Hourly' THEN last_run + INTERVAL 1 HOUR <= NOW() "
    "WHEN run_frequency = 'Daily' THEN last_run + INTERVAL 1 DAY <= NOW() "
    "WHEN run_frequency = 'Weekly' THEN last_run + INTERVAL 7 DAY <= NOW() "
    "ELSE first + INTERVAL (CASE run_frequency WHEN 'Monthly' THEN 1 WHEN 'Quarter' THEN 3 "
    "ELSE 12 END) MONTH + INTERVAL days DAY <= NOW() END ORDER BY name, id";

const char *due_needs(const char *entity, const char *action) {
    // What sends through SMTP, or loses its occasion when SMTP refuses.
    static const char *const smtp[] = {"process_mailing", "send_reminder", "mail_report", NULL};
    static const char *const imap[] = {"fetch_bounces", "fetch_activities", NULL};
    if (!entity || !action || strcasecmp(entity, "job") != 0)
        return "";
    for (int i = 0; smtp[i]; i++)
        if (strcasecmp(action, smtp[i]) == 0)
            return "smtp";
    for (int i = 0; imap[i]; i++)
        if (strcasecmp(action, imap[i]) == 0)
            return "imap";
    return "";
}

int due_print(struct helper *h, struct buf *out, struct err *e) {
    autorows struct db_rows rows = {0};
    if (db_query(h->db, due_sql, &rows, e) < 0)
        return -1;
    for (size_t i = 0; i < rows.n; i++) {
        char **cell = helper_row(&rows, i);
        const char *needs = due_needs(cell[2], cell[3]);
        buf_printf(out, "{\"id\":%s,\"name\":", cell[0]);
        buf_json(out, cell[1] ? cell[1] : "");
        buf_str(out, ",\"api\":");
        char api[600];
        snprintf(api, sizeof api, "%s.%s", cell[2] ? cell[2] : "", cell[3] ? cell[3] : "");
        buf_json(out, api);
        buf_printf(out, ",\"mail\":%s,\"needs\":\"%s\"}\n", *needs ? "true" : "false", needs);
    }
    return 0;
}
