#include "hold.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "due.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

// One row that is held. Dates as SQL literals in UTC, or "NULL".
struct held {
    char what; // 'm' civicrm_mailing_job, 'j' civicrm_job, 'r' civicrm_job that ran by itself
    int64_t id;
    char was[24], ours[24]; // of scheduled_run_date, for 'j' and 'r'
};

struct held_list {
    struct held *rows;
    size_t n, cap;
};

static void list_free(struct held_list *l) {
    free(l->rows);
}
#define autolist __attribute__((cleanup(list_free)))

static int list_add(struct held_list *l, const struct held *row, struct err *e) {
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 32;
        struct held *rows = realloc(l->rows, cap * sizeof *rows);
        if (!rows)
            return err_set(e, EX_OSERR, "out of memory");
        l->rows = rows;
        l->cap = cap;
    }
    l->rows[l->n++] = *row;
    return 0;
}

// A date of the database as the literal it is written back with.
static void literal(char *to, size_t size, const char *date) {
    snprintf(to, size, date ? "'%.19s'" : "NULL", date);
}

// ---- the memory: a table, or a file ----

static const char create_sql[] =
    "CREATE TABLE IF NOT EXISTS civinit_mail_hold (what CHAR(1) NOT NULL, id INT UNSIGNED NOT NULL,"
    " was DATETIME NULL, ours DATETIME NULL, since DATETIME NOT NULL, PRIMARY KEY (what, id))"
    " ENGINE=InnoDB COMMENT='civinit: rows that it paused and will put back'";

// 1: the table is there, 0: it cannot be had, -1: error.
static int table_ready(struct helper *h, struct err *e) {
    autorows struct db_rows rows = {0};
    if (db_query(h->db, "SELECT 1 FROM civinit_mail_hold LIMIT 1", &rows, e) == 0)
        return 1;
    if (!helper_missing(h->db) && !helper_denied(h->db))
        return -1;
    if (db_query(h->db, create_sql, NULL, e) == 0)
        return 1;
    return helper_denied(h->db) ? 0 : -1;
}

static int table_read(struct helper *h, struct held_list *l, struct err *e) {
    autorows struct db_rows rows = {0};
    if (db_query(h->db, "SELECT what, id, was, ours FROM civinit_mail_hold FOR UPDATE", &rows, e) <
        0)
        return helper_missing(h->db) || helper_denied(h->db) ? 0 : -1;
    for (size_t i = 0; i < rows.n; i++) {
        char **cell = helper_row(&rows, i);
        struct held row = {.what = *cell[0], .id = helper_number(&rows, i, 1)};
        literal(row.was, sizeof row.was, cell[2]);
        literal(row.ours, sizeof row.ours, cell[3]);
        if (list_add(l, &row, e) < 0)
            return -1;
    }
    return 0;
}

static int table_write(struct helper *h, const struct held_list *l, struct err *e) {
    for (size_t i = 0; i < l->n; i++) {
        const struct held *r = &l->rows[i];
        if (db_queryf(h->db, NULL, e,
                      "REPLACE INTO civinit_mail_hold VALUES ('%c', %lld, %s, %s, NOW())", r->what,
                      (long long)r->id, r->was, r->ours) < 0)
            return -1;
    }
    return 0;
}

static char *file_path(struct helper *h) {
    char *path = NULL;
    return asprintf(&path, "%s/mail-hold", h->state_dir) < 0 ? NULL : path;
}

// Lines "m ID" and "j ID WAS|OURS", the dates quoted.
static int parse(char *text, struct held_list *l, struct err *e) {
    char *line;
    while ((line = strsep(&text, "\n"))) {
        struct held row = {0};
        long long id;
        char was[24], ours[24];
        int n = sscanf(line, "%c %lld %23[^|]|%23[^|]", &row.what, &id, was, ours);
        if (n < 2 || (row.what == 'j' && n < 4))
            continue;
        row.id = id;
        if (row.what == 'j') {
            memcpy(row.was, was, sizeof was);
            memcpy(row.ours, ours, sizeof ours);
        }
        if (list_add(l, &row, e) < 0)
            return -1;
    }
    return 0;
}

