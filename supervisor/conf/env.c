#include "conf/env.h"

#include "base/cleanup.h"
#include "base/file.h"

#include <ctype.h>
#include <string.h>
#include <sysexits.h>

static void add(struct env *v, char *entry) {
    if (v->n + 2 > v->cap) {
        size_t cap = v->cap ? v->cap * 2 : 64;
        char **list = arena_alloc(v->arena, cap * sizeof *list);
        if (!list) {
            v->failed = 1;
            return;
        }
        if (v->n)
            memcpy(list, v->list, v->n * sizeof *list);
        v->list = list;
        v->cap = cap;
    }
    v->list[v->n++] = entry;
    v->list[v->n] = NULL;
}

void env_init(struct env *v, struct arena *arena, char *const *environ_) {
    *v = (struct env){.arena = arena};
    for (; environ_ && *environ_; environ_++) {
        char *entry = arena_text(arena, *environ_);
        if (entry)
            add(v, entry);
        else
            v->failed = 1;
    }
}

void env_set(struct env *v, const char *name, const char *value) {
    size_t len = strlen(name);
    char *entry = value ? arena_printf(v->arena, "%s=%s", name, value) : NULL;
    if (value && !entry)
        v->failed = 1;
    for (size_t i = 0; i < v->n; i++) {
        if (strncmp(v->list[i], name, len) != 0 || v->list[i][len] != '=')
            continue;
        if (entry) {
            v->list[i] = entry;
        } else {
            memmove(v->list + i, v->list + i + 1, (v->n - i) * sizeof *v->list);
            v->n--;
        }
        return;
    }
    if (entry)
        add(v, entry);
}

static int take_line(struct env *v, char *line, const char *path, int number, struct err *e) {
    line += strspn(line, " \t");
    if (!*line || *line == '#')
        return 0;
    if (strncmp(line, "export ", 7) == 0)
        line += 7 + strspn(line + 7, " \t");
    char *equals = strchr(line, '=');
    size_t n = equals ? (size_t)(equals - line) : 0;
    if (!n || isdigit((unsigned char)*line) ||
        strspn(line, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") < n)
        return err_set(e, EX_CONFIG, "%s:%d: not NAME=value", path, number);
    *equals = 0;
    char *value = equals + 1, *end = value + strlen(value);
    while (end > value && isspace((unsigned char)end[-1]))
        *--end = 0;
    if (end - value >= 2 && (*value == '"' || *value == '\'') && end[-1] == *value) {
        end[-1] = 0;
        value++;
    }
    env_set(v, line, value);
    return 0;
}

int env_file(struct env *v, const char *path, struct err *e) {
    enum {
        LARGEST = 1 << 20
    };
    autofree char *text = NULL;
    if (file_read(path, LARGEST, &text, NULL, e) < 0)
        return -1;
    char *save;
    int number = 1;
    // strsep, so that empty lines count.
    save = text;
    for (char *line; (line = strsep(&save, "\n")); number++)
        if (take_line(v, line, path, number, e) < 0)
            return -1;
    return 0;
}
