#include "backup/dumpscan.h"

#include <stdio.h>
#include <string.h>

static bool starts(const char *line, const char *with) {
    return *line == *with && strncmp(line, with, strlen(with)) == 0;
}

static int database(struct dumpscan *s, const char *name) {
    for (int i = 0; i < s->n; i++)
        if (strcmp(s->databases[i].name, name) == 0)
            return i;
    if (s->n == DUMPSCAN_DATABASES)
        return s->n - 1;
    snprintf(s->databases[s->n].name, sizeof s->databases[s->n].name, "%s", name);
    return s->n++;
}

// -- Current Database: `a``b`
static void switch_database(struct dumpscan *s, const char *quoted) {
    char name[DUMPSCAN_LINE];
    size_t n = 0;
    for (const char *p = quoted; *p && n < sizeof name - 1; p++) {
        if (*p == '`' && p[1] != '`')
            break;
        p += *p == '`';
        name[n++] = *p;
    }
    name[n] = 0;
    s->current = database(s, name);
}

static struct object_counts *current(struct dumpscan *s) {
    if (s->n == 0)
        s->current = database(s, "");
    return &s->databases[s->current].counts;
}

static void first_of_statement(struct dumpscan *s, const char *line) {
    if (starts(line, "/*!50003 CREATE*/") && strstr(line, "/*!50003 TRIGGER "))
        current(s)->triggers++;
    else if (starts(line, "/*!50106 CREATE*/") && strstr(line, "/*!50106 EVENT "))
        current(s)->events++;
    else if (starts(line, "CREATE ") &&
             (strstr(line, " FUNCTION `") || strstr(line, " PROCEDURE `")))
        current(s)->routines++;
}

static void plain_line(struct dumpscan *s, const char *line) {
    if (starts(line, "CREATE TABLE `"))
        current(s)->tables++;
    else if (starts(line, "/*!50001 VIEW `"))
        current(s)->views++;
    else if (starts(line, "-- Current Database: `"))
        switch_database(s, line + strlen("-- Current Database: `"));
}

static void delimiter_line(struct dumpscan *s, const char *delimiter) {
    snprintf(s->delimiter, sizeof s->delimiter, "%.*s", DUMPSCAN_DELIMITER - 1, delimiter);
    s->where = strcmp(delimiter, ";") == 0 ? SCAN_PLAIN : SCAN_FIRST;
}

static bool ends_statement(const struct dumpscan *s) {
    size_t n = strlen(s->delimiter);
    return s->nend >= n && memcmp(s->end + s->nend - n, s->delimiter, n) == 0;
}

static void line_ended(struct dumpscan *s) {
    s->line[s->len] = 0;
    const char *line = s->line;
    if (s->len == 0)
        return;
    s->completed = starts(line, "-- Dump completed");
    if (starts(line, "DELIMITER ")) {
        delimiter_line(s, line + strlen("DELIMITER "));
    } else if (s->where == SCAN_PLAIN) {
        plain_line(s, line);
    } else {
        if (s->where == SCAN_FIRST)
            first_of_statement(s, line);
        s->where = ends_statement(s) ? SCAN_FIRST : SCAN_BODY;
    }
    s->len = s->nend = 0;
}

// The line's last bytes, which may come in several pieces.
static void keep_end(struct dumpscan *s, const char *p, size_t n) {
    if (n >= sizeof s->end) {
        memcpy(s->end, p + n - sizeof s->end, sizeof s->end);
        s->nend = sizeof s->end;
        return;
    }
    size_t drop = s->nend + n > sizeof s->end ? s->nend + n - sizeof s->end : 0;
    memmove(s->end, s->end + drop, s->nend - drop);
    memcpy(s->end + s->nend - drop, p, n);
    s->nend += n - drop;
}

void dumpscan_add(struct dumpscan *s, const void *data, size_t len) {
    const char *p = data;
    while (len) {
        const char *newline = memchr(p, '\n', len);
        size_t n = newline ? (size_t)(newline - p) : len, room = DUMPSCAN_LINE - 1 - s->len;
        memcpy(s->line + s->len, p, n < room ? n : room);
        s->len += n < room ? n : room;
        if (s->where != SCAN_PLAIN)
            keep_end(s, p, n);
        if (!newline)
            return;
        line_ended(s);
        len -= n + 1;
        p = newline + 1;
    }
}

void dumpscan_restart(struct dumpscan *s) {
    s->completed = false;
    s->len = s->nend = 0;
    s->where = SCAN_PLAIN;
}

const struct object_counts *dumpscan_find(const struct dumpscan *s, const char *name) {
    for (int i = 0; i < s->n; i++)
        if (strcmp(s->databases[i].name, name) == 0)
            return &s->databases[i].counts;
    return NULL;
}
