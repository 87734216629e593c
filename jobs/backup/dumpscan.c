#include "backup/dumpscan.h"

#include <stdio.h>
#include <string.h>

static bool starts(const char *line, const char *with) {
    return strncmp(line, with, strlen(with)) == 0;
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

static void line_ended(struct dumpscan *s) {
    s->line[s->len] = 0;
    const char *line = s->line;
    if (s->len == 0)
        return;
    s->len = 0;
    s->completed = starts(line, "-- Dump completed");
    if (starts(line, "DELIMITER ")) {
        s->where = strcmp(line, "DELIMITER ;") == 0 ? SCAN_PLAIN : SCAN_FIRST;
        return;
    }
    if (s->where == SCAN_FIRST) {
        first_of_statement(s, line);
        s->where = SCAN_BODY;
    } else if (s->where == SCAN_PLAIN) {
        plain_line(s, line);
    }
}

void dumpscan_add(struct dumpscan *s, const void *data, size_t len) {
    const char *p = data;
    while (len) {
        const char *newline = memchr(p, '\n', len);
        size_t n = newline ? (size_t)(newline - p) : len, room = DUMPSCAN_LINE - 1 - s->len;
        memcpy(s->line + s->len, p, n < room ? n : room);
        s->len += n < room ? n : room;
        if (!newline)
            return;
        line_ended(s);
        len -= n + 1;
        p = newline + 1;
    }
}

void dumpscan_restart(struct dumpscan *s) {
    s->completed = false;
    s->len = 0;
    s->where = SCAN_PLAIN;
}

const struct object_counts *dumpscan_find(const struct dumpscan *s, const char *name) {
    for (int i = 0; i < s->n; i++)
        if (strcmp(s->databases[i].name, name) == 0)
            return &s->databases[i].counts;
    return NULL;
}
