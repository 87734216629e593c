#include "log/level.h"

#include <ctype.h>
#include <string.h>

enum {
    SCAN = 64,    // how far into a line its level is looked for
    LONGEST = 24, // the longest name of a level
};

// What the formats call them, in lower case. PHP's fatal error ends a request, not the service.
static const struct {
    const char *name;
    enum level level;
} names[] = {
    {"info", LEVEL_INFO},          {"notice", LEVEL_NOTICE},
    {"note", LEVEL_INFO},          {"warn", LEVEL_WARNING},
    {"warning", LEVEL_WARNING},    {"error", LEVEL_ERROR},
    {"debug", LEVEL_DEBUG},        {"fatal", LEVEL_CRITICAL},
    {"crit", LEVEL_CRITICAL},      {"critical", LEVEL_CRITICAL},
    {"alert", LEVEL_CRITICAL},     {"emerg", LEVEL_CRITICAL},
    {"emergency", LEVEL_CRITICAL}, {"system", LEVEL_INFO},
    {"success", LEVEL_INFO},       {"fatal error", LEVEL_ERROR},
    {"parse error", LEVEL_ERROR},  {"recoverable fatal error", LEVEL_ERROR},
    {"deprecated", LEVEL_NOTICE},  {"strict standards", LEVEL_NOTICE},
};

static const struct level_found nothing = {LEVEL_NONE, false};

const char *level_name(enum level level) {
    static const char *const text[] = {"",        "debug", "info",    "notice",
                                       "warning", "error", "critical"};
    return text[level];
}

static enum level word_level(const char *word, size_t len) {
    char low[LONGEST];
    if (len < 4 || len >= LONGEST)
        return LEVEL_NONE;
    for (size_t i = 0; i < len; i++)
        low[i] = (char)tolower((unsigned char)word[i]);
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].name[0] == low[0] && strlen(names[i].name) == len &&
            memcmp(names[i].name, low, len) == 0)
            return names[i].level;
    // Apache's trace1 to trace8.
    return len == 6 && memcmp(low, "trace", 5) == 0 ? LEVEL_DEBUG : LEVEL_NONE;
}

static size_t word_end(const char *p, size_t len, char stop) {
    size_t most = len < SCAN ? len : SCAN;
    const char *at = memchr(p, stop, most);
    return at ? (size_t)(at - p) : most;
}

// "[error]", "[core:error]"; p is behind the opening bracket.
static enum level bracket(const char *p, size_t len) {
    size_t n = word_end(p, len, ']');
    if (n == len || n == SCAN)
        return LEVEL_NONE;
    const char *colon = memchr(p, ':', n);
    return colon ? word_level(colon + 1, (size_t)(p + n - colon - 1)) : word_level(p, n);
}

static bool begins(const char *p, size_t len, const char *with) {
    size_t n = strlen(with);
    return len >= n && memcmp(p, with, n) == 0;
}

// "Fatal error:  Uncaught …", "NOTICE: PHP message: …"; p is behind a time or "PHP ".
static struct level_found named(const char *p, size_t len, bool head) {
    size_t n = word_end(p, len, ':');
    if (n == len || n == SCAN)
        return nothing;
    enum level level = word_level(p, n);
    if (begins(p + n, len - n, ": PHP message: "))
        return level_of(p + n + 15, len - n - 15);
    return (struct level_found){level, head && level != LEVEL_NONE};
}

// "[Sat Nov 28 12:00:00.5 2026] [php:error] [pid 7] …", "[28-Nov-2026 12:00:00 UTC] PHP Warning:
// …",
// "[28-Nov-2026 12:00:00] NOTICE: fpm is running", "[cron:error] …"
static struct level_found bracketed(const char *line, size_t len) {
    enum level level = bracket(line + 1, len - 1);
    if (level != LEVEL_NONE)
        return (struct level_found){level, true};
    size_t n = word_end(line, len, ']') + 2; // behind "] "
    if (n >= len || n > SCAN || line[n - 1] != ' ')
        return nothing;
    if (line[n] == '[') // Apache writes a trace into one line itself
        return (struct level_found){bracket(line + n + 1, len - n - 1), false};
    if (begins(line + n, len - n, "PHP "))
        return named(line + n + 4, len - n - 4, true);
    return named(line + n, len - n, false);
}

// "2026-11-28 12:00:00 routing INFO [7f21] …" (mysqlrouter), "2026-11-28T12:00:00.1Z 0 [Note] …"
// (MySQL), "2026-11-28 12:00:00+0100  [error] …" (CiviCRM)
static struct level_found dated(const char *line, size_t len) {
    if (len < 24 || line[4] != '-' || line[7] != '-' || (line[10] != ' ' && line[10] != 'T'))
        return nothing;
    const char *p = line + 11, *end = line + (len < SCAN ? len : SCAN);
    bool second = false; // the word after the time has passed
    while ((p = memchr(p, ' ', (size_t)(end - p)))) {
        while (p < end && *p == ' ')
            p++;
        size_t left = (size_t)(line + len - p);
        if (p < end && *p == '[')
            return (struct level_found){bracket(p + 1, left - 1), !second};
        enum level level = second ? word_level(p, word_end(p, left, ' ')) : LEVEL_NONE;
        if (level != LEVEL_NONE || second)
            return (struct level_found){level, false};
        second = true;
    }
    return nothing;
}

static bool ends(const char *word, size_t len, const char *with) {
    size_t n = strlen(with);
    return len >= n && memcmp(word + len - n, with, n) == 0;
}

// "PHP Warning:  …", "ERROR: …", "Nov 28 12:00:00  [info] …", "civinit: error: …",
// "mysqldump: Error 2013: …", "CRM_Core_Exception: …"
static struct level_found worded(const char *line, size_t len) {
    if (begins(line, len, "PHP "))
        return named(line + 4, len - 4, true);
    size_t n = word_end(line, len, ':');
    if (n == len || n == SCAN)
        return nothing;
    if (n == 9 && len > 18 && line[3] == ' ' && line[12] == ':') {
        const char *open = memchr(line + 15, '[', len - 15 < 4 ? len - 15 : 4);
        if (open)
            return (struct level_found){bracket(open + 1, (size_t)(line + len - open - 1)), true};
    }
    struct level_found found = named(line, len, islower((unsigned char)line[1]));
    if (found.level != LEVEL_NONE || memchr(line, ' ', n))
        return found;
    if (ends(line, n, "Exception") || ends(line, n, "Error"))
        return (struct level_found){LEVEL_ERROR, true};
    if (len < n + 3 || line[n + 1] != ' ')
        return nothing;
    const char *rest = line + n + 2;
    size_t left = len - n - 2;
    if (*rest == '[')
        return (struct level_found){bracket(rest + 1, left - 1), false};
    if (begins(rest, left, "Error ") || begins(rest, left, "Got error: "))
        return (struct level_found){LEVEL_ERROR, false};
    size_t word = word_end(rest, left, ':');
    return word == left ? nothing : (struct level_found){word_level(rest, word), false};
}

struct level_found level_of(const char *line, size_t len) {
    if (len < 5)
        return nothing;
    unsigned char c = (unsigned char)line[0];
    if (c == '[')
        return bracketed(line, len);
    if (isdigit(c))
        return dated(line, len);
    if (isalpha(c) || c == '\\')
        return worded(line, len);
    if (c == ' ' && line[1] == '[') // drush
        return (struct level_found){bracket(line + 2, len - 2), false};
    return nothing;
}
