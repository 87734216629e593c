#include "cron/environ.h"

#include "base/cleanup.h"
#include "base/file.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

// Adds "NAME=value" (kept, not copied) or replaces the one of that name.
static int set(struct environ *v, char *text, struct err *e) {
    if (!text)
        return err_set(e, EX_OSERR, "out of memory");
    size_t name = strcspn(text, "=") + 1;
    for (size_t i = 0; i < v->n; i++)
        if (strncmp(v->v[i], text, name) == 0) {
            v->v[i] = text;
            return 0;
        }
    if (v->n + 2 > v->cap) {
        size_t cap = v->cap ? v->cap * 2 : 64;
        void *more = realloc(v->v, cap * sizeof *v->v);
        if (!more)
            return err_set(e, EX_OSERR, "out of memory");
        v->v = more;
        v->cap = cap;
    }
    v->v[v->n++] = text;
    v->v[v->n] = NULL;
    return 0;
}

static int set_pair(struct environ *v, const char *name, const char *value, struct err *e) {
    return set(v, arena_printf(&v->arena, "%s=%s", name, value), e);
}

static bool is_name(const char *text, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (text[i] != '_' && !isalnum((unsigned char)text[i]))
            return false;
    return n && !isdigit((unsigned char)*text);
}

// NAME=value, "export NAME=value", quotes around the value are taken off, "#" begins a comment
// line. Lines are never shown: they hold secrets.
static int set_line(struct environ *v, char *line, const char *path, int number, struct err *e) {
    line += strspn(line, " \t");
    if (!*line || *line == '#')
        return 0;
    if (strncmp(line, "export ", 7) == 0)
        line += 7;
    size_t n = strcspn(line, "=");
    if (!line[n] || !is_name(line, n))
        return err_set(e, EX_CONFIG, "%s:%d: not NAME=value", path, number);
    char *value = line + n + 1;
    size_t len = strlen(value);
    while (len && isspace((unsigned char)value[len - 1]))
        value[--len] = 0;
    if (len >= 2 && (*value == '"' || *value == '\'') && value[len - 1] == *value) {
        value[len - 1] = 0;
        value++;
    }
    line[n] = 0;
    return set_pair(v, line, value, e);
}

static int set_file(struct environ *v, const char *path, struct err *e) {
    autofree char *text = NULL;
    if (file_read(path, 1 << 20, &text, NULL, e) < 0)
        return err_wrap(e, "env_file");
    int number = 1, rc = 0;
    for (char *line = text, *next; line && rc == 0; line = next, number++) {
        next = strchr(line, '\n');
        if (next)
            *next++ = 0;
        rc = set_line(v, line, path, number, e);
    }
    return rc;
}

int environ_make(struct environ *v, const struct job *job, const char *run, struct err *e) {
    const struct account *a = job->account;
    for (char **x = environ; *x; x++)
        if (strncmp(*x, "NOTIFY_SOCKET=", 14) != 0 && set(v, *x, e) < 0)
            return -1;
    if (a && (set_pair(v, "HOME", a->home, e) < 0 || set_pair(v, "USER", a->user, e) < 0 ||
              set_pair(v, "LOGNAME", a->user, e) < 0 || set_pair(v, "SHELL", a->shell, e) < 0))
        return -1;
    if (job->env_file && set_file(v, job->env_file, e) < 0)
        return -1;
    for (size_t i = 0; i < job->n_env; i++)
        if (set(v, (char *)job->env[i], e) < 0)
            return -1;
    if (set_pair(v, "CIVINIT_JOB", job->name, e) < 0)
        return -1;
    return set_pair(v, "CIVINIT_RUN", run, e);
}

void environ_free(struct environ *v) {
    free(v->v);
    arena_free(&v->arena);
}