static int file_load(struct helper *h, struct held_list *l, struct err *e) {
    autofree char *path = file_path(h);
    if (!path || access(path, F_OK) < 0)
        return 0;
    char *text = NULL;
    if (file_read(path, 1 << 24, &text, NULL, e) < 0)
        return -1;
    int rc = parse(text, l, e);
    free(text);
    return rc;
}

static int file_save(struct helper *h, const struct held_list *l, struct err *e) {
    autofree char *path = file_path(h);
    autobuf struct buf text = {0};
    if (!path)
        return err_set(e, EX_OSERR, "out of memory");
    mkdir(h->state_dir, 0755);
    for (size_t i = 0; i < l->n; i++) {
        const struct held *r = &l->rows[i];
        if (r->what == 'j')
            buf_printf(&text, "j %lld %s|%s\n", (long long)r->id, r->was, r->ours);
        else
            buf_printf(&text, "m %lld\n", (long long)r->id);
    }
    if (text.failed)
        return err_set(e, EX_OSERR, "out of memory");
    return file_replace(path, text.data ? text.data : "", text.len, 0600, 1, e);
}

// Remembers new rows beside what is remembered already.
static int remember(struct helper *h, bool table, const struct held_list *l, struct err *e) {
    autolist struct held_list all = {0};
    if (l->n == 0)
        return 0;
    if (table)
        return table_write(h, l, e);
    if (file_load(h, &all, e) < 0)
        return -1;
    for (size_t i = 0; i < l->n; i++)
        if (list_add(&all, &l->rows[i], e) < 0)
            return -1;
    return file_save(h, &all, e);
}

// ---- pausing ----

// "1,2,3": the ids of one kind, the caller's buffer; empty when there are none.
static void ids_of(const struct held_list *l, char what, struct buf *ids) {
    for (size_t i = 0; i < l->n; i++)
        if (l->rows[i].what == what)
            buf_printf(ids, "%s%lld", ids->len ? "," : "", (long long)l->rows[i].id);
}

// A parent that is Running stays so: it sends nothing, and it shows at the end whether somebody
// else paused the mailing meanwhile.
static int find_mailings(struct helper *h, struct held_list *l, struct err *e) {
    autorows struct db_rows rows = {0};
    if (db_query(h->db,
                 "SELECT id FROM civicrm_mailing_job WHERE is_test = 0 AND "
                 "((status = 'Running' AND job_type = 'child') OR (status = 'Scheduled' AND "
                 "scheduled_date <= NOW() + INTERVAL 1 HOUR)) FOR UPDATE",
                 &rows, e) < 0)
        return helper_missing(h->db) ? 0 : -1;
    for (size_t i = 0; i < rows.n; i++) {
        struct held row = {'m', helper_number(&rows, i, 0), "NULL", "NULL"};
        if (list_add(l, &row, e) < 0)
            return -1;
    }
    return 0;
}

static const struct held *remembered(const struct held_list *l, char what, int64_t id) {
    for (size_t i = l->n; i > 0; i--)
        if (l->rows[i - 1].what == what && l->rows[i - 1].id == id)
            return &l->rows[i - 1];
    return NULL;
}

