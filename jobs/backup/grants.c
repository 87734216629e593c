#include "backup/grants.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static const struct {
    const char *name;
    unsigned bits;
} privileges[] = {
    {"ALL PRIVILEGES", GRANT_ALL},
    {"ALL", GRANT_ALL},
    {"SELECT", GRANT_SELECT},
    {"SHOW VIEW", GRANT_SHOW_VIEW},
    {"TRIGGER", GRANT_TRIGGER},
    {"EVENT", GRANT_EVENT},
    {"EXECUTE", GRANT_ROUTINES},
    {"CREATE ROUTINE", GRANT_ROUTINES},
    {"ALTER ROUTINE", GRANT_ROUTINES},
    {"SHOW_ROUTINE", GRANT_ROUTINES},
    {"SHOW CREATE ROUTINE", GRANT_ROUTINES},
};

// The privileges up to " ON ": "SELECT, INSERT (a, b), SHOW VIEW". One with columns is not the
// whole privilege.
static unsigned bits_of(const char *list, const char *end) {
    unsigned bits = 0;
    while (list < end) {
        size_t n = 0;
        int depth = 0;
        bool columns = false;
        while (list + n < end && (list[n] != ',' || depth)) {
            depth += (list[n] == '(') - (list[n] == ')');
            columns |= list[n] == '(';
            n++;
        }
        for (size_t i = 0; !columns && i < sizeof privileges / sizeof *privileges; i++)
            if (strlen(privileges[i].name) == n && strncasecmp(list, privileges[i].name, n) == 0)
                bits |= privileges[i].bits;
        list += n;
        while (list < end && (*list == ',' || *list == ' '))
            list++;
    }
    return bits;
}

// A name in backticks, undoubled, to out; the rest after it, or NULL.
static const char *unquote(const char *p, char *out, size_t size) {
    size_t n = 0;
    if (*p == '*') {
        snprintf(out, size, "*");
        return p + 1;
    }
    if (*p++ != '`')
        return NULL;
    for (; *p; p++) {
        if (*p == '`' && p[1] != '`')
            break;
        p += *p == '`';
        if (n + 1 < size)
            out[n++] = *p;
    }
    out[n] = 0;
    return *p ? p + 1 : NULL;
}

// MySQL's LIKE for the database of a grant: % _ and \ before one of them.
static bool fits(const char *pattern, const char *name) {
    for (; *pattern; pattern++, name++) {
        if (*pattern == '%') {
            do
                if (fits(pattern + 1, name))
                    return true;
            while (*name++);
            return false;
        }
        if (*pattern == '\\' && pattern[1])
            pattern++;
        else if (*pattern == '_' && *name)
            continue;
        if (*pattern != *name)
            return false;
    }
    return !*name;
}

static unsigned bits_for(unsigned bits, const char *database, const char *table,
                         const char *wanted) {
    if (strcmp(table, "*") == 0) {
        if (strcmp(database, "*") == 0) // SELECT everywhere includes the routines' texts
            return bits | (bits & GRANT_SELECT ? GRANT_ROUTINES : 0);
        return fits(database, wanted) ? bits : 0;
    }
    bool proc = strcmp(database, "mysql") == 0 && strcmp(table, "proc") == 0;
    return proc && bits & GRANT_SELECT ? GRANT_ROUTINES : 0;
}

unsigned grants_for(const char *const *lines, size_t n, const char *wanted) {
    unsigned have = 0;
    for (size_t i = 0; i < n; i++) {
        bool grant = strncasecmp(lines[i], "GRANT ", 6) == 0;
        bool revoke = strncasecmp(lines[i], "REVOKE ", 7) == 0;
        const char *list = lines[i] + (grant ? 6 : 7), *on = strstr(lines[i], " ON ");
        char database[256], table[256];
        if ((!grant && !revoke) || !on)
            continue;
        const char *rest = unquote(on + 4, database, sizeof database);
        if (!rest || *rest != '.' || !unquote(rest + 1, table, sizeof table))
            continue;
        unsigned bits = bits_for(bits_of(list, on), database, table, wanted);
        have = grant ? have | bits : have & ~bits;
    }
    return have;
}

void grants_missing(struct buf *out, unsigned have, const char *database, bool mariadb) {
    static const struct {
        unsigned bit;
        const char *name;
    } needed[] = {{GRANT_SELECT, "SELECT"},
                  {GRANT_SHOW_VIEW, "SHOW VIEW"},
                  {GRANT_TRIGGER, "TRIGGER"},
                  {GRANT_EVENT, "EVENT"}};
    for (int i = 0; i < 4; i++)
        if (!(have & needed[i].bit))
            buf_printf(out, "%s%s on %s", out->len ? ", " : "", needed[i].name, database);
    const char *routines = mariadb ? "SELECT on mysql.proc" : "SHOW_ROUTINE on *.*";
    if (!(have & GRANT_ROUTINES) && !(out->data && strstr(out->data, routines)))
        buf_printf(out, "%s%s (for the routines of %s)", out->len ? ", " : "", routines, database);
}
