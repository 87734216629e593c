// restore --drill: the proof that an archive can be restored, without touching anything real.
#include "backup/restore.h"

#include "backup/manifest.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

enum {
    SHOWN = 20, // differences that are listed
    NAME_MAX_SQL = 64,
};

// "drill_xxxxxxxx_": the names of scratch databases begin with it. Their owner holds a lock of
// that name, so that what a killed drill left behind can be told from one that is running.
struct drill {
    struct restore *r;
    char prefix[24];
    char folder[PATH_MAX];
    struct db *lock;
    int64_t differences, tables, rows, files, bytes;
    struct err failure; // of the comparison itself
};

__attribute__((format(printf, 2, 3))) static void differs(struct drill *d, const char *fmt, ...) {
    char line[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    if (d->differences++ < SHOWN)
        log_error("drill: %s", line);
}

// ---- scratch databases

static int lock_prefix(struct drill *d, struct err *e) {
    autofree char *got = NULL;
    char sql[96];
    snprintf(sql, sizeof sql, "SELECT GET_LOCK('%s', 0)", d->prefix);
    if (db_open(&d->r->load_options.db, &d->lock, NULL, e) < 0 ||
        db_value(d->lock, sql, &got, e) < 0)
        return err_wrap(e, "database");
    return 0;
}

static bool is_scratch(const char *name) {
    size_t n = strspn(name + 6, "0123456789abcdef");
    return strncmp(name, "drill_", 6) == 0 && n == 8 && name[14] == '_';
}

// Drops what drills left behind that nobody owns any more.
static void sweep(struct drill *d) {
    struct db_rows names __attribute__((cleanup(db_rows_free))) = {0};
    if (db_query(d->lock, "SHOW DATABASES LIKE 'drill\\_%'", &names, NULL) < 0)
        return;
    for (size_t i = 0; i < names.n; i++) {
        const char *name = names.cells[i * names.columns];
        autofree char *owner = NULL;
        char sql[96];
        if (!name || !is_scratch(name))
            continue;
        snprintf(sql, sizeof sql, "SELECT IS_USED_LOCK('%.15s')", name);
        if (db_value(d->lock, sql, &owner, NULL) < 0 || owner)
            continue;
        if (db_queryf(d->lock, NULL, NULL, "DROP DATABASE `%s`", name) == 0)
            log_notice("%s, left behind by a former drill, is removed", name);
    }
}

// Every database of the archive gets a scratch name; the lists live in the configuration's arena.
static int map_databases(struct drill *d, struct err *e) {
    struct restore_wants *w = &d->r->wants;
    struct arena *arena = &d->r->o.conf.arena;
    const json_t *list = json_object_get(d->r->proven.manifest, "databases"), *x;
    size_t i, n = 0;
    char **only = arena_alloc(arena, (json_array_size(list) + 1) * sizeof *only);
    if (!only || json_array_size(list) > RESTORE_NAMES)
        return err_set(e, EX_DATAERR, "too many databases for a drill");
    json_array_foreach(list, i, x) {
        const char *name = json_string_value(json_object_get(x, "name"));
        bool chosen = w->only_databases == NULL;
        for (char **c = w->only_databases; name && c && *c; c++)
            chosen |= strcmp(*c, name) == 0;
        if (!name || !chosen)
            continue;
        if (strlen(name) + strlen(d->prefix) > NAME_MAX_SQL)
            return err_set(e, EX_DATAERR, "database %s: its name is too long for a drill", name);
        w->map[n].from = only[n] = arena_text(arena, name);
        w->map[n].to = arena_printf(arena, "%s%s", d->prefix, name);
        if (!only[n] || !w->map[n].to)
            return err_set(e, EX_OSERR, "out of memory");
        n++;
    }
    w->only_databases = only; // nothing else of the dump may reach the server
    w->databases = n > 0;
    return 0;
}

static void drop_databases(struct drill *d) {
    if (!d->lock)
        return;
    for (const struct sqledit_name *m = d->r->wants.map; m->from; m++) {
        struct err e = {0};
        autofree char *there = NULL;
        char sql[192];
        snprintf(sql, sizeof sql,
                 "SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = '%s'", m->to);
        if (strpbrk(m->to, "'\\") || (db_value(d->lock, sql, &there, NULL) == 0 && !there))
            continue;
        if (db_queryf(d->lock, NULL, &e, "DROP DATABASE IF EXISTS `%s`", m->to) < 0)
            log_warning("%s is left behind: %s", m->to, e.text);
    }
    db_close(d->lock);
    d->lock = NULL;
}

// ---- comparing databases

static int64_t count_of(struct drill *d, const char *sql) {
    autofree char *value = NULL;
    if (d->failure.code || db_value(load_db(d->r->load), sql, &value, &d->failure) < 0)
        return -1;
    return value ? strtoll(value, NULL, 10) : -1;
}

static int64_t loaded_rows(const struct drill *d, const char *database, const char *table) {
    for (const struct load_table *t = load_tables(d->r->load); t; t = t->next)
        if (strcmp(t->database, database) == 0 && strcmp(t->name, table) == 0)
            return t->rows;
    return 0;
}

// Rows of each table: those of the dump's text against those that the server counts.
static void compare_tables(struct drill *d, const char *old, const char *new) {
    struct db_rows names __attribute__((cleanup(db_rows_free))) = {0};
    if (db_queryf(load_db(d->r->load), &names, &d->failure,
                  "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = '%s' AND "
                  "TABLE_TYPE = 'BASE TABLE' ORDER BY 1",
                  new) < 0)
        return;
    for (size_t i = 0; i < names.n && !d->failure.code; i++) {
        const char *name = names.cells[i * names.columns];
        autobuf struct buf sql = {0};
        if (!name)
            continue;
        buf_printf(&sql, "SELECT COUNT(*) FROM `%s`.`", new);
        for (const char *p = name; *p; p++)
            buf_printf(&sql, *p == '`' ? "``" : "%c", *p);
        buf_str(&sql, "`");
        int64_t there = sql.failed ? -1 : count_of(d, sql.data), given = loaded_rows(d, new, name);
        if (there != given && !d->failure.code)
            differs(d, "%s.%s: %lld rows in the dump, %lld in the database", old, name,
                    (long long)given, (long long)there);
        d->tables++;
        d->rows += there;
    }
}

// Tables, views, triggers, routines and events against the manifest.
static void compare_objects(struct drill *d, const json_t *is, const char *old, const char *new) {
    static const struct {
        const char *key, *from;
    } kinds[] = {
        {"tables", "TABLES WHERE TABLE_TYPE = 'BASE TABLE' AND TABLE_SCHEMA"},
        {"views", "VIEWS WHERE TABLE_SCHEMA"},
        {"triggers", "TRIGGERS WHERE TRIGGER_SCHEMA"},
        {"routines", "ROUTINES WHERE ROUTINE_SCHEMA"},
        {"events", "EVENTS WHERE EVENT_SCHEMA"},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const json_t *want = json_object_get(is, kinds[i].key);
        char sql[256];
        if (!json_is_integer(want))
            continue;
        snprintf(sql, sizeof sql, "SELECT COUNT(*) FROM information_schema.%s = '%s'",
                 kinds[i].from, new);
        int64_t there = count_of(d, sql);
        if (there != json_integer_value(want) && !d->failure.code)
            differs(d, "%s: %lld %s in the manifest, %lld in the database", old,
                    (long long)json_integer_value(want), kinds[i].key, (long long)there);
    }
}

static void compare_databases(struct drill *d) {
    const json_t *list = json_object_get(d->r->proven.manifest, "databases"), *x;
    size_t i;
    json_array_foreach(list, i, x) {
        const char *old = json_string_value(json_object_get(x, "name"));
        const char *new = old ? sqledit_database(&d->r->load_options.edit, old) : NULL;
        if (!new || new == old || strpbrk(new, "'\\`"))
            continue;
        compare_objects(d, x, old, new);
        compare_tables(d, old, new);
    }
}

// ---- comparing files

static int digest_of(int fd, char hex[65]) {
    unsigned char buf[64 << 10], sum[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    ssize_t n;
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    int ok = c && EVP_DigestInit_ex(c, EVP_sha256(), NULL) == 1;
    while (ok && (n = read(fd, buf, sizeof buf)) != 0)
        ok = n > 0 && EVP_DigestUpdate(c, buf, (size_t)n) == 1;
    ok = ok && EVP_DigestFinal_ex(c, sum, &len) == 1;
    EVP_MD_CTX_free(c);
    for (unsigned i = 0; ok && i < len; i++)
        sprintf(hex + 2 * i, "%02x", sum[i]);
    return ok ? 0 : -1;
}

// A regular file on disk against its line: size and SHA-256.
static void compare_content(struct drill *d, int dir, const char *path, const json_t *x) {
    const char *sha = json_string_value(json_object_get(x, "sha256"));
    char hex[65] = "";
    autoclose int fd = openat(dir, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || digest_of(fd, hex) < 0)
        differs(d, "%s: cannot be read: %s", path, strerror(errno));
    else if (!sha || strcmp(sha, hex) != 0)
        differs(d, "%s: its SHA-256 is not what the manifest says", path);
}

// One line of the manifest. Names that are not UTF-8 have their bytes in path_hex.
static int compare_file(void *arg, json_t *x) {
    struct drill *d = arg;
    char raw[PATH_MAX];
    const char *path = json_string_value(json_object_get(x, "path"));
    const char *hex = json_string_value(json_object_get(x, "path_hex"));
    const char *type = json_string_value(json_object_get(x, "type"));
    size_t n = 0;
    for (unsigned c; hex && n + 1 < sizeof raw && sscanf(hex + 2 * n, "%2x", &c) == 1;)
        raw[n++] = (char)c;
    raw[n] = '\0';
    path = hex ? raw : path;
    if (*d->r->stop)
        return 1;
    if (!path || !type || strncmp(path, FILES_PREFIX, strlen(FILES_PREFIX)) != 0)
        return 0;
    autoclose int dir = open(d->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;
    path += strlen(FILES_PREFIX);
    d->files++;
    if (dir < 0 || fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        differs(d, "%s: is missing", path);
        return 0;
    }
    bool right = S_ISDIR(st.st_mode) ? strcmp(type, "dir") == 0
                 : S_ISLNK(st.st_mode)
                     ? strcmp(type, "symlink") == 0 || strcmp(type, "hardlink") == 0
                     : strcmp(type, "file") == 0 || strcmp(type, "hardlink") == 0;
    if (!right)
        differs(d, "%s: is no %s", path, type);
    else if (strcmp(type, "file") == 0)
        compare_content(d, dir, path, x);
    d->bytes += S_ISREG(st.st_mode) ? st.st_size : 0;
    return 0;
}

static void compare_files(struct drill *d) {
    struct reader_result result = {0};
    int rc = reader_list(d->r->store, d->r->name, compare_file, d, &result, &d->failure);
    if (rc == 0)
        reader_result_free(&result);
}

// ---- all of it

static int make_folder(struct drill *d, struct err *e) {
    const char *top = d->r->wants.scratch ? d->r->wants.scratch : getenv("TMPDIR");
    if (!top || !*top)
        top = "/tmp";
    if (snprintf(d->folder, sizeof d->folder, "%s/civinit-drill-XXXXXX", top) >=
        (int)sizeof d->folder)
        return err_set(e, EX_USAGE, "--scratch: path too long");
    if (!mkdtemp(d->folder)) {
        err_errno(e, EX_CANTCREAT, "a scratch folder in %s", top);
        d->folder[0] = '\0';
        return -1;
    }
    d->r->wants.to_dir = d->folder;
    d->r->wants.files = json_array_size(json_object_get(d->r->proven.manifest, "roots")) > 0;
    return 0;
}

static void remove_folder(struct drill *d) {
    if (!d->folder[0])
        return;
    autoclose int fd = open(d->folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || target_empty(fd) < 0 || rmdir(d->folder) < 0)
        log_warning("%s is left behind: %s", d->folder, strerror(errno));
}

static int prepare(struct drill *d, struct err *e) {
    struct restore *r = d->r;
    uint32_t number = 0;
    if (getrandom(&number, sizeof number, 0) != sizeof number)
        return err_errno(e, EX_OSERR, "no random numbers");
    snprintf(d->prefix, sizeof d->prefix, "drill_%08x_", number);
    if (restore_prove(r, e) < 0 || make_folder(d, e) < 0)
        return -1;
    // Links that lead outside are compared, never followed.
    r->wants.external_links = true;
    if (!r->proven.has_dump)
        return 0;
    if (map_databases(d, e) < 0 || db_options_from_conf(&r->o.conf, &r->load_options.db, e) < 0 ||
        lock_prefix(d, e) < 0)
        return -1;
    sweep(d);
    return 0;
}

static int write_and_compare(struct drill *d, struct err *e) {
    struct restore *r = d->r;
    if (restore_write(r, e) < 0) {
        if (strstr(e->text, "(1044)"))
            err_wrap(e, "a drill needs scratch databases (an administrator: GRANT ALL ON "
                        "`drill\\_%%`.* TO the account)");
        return -1;
    }
    if (restore_publish(r, e) < 0)
        return -1;
    if (r->load)
        compare_databases(d);
    if (r->wants.files && !d->failure.code)
        compare_files(d);
    if (d->failure.code) {
        *e = d->failure;
        return -1;
    }
    if (*r->stop)
        return err_set(e, EX_TEMPFAIL, "stopped by signal %d", (int)*r->stop);
    return d->differences
               ? err_set(e, EX_DATAERR, "drill: %lld differences", (long long)d->differences)
               : 0;
}

int drill_run(struct restore *r, struct err *e) {
    struct drill d = {.r = r};
    char took[32], size[32];
    int64_t began = clock_mono_ms();
    int rc = prepare(&d, e);
    if (rc == 0)
        rc = write_and_compare(&d, e);
    restore_close(r); // before the scratch places go
    drop_databases(&d);
    remove_folder(&d);
    if (rc == 0)
        log_notice("%s: proven: %lld tables with %lld rows and %lld files (%s) were restored and "
                   "compared in %s; all scratch data is removed",
                   r->name, (long long)d.tables, (long long)d.rows, (long long)d.files,
                   text_bytes(d.bytes, size, sizeof size),
                   text_ms(clock_mono_ms() - began, took, sizeof took));
    return rc;
}