// A job that is held already is held for another day; what its date was before stays known. One
// with another date in the future waits by somebody else's will.
static int find_jobs(struct helper *h, bool smtp, bool imap, const struct held_list *before,
                     struct held_list *l, struct err *e) {
    autorows struct db_rows rows = {0};
    if (db_query(h->db,
                 "SELECT id, api_entity, api_action, scheduled_run_date, NOW() + INTERVAL 1 DAY, "
                 "COALESCE(scheduled_run_date <= NOW(), 1) FROM civicrm_job WHERE is_active = 1 "
                 "FOR UPDATE",
                 &rows, e) < 0)
        return helper_missing(h->db) ? 0 : -1;
    for (size_t i = 0; i < rows.n; i++) {
        char **cell = helper_row(&rows, i);
        const char *needs = due_needs(cell[1], cell[2]);
        struct held row = {.what = 'j', .id = helper_number(&rows, i, 0)};
        const struct held *old = remembered(before, 'j', row.id);
        if (!(smtp && strcmp(needs, "smtp") == 0) && !(imap && strcmp(needs, "imap") == 0))
            continue;
        literal(row.was, sizeof row.was, cell[3]);
        literal(row.ours, sizeof row.ours, cell[4]);
        if (old && strcmp(old->ours, row.was) == 0)
            memcpy(row.was, old->was, sizeof row.was);
        else if (*cell[5] != '1')
            continue;
        if (list_add(l, &row, e) < 0)
            return -1;
    }
    return 0;
}

static int pause_rows(struct helper *h, const struct held_list *l, struct hold_count *ret,
                      struct err *e) {
    autobuf struct buf ids = {0};
    ids_of(l, 'm', &ids);
    if (ids.failed)
        return err_set(e, EX_OSERR, "out of memory");
    if (ids.len && db_queryf(h->db, NULL, e,
                             "UPDATE civicrm_mailing_job SET status = 'Paused' WHERE id IN (%s)",
                             ids.data) < 0)
        return -1;
    ret->mailings = ids.len ? db_changed(h->db) : 0;
    for (size_t i = 0; i < l->n; i++) {
        const struct held *r = &l->rows[i];
        if (r->what != 'j')
            continue;
        if (db_queryf(h->db, NULL, e,
                      "UPDATE civicrm_job SET scheduled_run_date = %s WHERE id = %lld", r->ours,
                      (long long)r->id) < 0)
            return -1;
        ret->jobs += db_changed(h->db);
    }
    return 0;
}

static int rollback(struct helper *h) {
    db_query(h->db, "ROLLBACK", NULL, NULL);
    return -1;
}

int hold_begin(struct helper *h, bool mailings, bool smtp, bool imap, struct hold_count *ret,
               struct err *e) {
    autolist struct held_list l = {0}, before = {0};
    *ret = (struct hold_count){0};
    int table = table_ready(h, e);
    if (table < 0 || db_query(h->db, "START TRANSACTION", NULL, e) < 0)
        return -1;
    if (table_read(h, &before, e) < 0 || file_load(h, &before, e) < 0 ||
        (mailings && find_mailings(h, &l, e) < 0) || find_jobs(h, smtp, imap, &before, &l, e) < 0 ||
        remember(h, table, &l, e) < 0 || pause_rows(h, &l, ret, e) < 0 ||
        db_query(h->db, "COMMIT", NULL, e) < 0)
        return rollback(h);
    return 0;
}

// Of those that ran, each that is not put off by somebody else's will. CiviCRM clears a date that
// has come only when it finds the job due by itself: what was is "none".
static int find_ran(struct helper *h, const char *ids, struct held_list *l, struct err *e) {
    autorows struct db_rows rows = {0};
    if (db_queryf(h->db, &rows, e,
                  "SELECT id, NOW() + INTERVAL 1 DAY FROM civicrm_job WHERE id IN (%s) AND "
                  "COALESCE(scheduled_run_date <= NOW(), 1) FOR UPDATE",
                  ids) < 0)
        return -1;
    for (size_t i = 0; i < rows.n; i++) {
        struct held row = {'r', helper_number(&rows, i, 0), "NULL", "NULL"};
        literal(row.ours, sizeof row.ours, helper_row(&rows, i)[1]);
        if (list_add(l, &row, e) < 0)
            return -1;
    }
    return 0;
}

