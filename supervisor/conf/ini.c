#include "conf/ini.h"

#include <ctype.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

// inih, as packaged, has a line buffer of 200 bytes and a section buffer of 50. So it is given
// short stand-ins ("[s]", "k=v", " v") in the place of the real texts, which wait here.
struct source {
    const char *next;
    int line;
    char *section, *key, *value;
    ini_pair *pair;
    ini_section *on_section;
    ini_problem *problem;
    void *arg;
    int failed;
    int more;
};

static char *trimmed(const char *from, const char *to) {
    while (from < to && isspace((unsigned char)*from))
        from++;
    while (to > from && isspace((unsigned char)to[-1]))
        to--;
    return strndup(from, to - from);
}

static void keep(struct source *s, char **slot, const char *from, const char *to) {
    free(*slot);
    *slot = trimmed(from, to);
    if (!*slot)
        s->failed = 1;
}

// What inih reads instead of the line from..to.
static const char *stand_in(struct source *s, const char *from, const char *to) {
    const char *p = from;
    while (p < to && isspace((unsigned char)*p))
        p++;
    if (p == to || *p == ';' || *p == '#')
        return "\n";
    if (*p == '[' && p == from) {
        const char *end = memchr(p, ']', to - p);
        const char *rest = end ? end + 1 : to;
        while (rest < to && isspace((unsigned char)*rest))
            rest++;
        if (!end || (rest < to && *rest != ';' && *rest != '#')) {
            s->problem(s->arg, s->line,
                       end ? "text after the \"]\" of a section" : "a section without its \"]\"");
            return "\n";
        }
        keep(s, &s->section, p + 1, end);
        if (s->on_section && s->section)
            s->on_section(s->arg, s->line, s->section);
        free(s->key);
        s->key = NULL;
        return "[s]\n";
    }
    if (p > from) { // continues the value above
        if (!s->key) {
            s->problem(s->arg, s->line,
                       "a line that begins with a blank, but no value above it to continue");
            return "\n";
        }
        s->more = 1;
        keep(s, &s->value, from, to);
        return " v\n";
    }
    const char *equals = memchr(p, '=', to - p);
    if (!equals || equals == p) {
        s->problem(s->arg, s->line, "neither [section] nor key = value");
        return "\n";
    }
    keep(s, &s->key, p, equals);
    keep(s, &s->value, equals + 1, to);
    s->more = 0;
    return "k=v\n";
}

static char *read_line(char *out, int size, void *stream) {
    struct source *s = stream;
    if (!*s->next || s->failed)
        return NULL;
    const char *from = s->next, *to = strchrnul(from, '\n');
    s->next = *to ? to + 1 : to;
    s->line++;
    if (s->line == 1 && strncmp(from, "\xef\xbb\xbf", 3) == 0)
        from += 3;
    snprintf(out, size, "%s", stand_in(s, from, to));
    return out;
}

static int on_pair(void *user, const char *section, const char *key, const char *value) {
    struct source *s = user;
    if (!s->failed && s->key && s->value)
        s->pair(s->arg, s->line, s->section ? s->section : "", s->key, s->value, s->more);
    return 1;
}

int ini_read(const char *text, ini_pair *pair, ini_section *section, ini_problem *problem,
             void *arg, struct err *e) {
    struct source s = {
        .next = text, .pair = pair, .on_section = section, .problem = problem, .arg = arg};
    ini_parse_stream(read_line, &s, on_pair, &s);
    free(s.section);
    free(s.key);
    free(s.value);
    return s.failed ? err_set(e, EX_OSERR, "out of memory") : 0;
}
