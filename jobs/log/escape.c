#include "log/escape.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

// Sixteen bytes at a time, in whatever vector registers the processor has.
typedef uint8_t bytes16 __attribute__((vector_size(16)));

size_t escape_utf8(const char *text, size_t n) {
    const uint8_t *p = (const uint8_t *)text;
    if (p[0] < 0x80)
        return 1;
    size_t len = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || n < len)
        return 0;
    // The second byte's range keeps out overlong forms, surrogates and what is beyond U+10FFFF.
    uint8_t low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
    uint8_t high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return len;
}

static char *escape_control(char *out, uint8_t c) {
    static const char hex[] = "0123456789abcdef";
    *out++ = '\\';
    switch (c) {
    case '"':
    case '\\':
        *out++ = (char)c;
        return out;
    case '\n':
        *out++ = 'n';
        return out;
    case '\t':
        *out++ = 't';
        return out;
    case '\r':
        *out++ = 'r';
        return out;
    default:
        memcpy(out, "u00", 3);
        out[3] = hex[c >> 4];
        out[4] = hex[c & 15];
        return out + 5;
    }
}

static bool is_plain(uint8_t c) {
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

// Copies bytes up to the first that needs care, which may be the end.
static size_t copy_plain(char *out, const char *in, size_t n) {
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        bytes16 v;
        memcpy(&v, in + i, 16);
        memcpy(out + i, &v, 16);
        bytes16 bad = (bytes16)((v < 0x20) | (v > 0x7e) | (v == '"') | (v == '\\'));
        uint64_t half[2];
        memcpy(half, &bad, 16);
        if (half[0] | half[1])
            break;
    }
    for (; i < n && is_plain((uint8_t)in[i]); i++)
        out[i] = in[i];
    return i;
}

char *escape_json(char *out, const char *in, size_t n) {
    size_t i = 0;
    for (;;) {
        size_t plain = copy_plain(out, in + i, n - i);
        out += plain;
        i += plain;
        if (i >= n)
            return out;
        uint8_t c = (uint8_t)in[i];
        if (c < 0x20 || c == '"' || c == '\\') {
            out = escape_control(out, c);
            i++;
            continue;
        }
        size_t len = escape_utf8(in + i, n - i);
        if (len)
            memcpy(out, in + i, len);
        else
            memcpy(out, "\xef\xbf\xbd", 3);
        out += len ? len : 3;
        i += len ? len : 1;
    }
}