int hold_ran(struct helper *h, const char *ids, struct err *e) {
    autolist struct held_list l = {0};
    int table = table_ready(h, e);
    if (table == 0)
        return err_set(e, EX_NOPERM, "the account may not create the table civinit_mail_hold");
    if (table < 0 || db_query(h->db, "START TRANSACTION", NULL, e) < 0)
        return -1;
    if (find_ran(h, ids, &l, e) < 0 || table_write(h, &l, e) < 0)
        return rollback(h);
    for (size_t i = 0; i < l.n; i++)
        if (db_queryf(h->db, NULL, e,
                      "UPDATE civicrm_job SET scheduled_run_date = %s WHERE id = %lld",
                      l.rows[i].ours, (long long)l.rows[i].id) < 0)
            return rollback(h);
    return db_query(h->db, "COMMIT", NULL, e) < 0 ? rollback(h) : 0;
}

// ---- putting back ----

static int resume_mailings(struct helper *h, const struct held_list *l, struct hold_count *ret,
                           struct err *e) {
    autobuf struct buf ids = {0};
    ids_of(l, 'm', &ids);
    if (ids.failed)
        return err_set(e, EX_OSERR, "out of memory");
    if (!ids.len)
        return 0;
    if (db_queryf(h->db, NULL, e,
                  "UPDATE civicrm_mailing_job j LEFT JOIN civicrm_mailing_job p ON "
                  "p.id = j.parent_id SET j.status = IF(j.start_date IS NULL, 'Scheduled', "
                  "'Running') WHERE j.id IN (%s) AND j.status = 'Paused' AND "
                  "(p.id IS NULL OR p.status <> 'Paused' OR p.id IN (%s))",
                  ids.data, ids.data) < 0)
        return helper_missing(h->db) ? 0 : -1;
    ret->mailings = db_changed(h->db);
    return 0;
}

// kinds: of rows, "jr" or one of them.
static int resume_jobs(struct helper *h, const struct held_list *l, const char *kinds,
                       struct hold_count *ret, struct err *e) {
    for (size_t i = 0; i < l->n; i++) {
        const struct held *r = &l->rows[i];
        if (!strchr(kinds, r->what))
            continue;
        if (db_queryf(h->db, NULL, e,
                      "UPDATE civicrm_job SET scheduled_run_date = %s WHERE id = %lld AND "
                      "scheduled_run_date = %s",
                      r->was, (long long)r->id, r->ours) < 0) {
            if (helper_missing(h->db))
                continue;
            return -1;
        }
        ret->jobs += db_changed(h->db);
    }
    return 0;
}

static int forget(struct helper *h, struct err *e) {
    if (db_query(h->db, "DELETE FROM civinit_mail_hold", NULL, e) < 0 && !helper_missing(h->db) &&
        !helper_denied(h->db))
        return -1;
    return db_query(h->db, "COMMIT", NULL, e);
}

int hold_end(struct helper *h, struct hold_count *ret, struct err *e) {
    autolist struct held_list l = {0};
    autofree char *path = file_path(h);
    *ret = (struct hold_count){0};
    if (db_query(h->db, "START TRANSACTION", NULL, e) < 0)
        return -1;
    if (table_read(h, &l, e) < 0 || file_load(h, &l, e) < 0 || resume_mailings(h, &l, ret, e) < 0 ||
        resume_jobs(h, &l, "jr", ret, e) < 0 || forget(h, e) < 0)
        return rollback(h);
    if (path && unlink(path) < 0 && errno != ENOENT)
        log_warning("%s: %s", path, strerror(errno));
    return 0;
}

int hold_ran_end(struct helper *h, struct err *e) {
    autolist struct held_list l = {0};
    struct hold_count count = {0};
    if (db_query(h->db, "START TRANSACTION", NULL, e) < 0)
        return -1;
    if (table_read(h, &l, e) < 0 || resume_jobs(h, &l, "r", &count, e) < 0 ||
        db_query(h->db, "DELETE FROM civinit_mail_hold WHERE what = 'r'", NULL, e) < 0 ||
        db_query(h->db, "COMMIT", NULL, e) < 0)
        return rollback(h);
    return 0;
}
