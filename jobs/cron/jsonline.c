#include "cron/jsonline.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put(char *out, size_t size, size_t *n, unsigned c) {
    char utf8[4];
    size_t len = 0;
    if (c < 0x80)
        utf8[len++] = (char)c;
    else if (c < 0x800) {
        utf8[len++] = (char)(0xC0 | c >> 6);
        utf8[len++] = (char)(0x80 | (c & 0x3F));
    } else {
        utf8[len++] = (char)(0xE0 | c >> 12);
        utf8[len++] = (char)(0x80 | (c >> 6 & 0x3F));
        utf8[len++] = (char)(0x80 | (c & 0x3F));
    }
    if (*n + len >= size)
        return;
    memcpy(out + *n, utf8, len);
    *n += len;
}

// The character after a backslash; returns how many bytes of p it takes.
static size_t escape(const char *p, unsigned *ret) {
    static const char from[] = "nrtbf", to[] = "\n\r\t\b\f";
    unsigned code;
    if (*p == 'u' && sscanf(p + 1, "%4x", &code) == 1 && strlen(p) > 4) {
        *ret = code >= 0xD800 && code < 0xE000 ? 0xFFFD : code ? code : '?';
        return 5;
    }
    const char *which = *p ? strchr(from, *p) : NULL;
    *ret = which ? (unsigned)to[which - from] : (unsigned char)*p;
    return *p != 0;
}

// A string at p (behind its quote) into out; returns what follows it.
static const char *string(const char *p, char *out, size_t size) {
    size_t n = 0;
    while (*p && *p != '"') {
        unsigned c = (unsigned char)*p++;
        if (c == '\\') {
            p += escape(p, &c);
            put(out, size, &n, c);
        } else if (n + 1 < size)
            out[n++] = (char)c;
    }
    out[n] = 0;
    return *p ? p + 1 : p;
}

// What follows the value at p, objects and arrays with all they hold.
static const char *skip_value(const char *p) {
    char nothing[1];
    int depth = 0;
    for (; *p; p++) {
        if (*p == '"')
            p = string(p + 1, nothing, 1) - 1;
        else if (*p == '{' || *p == '[')
            depth++;
        else if (*p == '}' || *p == ']') {
            if (depth-- == 0)
                return p;
        } else if (*p == ',' && depth == 0)
            return p;
    }
    return p;
}

bool jsonline_text(const char *line, const char *key, char *ret, size_t size) {
    const char *p = strchr(line, '{');
    while (p && *p && *p != '}') {
        p += 1 + strspn(p + 1, " \t");
        char name[64];
        if (*p != '"')
            return false;
        p = string(p + 1, name, sizeof name);
        p += strspn(p, " \t");
        if (*p != ':')
            return false;
        p += 1 + strspn(p + 1, " \t");
        if (strcmp(name, key) != 0) {
            p = skip_value(p);
            continue;
        }
        if (*p == '"')
            string(p + 1, ret, size);
        else
            snprintf(ret, size, "%.*s", (int)strcspn(p, ",} \t\n"), p);
        return true;
    }
    return false;
}

int64_t jsonline_int(const char *line, const char *key, int64_t fallback) {
    char text[32], *end;
    if (!jsonline_text(line, key, text, sizeof text))
        return fallback;
    int64_t n = strtoll(text, &end, 10);
    return end == text ? fallback : n;
}
