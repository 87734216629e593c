#include "conf/conf.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "conf/expand.h"
#include "conf/ini.h"
#include "conf/schema.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

enum {
    FILE_MAX = 4 << 20
};

struct reading {
    struct conf *c;
    const char *file;
    const char *section, *name; // where the reader is
    bool known;                 // the section is one of the schema's
    size_t first;               // entries before it are of other files
    long current;               // entry that continuation lines belong to, or -1
    bool failed;
};

// Room for one more element of an array of the struct conf.
static bool grow(void **array, size_t n, size_t *cap, size_t size) {
    if (n < *cap)
        return true;
    size_t more = *cap ? *cap * 2 : 32;
    void *p = realloc(*array, more * size);
    if (!p)
        return false;
    *array = p;
    *cap = more;
    return true;
}

// "file:line: [section name] key: text" in the arena, or NULL.
static char *sentence(struct conf *c, const char *file, int line, const char *section,
                      const char *name, const char *key, const char *text) {
    char where[300] = "";
    if (section && *section)
        snprintf(where, sizeof where, " [%s%s%s]%s%s%s", section, *name ? " " : "", name,
                 key ? " " : "", key ? key : "", ":");
    struct err e;
    err_set(&e, EX_CONFIG, "%s:%d:%s %s", file, line, where, text);
    return arena_text(&c->arena, e.text);
}

static void add_problem(struct conf *c, const char *file, int line, const char *section,
                        const char *name, const char *key, const char *text) {
    if (!grow((void **)&c->problems, c->nproblems, &c->problems_cap, sizeof *c->problems))
        return;
    char *p = sentence(c, file, line, section, name, key, text);
    if (p)
        c->problems[c->nproblems++] = p;
}

void conf_absent(struct conf *c, const struct conf_entry *at, const char *why) {
    c->entries[at - c->entries].unsure = true;
    if (!grow((void **)&c->absent, c->nabsent, &c->absent_cap, sizeof *c->absent))
        return;
    char *p = sentence(c, at->file, at->line, at->section, at->name, at->key, why);
    if (p)
        c->absent[c->nabsent++] = p;
}

void conf_problem(struct conf *c, const struct conf_entry *at, const char *fmt, ...) {
    char text[ERR_TEXT];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (!at)
        add_problem(c, c->path, 1, NULL, NULL, NULL, text);
    else if (!at->unsure)
        add_problem(c, at->file, at->line, at->section, at->name, at->key, text);
}

static void on_problem(void *arg, int line, const char *text) {
    struct reading *r = arg;
    add_problem(r->c, r->file, line, r->section, r->name ? r->name : "", NULL, text);
}

