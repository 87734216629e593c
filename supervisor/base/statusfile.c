#include "base/statusfile.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

// One row per key; a table of these reads and writes both kinds of lines.
struct field {
    const char *key;
    enum {
        TEXT,
        NUMBER,
        FLAG
    } type;
    size_t offset;
};

static const struct field container_fields[] = {
    {"role", TEXT, offsetof(struct statusfile, role)},
    {"state", TEXT, offsetof(struct statusfile, state)},
    {"started", NUMBER, offsetof(struct statusfile, started_ms)},
    {"pid", NUMBER, offsetof(struct statusfile, pid)},
    {"main", TEXT, offsetof(struct statusfile, main)},
    {"config", TEXT, offsetof(struct statusfile, config)},
    {"deadline", NUMBER, offsetof(struct statusfile, deadline_ms)},
    {"oom_kills", NUMBER, offsetof(struct statusfile, oom_kills)},
    {"reason", TEXT, offsetof(struct statusfile, reason)},
    {NULL, 0, 0},
};

static const struct field service_fields[] = {
    {"name", TEXT, offsetof(struct statusfile_service, name)},
    {"kind", TEXT, offsetof(struct statusfile_service, kind)},
    {"state", TEXT, offsetof(struct statusfile_service, state)},
    {"pid", NUMBER, offsetof(struct statusfile_service, pid)},
    {"since", NUMBER, offsetof(struct statusfile_service, since_ms)},
    {"restarts", NUMBER, offsetof(struct statusfile_service, restarts)},
    {"ready_ms", NUMBER, offsetof(struct statusfile_service, ready_ms)},
    {"exit", NUMBER, offsetof(struct statusfile_service, exit)},
    {"signal", NUMBER, offsetof(struct statusfile_service, signal)},
    {"unhealthy", NUMBER, offsetof(struct statusfile_service, unhealthy)},
    {"next", NUMBER, offsetof(struct statusfile_service, next_ms)},
    {"oom", FLAG, offsetof(struct statusfile_service, oom)},
    {"status", TEXT, offsetof(struct statusfile_service, status)},
    {"reason", TEXT, offsetof(struct statusfile_service, reason)},
    {NULL, 0, 0},
};

struct out {
    char *p, *end;
    bool full;
};

static void put(struct out *o, char c) {
    if (o->p < o->end)
        *o->p++ = c;
    else
        o->full = true;
}

static void put_text(struct out *o, const char *text) {
    while (*text)
        put(o, *text++);
}

static void put_encoded(struct out *o, const char *text) {
    static const char hex[] = "0123456789ABCDEF";
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p > 0x20 && *p < 0x7f && *p != '%') {
            put(o, (char)*p);
        } else {
            put(o, '%');
            put(o, hex[*p >> 4]);
            put(o, hex[*p & 15]);
        }
    }
}

static void put_line(struct out *o, const char *kind, const struct field *f, const void *from) {
    put_text(o, kind);
    for (; f->key; f++) {
        const char *at = (const char *)from + f->offset;
        char number[24];
        put(o, ' ');
        put_text(o, f->key);
        put(o, '=');
        if (f->type == TEXT && *(const char *const *)at)
            put_encoded(o, *(const char *const *)at);
        if (f->type == FLAG)
            put(o, *(const bool *)at ? '1' : '0');
        if (f->type == NUMBER) {
            snprintf(number, sizeof number, "%lld", (long long)*(const int64_t *)at);
            put_text(o, number);
        }
    }
    put(o, '\n');
}

size_t statusfile_format(const struct statusfile *s, char *buf, size_t size) {
    if (!size)
        return 0;
    struct out o = {buf, buf + size - 1, false};
    put_text(&o, "civinit 1\n");
    put_line(&o, "container", container_fields, s);
    for (size_t i = 0; i < s->n; i++)
        put_line(&o, "service", service_fields, &s->services[i]);
    *o.p = 0;
    return o.full ? 0 : (size_t)(o.p - buf);
}

int statusfile_write(const char *run_dir, const char *text, size_t len, struct err *e) {
    char path[4096], temporary[4096];
    if (snprintf(path, sizeof path, "%s/status", run_dir) >= (int)sizeof path - 4)
        return err_set(e, EX_CANTCREAT, "%s: name too long", run_dir);
    snprintf(temporary, sizeof temporary, "%.*s.new", (int)sizeof path - 8, path);
    autoclose int fd =
        open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644);
    if (fd < 0)
        return err_errno(e, EX_CANTCREAT, "%s", temporary);
    if (file_write(fd, text, len) < 0 || rename(temporary, path) < 0) {
        err_errno(e, EX_IOERR, "%s", path);
        unlink(temporary);
        return -1;
    }
    return 0;
}

