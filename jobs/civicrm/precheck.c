#include "precheck.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "common/version.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

enum {
    READ_MS = 30000,
    XML_MAX = 1 << 20,
};

// [civicrm] code: the folder that has xml/version.xml, or that file. Its version, the caller's.
static int code_version(const char *code, char **ret, struct err *e) {
    autofree char *path = NULL, *xml = NULL;
    struct stat st;
    if (stat(code, &st) < 0)
        return err_errno(e, EX_CONFIG, "[civicrm] code = %s", code);
    if (asprintf(&path, S_ISDIR(st.st_mode) ? "%s/xml/version.xml" : "%s", code) < 0) {
        path = NULL;
        return err_set(e, EX_OSERR, "out of memory");
    }
    if (file_read(path, XML_MAX, &xml, NULL, e) < 0)
        return err_wrap(e, "[civicrm] code");
    *ret = version_of_xml(xml);
    return *ret ? 0 : err_set(e, EX_CONFIG, "[civicrm] code: %s has no <version_no>", path);
}

// Where each CMS has CiviCRM, seen from the site's document root.
static const char *const places[] = {"vendor/civicrm/civicrm-core",
                                     "../vendor/civicrm/civicrm-core",
                                     "wp-content/plugins/civicrm/civicrm",
                                     "sites/all/modules/civicrm",
                                     "modules/civicrm",
                                     "core",
                                     "administrator/components/com_civicrm/civicrm",
                                     NULL};

// [civicrm] code; unless it is given, what is found below the folder in which a CiviCRM job runs.
// The caller's to free; NULL: not known.
static char *find_code(struct helper *h) {
    const char *code = conf_text(&h->conf, "civicrm", "", "code", NULL);
    if (code)
        return *code ? strdup(code) : NULL;
    for (size_t i = 0; i < h->conf.nsections; i++) {
        const char *job = h->conf.sections[i].name;
        if (strcmp(h->conf.sections[i].section, "job") != 0 ||
            strcmp(conf_text(&h->conf, "job", job, "verdict", ""), "civicrm") != 0)
            continue;
        const char *cwd = conf_text(&h->conf, "job", job, "cwd", NULL);
        for (int k = 0; cwd && places[k]; k++) {
            autofree char *path = NULL;
            char *found = NULL;
            if (asprintf(&path, "%s/%s/xml/version.xml", cwd, places[k]) < 0)
                path = NULL;
            if (path && access(path, R_OK) == 0)
                return asprintf(&found, "%s/%s", cwd, places[k]) < 0 ? NULL : found;
        }
    }
    return NULL;
}

// Adds to why when the database at version have does not fit the code there.
static int compare(const char *have, const char *code, struct buf *why, struct err *e) {
    autofree char *want = NULL;
    if (code_version(code, &want, e) < 0)
        return -1;
    int order = version_compare(have, want);
    if (order < 0)
        buf_printf(why, "upgrade pending: the database is at %s, the code at %s", have, want);
    else if (order > 0)
        buf_printf(why, "the database is at %s, newer than the code at %s", have, want);
    return 0;
}

static int check_version(struct helper *h, struct buf *why, struct buf *version, struct err *e) {
    autofree char *have = NULL;
    if (db_value(h->db, "SELECT version FROM civicrm_domain ORDER BY id LIMIT 1", &have, e) < 0) {
        if (!helper_missing(h->db))
            return -1;
        buf_printf(why, "database %s has no CiviCRM tables", h->database);
        return 0;
    }
    if (!have) {
        buf_printf(why, "database %s has no CiviCRM domain", h->database);
        return 0;
    }
    buf_str(version, have);
    autofree char *code = find_code(h);
    return code ? compare(have, code, why, e) : 0;
}

// CiviCRM's own switch, where this version has it: a serialized boolean, or "inherit".
static int check_setting(struct helper *h, struct buf *why, struct err *e) {
    autofree char *value = NULL;
    if (db_value(h->db, "SELECT value FROM civicrm_setting WHERE name = 'core_maintenance_mode'",
                 &value, e) < 0)
        return helper_missing(h->db) ? 0 : -1;
    if (value && (strcmp(value, "s:1:\"1\";") == 0 || strcmp(value, "i:1;") == 0 ||
                  strcmp(value, "b:1;") == 0))
        buf_str(why, "maintenance: CiviCRM's core_maintenance_mode is on");
    return 0;
}

int precheck(struct helper *h, struct buf *why, struct buf *version, struct err *e) {
    const char *flag = conf_text(&h->conf, "civicrm", "", "maintenance", NULL);
    if (flag && *flag && access(flag, F_OK) == 0) {
        buf_printf(why, "maintenance: %s exists", flag);
        return 0;
    }
    if (helper_connect(h, READ_MS, e) < 0)
        return -1;
    if (check_version(h, why, version, e) < 0)
        return -1;
    return why->len ? 0 : check_setting(h, why, e);
}