static void check_section(struct reading *r, int line) {
    int named = schema_named(r->section);
    const char *near = named < 0 ? schema_nearest_section(r->section) : NULL;
    char text[300] = "";
    if (named < 0)
        snprintf(text, sizeof text,
                 near ? "unknown section; did you mean [%s]?" : "unknown section", near);
    else if (named && !*r->name)
        snprintf(text, sizeof text, "this section needs a name: [%s NAME]", r->section);
    else if (!named && *r->name)
        snprintf(text, sizeof text, "this section takes no name: [%s]", r->section);
    else if (r->name[strspn(r->name,
                            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")])
        snprintf(text, sizeof text, "a name has letters, digits, \".\", \"_\" and \"-\" only");
    r->known = !*text;
    if (*text)
        add_problem(r->c, r->file, line, r->section, r->name, NULL, text);
}

static void on_section(void *arg, int line, const char *section) {
    struct reading *r = arg;
    struct conf *c = r->c;
    size_t n = strcspn(section, " \t");
    r->section = arena_textn(&c->arena, section, n);
    r->name = arena_text(&c->arena, section + n + strspn(section + n, " \t"));
    r->current = -1;
    if (!r->section || !r->name) {
        r->failed = true;
        return;
    }
    check_section(r, line);
    for (size_t i = 0; i < c->nsections; i++)
        if (strcmp(c->sections[i].section, r->section) == 0 &&
            strcmp(c->sections[i].name, r->name) == 0)
            return;
    if (!r->known ||
        !grow((void **)&c->sections, c->nsections, &c->sections_cap, sizeof *c->sections))
        return;
    c->sections[c->nsections].section = r->section;
    c->sections[c->nsections].name = r->name;
    c->sections[c->nsections].file = r->file;
    c->sections[c->nsections].line = line;
    c->nsections++;
}

// The entry that a pair goes to: a new one, or the one it replaces or (lists) adds to.
static struct conf_entry *entry_for(struct reading *r, int line, const struct schema_key *k,
                                    const char *key) {
    struct conf *c = r->c;
    for (size_t i = 0; i < c->n; i++) {
        struct conf_entry *x = &c->entries[i];
        if (strcmp(x->section, r->section) != 0 || strcmp(x->name, r->name) != 0 ||
            strcmp(x->key, key) != 0)
            continue;
        if (strcmp(x->file, r->file) == 0 && k->type != SCHEMA_LIST) {
            char text[100];
            snprintf(text, sizeof text, "given twice; first on line %d", x->line);
            add_problem(c, r->file, line, r->section, r->name, key, text);
        }
        if (strcmp(x->file, r->file) != 0)
            x->raw = NULL;
        return x;
    }
    if (!grow((void **)&c->entries, c->n, &c->cap, sizeof *c->entries))
        return NULL;
    struct conf_entry *x = &c->entries[c->n++];
    *x = (struct conf_entry){
        .section = r->section, .name = r->name, .key = arena_text(&c->arena, key)};
    return x->key ? x : NULL;
}

static void on_pair(void *arg, int line, const char *section, const char *key, const char *value,
                    int more) {
    struct reading *r = arg;
    struct conf *c = r->c;
    if (r->failed)
        return;
    if (!r->section) {
        add_problem(c, r->file, line, NULL, NULL, NULL, "a key before the first [section]");
        return;
    }
    if (!r->known)
        return;
    if (more) {
        if (r->current < 0)
            return;
        struct conf_entry *x = &c->entries[r->current];
        x->raw = *x->raw ? arena_printf(&c->arena, "%s\n%s", x->raw, value)
                         : arena_text(&c->arena, value);
        r->failed = !x->raw;
        return;
    }
    r->current = -1;
    const struct schema_key *k = schema_find(r->section, key);
    if (!k) {
        const char *near = schema_nearest_key(r->section, key);
        char text[200];
        snprintf(text, sizeof text, near ? "unknown key; did you mean \"%s\"?" : "unknown key",
                 near);
        add_problem(c, r->file, line, r->section, r->name, key, text);
        return;
    }
    struct conf_entry *x = entry_for(r, line, k, key);
    if (!x) {
        r->failed = true;
        return;
    }
    x->raw = x->raw && k->type == SCHEMA_LIST ? arena_printf(&c->arena, "%s\n%s", x->raw, value)
                                              : arena_text(&c->arena, value);
    x->file = r->file;
    x->line = line;
    r->failed = !x->raw;
    r->current = x - c->entries;
}

static int read_file(struct conf *c, const char *path, struct err *e) {
    autofree char *text = NULL;
    size_t len;
    if (file_read(path, FILE_MAX, &text, &len, e) < 0) {
        e->code = e->code == EX_NOPERM ? EX_NOPERM : EX_CONFIG;
        return -1;
    }
    struct reading r = {.c = c, .file = arena_text(&c->arena, path), .current = -1};
    if (!r.file)
        return err_set(e, EX_OSERR, "out of memory");
    if (strlen(text) != len)
        add_problem(c, r.file, 1, NULL, NULL, NULL,
                    "holds a NUL byte; what follows it is not read");
    if (ini_read(text, on_pair, on_section, on_problem, &r, e) < 0)
        return -1;
    return r.failed ? err_set(e, EX_OSERR, "%s: out of memory", path) : 0;
}

static int is_ini(const struct dirent *d) {
    size_t n = strlen(d->d_name);
    return d->d_name[0] != '.' && n > 4 && strcmp(d->d_name + n - 4, ".ini") == 0;
}

static int read_drop_ins(struct conf *c, const char *path, struct err *e) {
    size_t n = strlen(path);
    if (n <= 4 || strcmp(path + n - 4, ".ini") != 0)
        return 0;
    char dir[4096], file[4400];
    snprintf(dir, sizeof dir, "%.*s.d", (int)(n - 4), path);
    struct dirent **list;
    int count = scandir(dir, &list, is_ini, alphasort);
    if (count < 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : err_errno(e, EX_CONFIG, "%s", dir);
    int rc = 0;
    for (int i = 0; i < count; i++) {
        snprintf(file, sizeof file, "%s/%s", dir, list[i]->d_name);
        if (rc == 0)
            rc = read_file(c, file, e);
        free(list[i]);
    }
    free(list);
    return rc;
}

static bool is_used(const char *const *used, const char *section) {
    if (!used)
        return true;
    for (; *used; used++)
        if (strcmp(*used, section) == 0)
            return true;
    return false;
}

static int fill_in(struct conf *c, const char *const *used, struct err *e) {
    for (size_t i = 0; i < c->n; i++) {
        struct conf_entry *x = &c->entries[i];
        struct err why = {0};
        x->value = x->raw;
        if (!is_used(used, x->section))
            continue;
        char *value, *absent = NULL;
        int rc = c->at_build ? expand_known(x->raw, &c->arena, &value, &x->secret, &absent, &why)
                             : expand(x->raw, &c->arena, &value, &x->secret, &why);
        if (rc < 0) {
            if (why.code == EX_OSERR)
                return err_set(e, why.code, "%s", why.text);
            conf_problem(c, x, "%s", why.text);
            continue;
        }
        x->value = value;
        if (absent)
            conf_absent(c, x, absent);
        else if (schema_check(schema_find(x->section, x->key), value, &why) < 0)
            conf_problem(c, x, "%s",
                         x->secret ? "what the file holds is not a valid value here" : why.text);
    }
    return 0;
}

int conf_load(struct conf *c, const char *path, const char *const *used, struct err *e) {
    c->path = arena_text(&c->arena, path);
    if (!c->path)
        return err_set(e, EX_OSERR, "out of memory");
    if (read_file(c, path, e) < 0 || read_drop_ins(c, path, e) < 0)
        return -1;
    return fill_in(c, used, e);
}

int conf_load_strict(struct conf *c, const char *path, const char *const *used, struct err *e) {
    if (conf_load(c, path, used, e) < 0)
        return -1;
    if (!c->nproblems)
        return 0;
    for (size_t i = 0; i < c->nproblems; i++)
        log_error("%s", c->problems[i]);
    return err_set(e, EX_CONFIG, "%s: %zu problem%s in the configuration", path, c->nproblems,
                   c->nproblems == 1 ? "" : "s");
}

const struct conf_entry *conf_find(const struct conf *c, const char *section, const char *name,
                                   const char *key) {
    for (size_t i = 0; i < c->n; i++) {
        const struct conf_entry *x = &c->entries[i];
        if (strcmp(x->section, section) == 0 && strcmp(x->name, name) == 0 &&
            strcmp(x->key, key) == 0)
            return x;
    }
    return NULL;
}

const char *conf_text(const struct conf *c, const char *section, const char *name, const char *key,
                      const char *fallback) {
    const struct conf_entry *x = conf_find(c, section, name, key);
    return x ? x->value : fallback;
}

int64_t conf_ms(const struct conf *c, const char *section, const char *name, const char *key,
                int64_t fallback_ms) {
    const char *text = conf_text(c, section, name, key, NULL);
    int64_t ms;
    return text && text_duration(text, &ms, NULL) == 0 ? ms : fallback_ms;
}

int64_t conf_size(const struct conf *c, const char *section, const char *name, const char *key,
                  int64_t fallback_bytes) {
    const char *text = conf_text(c, section, name, key, NULL);
    int64_t n;
    return text && text_size(text, &n, NULL) == 0 ? n : fallback_bytes;
}

int64_t conf_int(const struct conf *c, const char *section, const char *name, const char *key,
                 int64_t fallback) {
    const char *text = conf_text(c, section, name, key, NULL);
    int64_t n;
    return text && text_int(text, 0, INT32_MAX, &n, NULL) == 0 ? n : fallback;
}

bool conf_bool(const struct conf *c, const char *section, const char *name, const char *key,
               bool fallback) {
    const char *text = conf_text(c, section, name, key, NULL);
    bool b;
    return text && text_bool(text, &b, NULL) == 0 ? b : fallback;
}

char **conf_list(struct conf *c, const char *section, const char *name, const char *key) {
    const struct conf_entry *x = conf_find(c, section, name, key);
    struct err e;
    char **words = NULL;
    if (x && text_words(x->value, &words, &e) < 0)
        conf_problem(c, x, "%s", e.text);
    size_t n = 0;
    while (words && words[n])
        n++;
    char **list = arena_alloc(&c->arena, (n + 1) * sizeof *list);
    for (size_t i = 0; list && i < n; i++)
        list[i] = arena_text(&c->arena, words[i]);
    free(words);
    return list;
}

const char *conf_path(struct conf *c, const char *role) {
    size_t n = strlen(role);
    if (strchr(role, '/') || (n > 4 && strcmp(role + n - 4, ".ini") == 0))
        return arena_text(&c->arena, role);
    const char *dir = getenv("CIVINIT_CONFIG_DIR");
    return arena_printf(&c->arena, "%s/%s.ini", dir && *dir ? dir : "/etc/civinit", role);
}

void conf_free(struct conf *c) {
    arena_free(&c->arena);
    free(c->entries);
    free(c->problems);
    free(c->absent);
    free(c->sections);
    *c = (struct conf){0};
}
