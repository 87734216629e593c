#include "forward/record.h"

#include "forward/msgpack.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct json {
    const char *p, *end;
};

static void blanks(struct json *j) {
    while (j->p < j->end && (*j->p == ' ' || *j->p == '\t' || *j->p == '\r'))
        j->p++;
}

static bool next_is(struct json *j, char c) {
    blanks(j);
    if (j->p >= j->end || *j->p != c)
        return false;
    j->p++;
    return true;
}

static int hex4(const char *p, const char *end) {
    int value = 0;
    if (end - p < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        unsigned char c = (unsigned char)p[i];
        if (!isxdigit(c))
            return -1;
        value = value << 4 | (isdigit(c) ? c - '0' : (tolower(c) - 'a') + 10);
    }
    return value;
}

static void add_utf8(struct buf *b, uint32_t c) {
    char out[4];
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    if (n == 1) {
        out[0] = (char)c;
    } else {
        for (size_t i = n - 1; i > 0; i--, c >>= 6)
            out[i] = (char)(0x80 | (c & 0x3f));
        out[0] = (char)((0xf00 >> n & 0xff) | c); // 110…, 1110…, 11110…
    }
    buf_add(b, out, n);
}

// "\uD83D\uDE00"; j->p is behind the u. A half pair becomes U+FFFD.
static int escaped_code(struct json *j, struct buf *b) {
    int high = hex4(j->p, j->end), low = -1;
    if (high < 0)
        return -1;
    j->p += 4;
    if (high >= 0xd800 && high < 0xdc00 && j->end - j->p >= 6 && j->p[0] == '\\' && j->p[1] == 'u')
        low = hex4(j->p + 2, j->end);
    if (low >= 0xdc00 && low < 0xe000) {
        j->p += 6;
        add_utf8(b, 0x10000 + ((uint32_t)(high - 0xd800) << 10) + (uint32_t)(low - 0xdc00));
    } else {
        add_utf8(b, high >= 0xd800 && high < 0xe000 ? 0xfffd : (uint32_t)high);
    }
    return 0;
}

static int escaped(struct json *j, struct buf *b) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (j->p >= j->end)
        return -1;
    char c = *j->p++;
    if (c == 'u')
        return escaped_code(j, b);
    const char *at = c ? strchr(from, c) : NULL;
    if (!at)
        return -1;
    buf_add(b, &to[at - from], 1);
    return 0;
}

// The end of a string, its closing quote; j->p is behind the opening one. NULL: there is none.
static const char *string_end(struct json *j, bool *plain) {
    const char *p = j->p;
    *plain = true;
    for (;;) {
        const char *quote = memchr(p, '"', (size_t)(j->end - p));
        const char *slash = quote ? memchr(p, '\\', (size_t)(quote - p)) : NULL;
        if (!slash)
            return quote;
        *plain = false;
        p = slash + 2;
        if (p >= j->end)
            return NULL;
    }
}

// A string as text of a message; j->p is behind the opening quote.
static int string(struct json *j, struct buf *b) {
    bool plain;
    const char *end = string_end(j, &plain);
    if (!end)
        return -1;
    if (plain) {
        mp_text(b, j->p, (size_t)(end - j->p));
        j->p = end + 1;
        return 0;
    }
    size_t most = (size_t)(end - j->p), begin = mp_text_begin(b, most);
    while (j->p < end) {
        const char *slash = memchr(j->p, '\\', (size_t)(end - j->p));
        buf_add(b, j->p, (size_t)((slash ? slash : end) - j->p));
        j->p = slash ? slash + 1 : end;
        if (slash && escaped(j, b) < 0)
            return -1;
    }
    mp_text_end(b, begin, most);
    j->p = end + 1;
    return 0;
}

static bool word(struct json *j, const char *text) {
    size_t n = strlen(text);
    if ((size_t)(j->end - j->p) < n || memcmp(j->p, text, n) != 0)
        return false;
    j->p += n;
    return true;
}

static int number(struct json *j, struct buf *b) {
    char text[64], *end;
    size_t n = 0;
    bool whole = true;
    while (j->p < j->end && n < sizeof text - 1 && strchr("+-.0123456789eE", *j->p) && *j->p) {
        whole = whole && (isdigit((unsigned char)*j->p) || (n == 0 && *j->p == '-'));
        text[n++] = *j->p++;
    }
    text[n] = 0;
    if (n == 0)
        return -1;
    if (whole && n < 19) {
        mp_int(b, strtoll(text, &end, 10));
        return end == text + n ? 0 : -1;
    }
    mp_double(b, strtod(text, &end));
    return end == text + n ? 0 : -1;
}