static int digit(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

static void decode(char *text) {
    char *out = text;
    for (const char *p = text; *p; p++) {
        if (*p == '%' && digit(p[1]) >= 0 && digit(p[2]) >= 0) {
            char c = (char)(digit(p[1]) << 4 | digit(p[2]));
            p += 2;
            *out++ = c ? c : '?';
        } else {
            *out++ = *p;
        }
    }
    *out = 0;
}

// Fills the fields of one line in; `line` is taken apart in place.
static void take_line(char *line, const struct field *fields, void *to) {
    for (const struct field *f = fields; f->key; f++)
        if (f->type == TEXT)
            *(const char **)((char *)to + f->offset) = "";
    char *save, *word;
    strtok_r(line, " ", &save); // what kind of line it is
    while ((word = strtok_r(NULL, " ", &save))) {
        char *value = strchr(word, '=');
        if (!value)
            continue;
        *value++ = 0;
        for (const struct field *f = fields; f->key; f++) {
            char *at = (char *)to + f->offset;
            if (strcmp(f->key, word) != 0)
                continue;
            decode(value);
            if (f->type == TEXT)
                *(const char **)at = value;
            else if (f->type == FLAG)
                *(bool *)at = *value == '1';
            else
                *(int64_t *)at = strtoll(value, NULL, 10);
        }
    }
}

int statusfile_parse(const char *text, struct statusfile *ret, struct err *e) {
    if (strncmp(text, "civinit 1\n", 10) != 0)
        return err_set(e, EX_DATAERR, "not a status file of this civinit's format");
    size_t len = strlen(text), lines = 0;
    for (const char *p = text; *p; p++)
        lines += *p == '\n';
    struct statusfile s = {.role = "", .state = "", .main = "", .reason = "", .config = ""};
    s.memory = malloc(lines * sizeof *s.services + len + 1);
    if (!s.memory)
        return err_set(e, EX_OSERR, "out of memory");
    s.services = s.memory;
    char *copy = memcpy((char *)s.memory + lines * sizeof *s.services, text, len + 1);
    char *save;
    for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        if (strncmp(line, "container ", 10) == 0) {
            take_line(line, container_fields, &s);
        } else if (strncmp(line, "service ", 8) == 0) {
            s.services[s.n] = (struct statusfile_service){.ready_ms = -1, .exit = -1};
            take_line(line, service_fields, &s.services[s.n++]);
        }
    }
    *ret = s;
    return 0;
}

int statusfile_read(const char *run_dir, struct statusfile *ret, struct err *e) {
    enum {
        LARGEST = 4 << 20
    };
    char path[4096];
    autofree char *text = NULL;
    snprintf(path, sizeof path, "%s/status", run_dir);
    if (file_read(path, LARGEST, &text, NULL, e) < 0) {
        if (errno == ENOENT || errno == ENOTDIR)
            err_set(e, EX_UNAVAILABLE, "no civinit runs here: %s does not exist", path);
        return -1;
    }
    return statusfile_parse(text, ret, e) < 0 ? err_wrap(e, "%s", path) : 0;
}

static void json(const struct field *f, const void *from, struct buf *b) {
    for (bool first = true; f->key; f++, first = false) {
        const char *at = (const char *)from + f->offset;
        int64_t number = f->type == NUMBER ? *(const int64_t *)at : 0;
        buf_printf(b, "%s\"%s\":", first ? "" : ",", f->key);
        if (f->type == TEXT)
            buf_json(b, *(const char *const *)at);
        else if (f->type == FLAG)
            buf_str(b, *(const bool *)at ? "true" : "false");
        else if (number < 0)
            buf_str(b, "null");
        else
            buf_printf(b, "%lld", (long long)number);
    }
}

void statusfile_json(const struct statusfile *s, struct buf *b) {
    json(container_fields, s, b);
}

void statusfile_service_json(const struct statusfile_service *v, struct buf *b) {
    json(service_fields, v, b);
}

void statusfile_free(struct statusfile *s) {
    free(s->memory);
    *s = (struct statusfile){0};
}

const struct statusfile_service *statusfile_find(const struct statusfile *s, const char *name) {
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->services[i].name, name) == 0)
            return &s->services[i];
    return NULL;
}

const char *statusfile_run_dir(void) {
    const char *dir = getenv("CIVINIT_RUN_DIR");
    return dir && *dir ? dir : "/run/civinit";
}
