#include "backup/remote.h"

#include "base/file.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

const char *remote_text(const struct options *o, const char *key) {
    const char *v = conf_text(&o->conf, "backup", "", key, NULL);
    return v && *v ? v : NULL;
}

int remote_secret(const struct options *o, const char *key, char **ret, struct err *e) {
    const char *path = remote_text(o, key);
    *ret = NULL;
    if (path && file_secret(path, ret, e) < 0)
        return err_wrap(e, "[backup] %s", key);
    return 0;
}

void remote_forget(char **secret) {
    if (*secret)
        explicit_bzero(*secret, strlen(*secret));
    free(*secret);
    *secret = NULL;
}

// &amp; and its like, in place.
static void unescape(char *text) {
    static const struct {
        const char *name;
        char c;
    } known[] = {{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}};
    char *to = text;
    while (*text) {
        size_t n = 0;
        for (size_t i = 0; *text == '&' && i < sizeof known / sizeof *known; i++)
            if (strncmp(text, known[i].name, strlen(known[i].name)) == 0) {
                n = strlen(known[i].name);
                *to++ = known[i].c;
                break;
            }
        if (n)
            text += n;
        else
            *to++ = *text++;
    }
    *to = '\0';
}

// The tag that begins at p ("<D:href …>", "</D:href>"): is it one of this name?
static bool is_tag(const char *p, const char *end, const char *tag, bool closing) {
    size_t n = strlen(tag);
    p++;
    if ((p < end && *p == '/') != closing)
        return false;
    p += closing;
    const char *stop = p;
    while (stop < end && *stop != '>' && *stop != ' ' && *stop != '/' && *stop != '\n')
        stop++;
    const char *colon = memchr(p, ':', (size_t)(stop - p));
    p = colon ? colon + 1 : p;
    return (size_t)(stop - p) == n && memcmp(p, tag, n) == 0;
}

bool remote_xml_next(const char **p, const char *end, const char *tag, const char **ret_from,
                     const char **ret_to) {
    const char *from = NULL;
    for (const char *at = *p; at < end && (at = memchr(at, '<', (size_t)(end - at))); at++) {
        const char *close = memchr(at, '>', (size_t)(end - at));
        if (!close)
            break;
        if (from && is_tag(at, end, tag, true)) {
            *ret_from = from;
            *ret_to = at;
            *p = close + 1;
            return true;
        }
        if (!from && is_tag(at, end, tag, false) && close[-1] != '/')
            from = close + 1;
    }
    return false;
}

char *remote_xml(const char *p, const char *end, const char *tag, const char **ret_end) {
    const char *from, *to;
    if (!remote_xml_next(&p, end, tag, &from, &to))
        return NULL;
    if (ret_end)
        *ret_end = p;
    char *text = strndup(from, (size_t)(to - from));
    if (text)
        unescape(text);
    return text;
}

int64_t remote_time(const char *text) {
    static const char *const months = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct tm tm = {0};
    char month[4] = "";
    if (sscanf(text, "%d-%d-%dT%d:%d:%d", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour,
               &tm.tm_min, &tm.tm_sec) == 6) {
        tm.tm_mon--;
    } else if (sscanf(text, "%*3s, %d %3s %d %d:%d:%d", &tm.tm_mday, month, &tm.tm_year,
                      &tm.tm_hour, &tm.tm_min, &tm.tm_sec) == 6) {
        const char *at = strstr(months, month);
        tm.tm_mon = at ? (int)(at - months) / 3 : 0;
    } else {
        return 0;
    }
    tm.tm_year -= 1900;
    return (int64_t)timegm(&tm) * 1000;
}

void remote_decode(char *text) {
    char *to = text;
    while (*text) {
        unsigned c;
        if (*text == '%' && isxdigit((unsigned char)text[1]) && isxdigit((unsigned char)text[2]) &&
            sscanf(text + 1, "%2x", &c) == 1 && c) {
            *to++ = (char)c;
            text += 3;
        } else {
            *to++ = *text++;
        }
    }
    *to = '\0';
}

int remote_part(const char *name, char *buf, size_t size, struct err *e) {
    if (snprintf(buf, size, ".%s.part", name) >= (int)size)
        return err_set(e, EX_CANTCREAT, "%s: name too long", name);
    return 0;
}

bool remote_is_part(const char *name) {
    size_t n = strlen(name);
    return *name == '.' && n > 6 && strcmp(name + n - 5, ".part") == 0;
}