static int value(struct json *j, struct buf *b) {
    blanks(j);
    if (next_is(j, '"'))
        return string(j, b);
    if (word(j, "true"))
        mp_bool(b, true);
    else if (word(j, "false"))
        mp_bool(b, false);
    else if (word(j, "null"))
        mp_nil(b);
    else
        return number(j, b);
    return 0;
}

static int digits(const char *p, int n) {
    int v = 0;
    for (int i = 0; i < n; i++) {
        if (!isdigit((unsigned char)p[i]))
            return -1000000;
        v = v * 10 + (p[i] - '0');
    }
    return v;
}

// Days since 1970-01-01 in the Gregorian calendar.
static int64_t days(int year, int month, int day) {
    year -= month <= 2;
    int64_t before = 365LL * year + year / 4 - year / 100 + year / 400;
    return before + (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1 - 719468;
}

int64_t record_time(const char *text, size_t len) {
    if (len < 20 || text[4] != '-' || text[7] != '-' || text[10] != 'T' || text[13] != ':' ||
        text[16] != ':' || text[len - 1] != 'Z')
        return -1;
    int year = digits(text, 4), month = digits(text + 5, 2), day = digits(text + 8, 2);
    int h = digits(text + 11, 2), m = digits(text + 14, 2), s = digits(text + 17, 2), ms = 0;
    if (len == 24 && text[19] == '.')
        ms = digits(text + 20, 3);
    if (year < 1970 || month < 1 || month > 12 || day < 1 || day > 31 || h < 0 || h > 23 || m < 0 ||
        m > 59 || s < 0 || s > 60 || ms < 0)
        return -1;
    return ((days(year, month, day) * 24 + h) * 60 + m) * 60000 + s * 1000 + ms;
}

// "time": "…" sets *ms and is no key of the map. 0: it was that; 1: it is an ordinary pair.
static int time_pair(struct json *j, int64_t *ms) {
    bool plain;
    struct json at = *j;
    if (!word(&at, "\"time\"") || !next_is(&at, ':') || !next_is(&at, '"'))
        return 1;
    const char *end = string_end(&at, &plain);
    int64_t t = end ? record_time(at.p, (size_t)(end - at.p)) : -1;
    if (t < 0)
        return 1;
    *ms = t;
    j->p = end + 1;
    return 0;
}

// The pairs of an object; -1: this is no flat object.
static int pairs(struct json *j, struct buf *b, unsigned *n, int64_t *ms) {
    if (!next_is(j, '{'))
        return -1;
    if (next_is(j, '}'))
        return 0;
    do {
        blanks(j);
        if (time_pair(j, ms) == 0)
            continue;
        if (!next_is(j, '"') || string(j, b) < 0 || !next_is(j, ':') || value(j, b) < 0)
            return -1;
        ++*n;
    } while (next_is(j, ','));
    if (!next_is(j, '}'))
        return -1;
    blanks(j);
    return j->p == j->end && *n < 1000 ? 0 : -1;
}

static void put_time(char *at, int64_t ms) {
    mp_put32(at, (uint32_t)(ms / 1000));
    mp_put32(at + 4, (uint32_t)(ms % 1000) * 1000000);
}

void record_pack(struct buf *b, const char *line, size_t len, const struct buf *extra,
                 unsigned extra_n, int64_t now_ms) {
    static const char no_head[3] = {(char)0xde, 0, 0}; // a map with a 16-bit length
    struct json j = {line, line + len};
    unsigned n = 0;
    int64_t ms = now_ms;
    mp_array(b, 2);
    mp_time(b, 0, 0);
    size_t head = b->len;
    buf_add(b, no_head, sizeof no_head);
    if (pairs(&j, b, &n, &ms) < 0) {
        b->len = b->failed ? b->len : head + sizeof no_head;
        n = 1;
        ms = now_ms;
        mp_text(b, "message", 7);
        mp_text(b, line, len);
        for (size_t i = b->len - len; !b->failed && i < b->len; i++)
            if (b->data[i] & 0x80)
                b->data[i] = '?'; // may be anything; a text must be UTF-8
    }
    buf_add(b, extra->data, extra->len);
    if (b->failed)
        return;
    put_time(b->data + head - 8, ms);
    mp_put16(b->data + head + 1, (uint16_t)(n + extra_n));
}
