#include "log/join.h"

#include "log/level.h"

#include <ctype.h>
#include <string.h>

static bool begins(const char *p, size_t len, const char *with) {
    size_t n = strlen(with);
    return len >= n && memcmp(p, with, n) == 0;
}

// "… in /var/www/x.php:12", "… on line 12": the message has said where, and is complete.
static bool ends_in_number(const char *line, size_t len) {
    size_t n = len;
    while (n && isdigit((unsigned char)line[n - 1]))
        n--;
    return n < len && n > 0 && (line[n - 1] == ':' || line[n - 1] == ' ');
}

enum join join_start(const char *line, size_t len) {
    static const char uncaught[] = "Uncaught ";
    return memmem(line, len, uncaught, sizeof uncaught - 1) && !ends_in_number(line, len)
               ? JOIN_MESSAGE
               : JOIN_HEAD;
}

// Xdebug's "PHP   1. {main}() /x.php:0".
static bool is_numbered(const char *line, size_t len) {
    if (!begins(line, len, "PHP  "))
        return false;
    size_t i = 4;
    while (i < len && line[i] == ' ')
        i++;
    return i < len && isdigit((unsigned char)line[i]);
}

// A line of a trace or of a dump (print_r's Array ( … )), by itself.
static bool is_part(const char *line, size_t len) {
    switch (line[0]) {
    case '#':
        return len > 1 && isdigit((unsigned char)line[1]);
    case '(':
    case ')':
        return len == 1;
    case ' ':
        return level_of(line, len).level == LEVEL_NONE; // not drush's " [error] …"
    case '\t':
        return true;
    case 'S':
        return begins(line, len, "Stack trace:");
    case 'P':
        return begins(line, len, "PHP Stack trace:") || is_numbered(line, len);
    default:
        return false;
    }
}

bool join_next(enum join *state, const char *line, size_t len) {
    if (*state == JOIN_NONE)
        return false;
    if (len == 0)
        return true;
    if (begins(line, len, "  thrown in ")) {
        *state = JOIN_NONE;
        return true;
    }
    if (is_part(line, len)) {
        *state = JOIN_TRACE;
        return true;
    }
    if (*state == JOIN_TRACE && begins(line, len, "Next ")) { // a chained exception
        *state = ends_in_number(line, len) ? JOIN_TRACE : JOIN_MESSAGE;
        return true;
    }
    if (*state == JOIN_MESSAGE && !level_of(line, len).head) {
        if (ends_in_number(line, len))
            *state = JOIN_HEAD;
        return true;
    }
    *state = JOIN_NONE;
    return false;
}
