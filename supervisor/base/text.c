#include "base/text.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sysexits.h>

struct unit {
    const char *name;
    int64_t factor;
};

static const struct unit *find_unit(const struct unit *u, const char *name, size_t len) {
    for (; u->name; u++)
        if (strlen(u->name) == len && strncasecmp(u->name, name, len) == 0)
            return u;
    return NULL;
}

int text_duration(const char *text, int64_t *ret_ms, struct err *e) {
    static const struct unit units[] = {{"ms", 1},          {"s", 1000},         {"m", 60000},
                                        {"h", 3600 * 1000}, {"d", 86400 * 1000}, {NULL, 0}};
    int64_t total = 0;
    const char *p = text;
    if (strcmp(text, "0") == 0) {
        *ret_ms = 0;
        return 0;
    }
    if (!*p)
        return err_set(e, EX_CONFIG, "empty duration: write it as 250ms, 10s, 5m, 2h or 1d");
    while (*p) {
        char *end;
        if (!isdigit((unsigned char)*p))
            goto bad;
        errno = 0;
        int64_t n = strtoll(p, &end, 10);
        size_t len = strspn(end, "mshdMSHD");
        const struct unit *u = find_unit(units, end, len);
        if (errno || !u || __builtin_mul_overflow(n, u->factor, &n) ||
            __builtin_add_overflow(total, n, &total))
            goto bad;
        p = end + len;
    }
    *ret_ms = total;
    return 0;
bad:
    return err_set(e, EX_CONFIG, "\"%s\" is not a duration: write it as 250ms, 10s, 5m, 2h or 1d",
                   text);
}

int text_size(const char *text, int64_t *ret_bytes, struct err *e) {
    static const struct unit units[] = {{"", 1},
                                        {"B", 1},
                                        {"K", 1 << 10},
                                        {"KiB", 1 << 10},
                                        {"Ki", 1 << 10},
                                        {"M", 1 << 20},
                                        {"MiB", 1 << 20},
                                        {"Mi", 1 << 20},
                                        {"G", 1 << 30},
                                        {"GiB", 1 << 30},
                                        {"Gi", 1 << 30},
                                        {"T", 1LL << 40},
                                        {"TiB", 1LL << 40},
                                        {"Ti", 1LL << 40},
                                        {"KB", 1000},
                                        {"MB", 1000 * 1000},
                                        {"GB", 1000 * 1000 * 1000},
                                        {"TB", 1000LL * 1000 * 1000 * 1000},
                                        {NULL, 0}};
    char *end;
    errno = 0;
    int64_t n = isdigit((unsigned char)*text) ? strtoll(text, &end, 10) : -1;
    if (n >= 0 && !errno) {
        while (*end == ' ')
            end++;
        const struct unit *u = find_unit(units, end, strlen(end));
        if (u && !__builtin_mul_overflow(n, u->factor, &n)) {
            *ret_bytes = n;
            return 0;
        }
    }
    return err_set(e, EX_CONFIG, "\"%s\" is not a size: write it as 64KiB, 512MiB or 2GiB", text);
}

int text_bool(const char *text, bool *ret, struct err *e) {
    static const char *const yes[] = {"yes", "true", "on", "1"}, *const no[] = {"no", "false",
                                                                                "off", "0"};
    for (int i = 0; i < 4; i++) {
        if (strcasecmp(text, yes[i]) == 0 || strcasecmp(text, no[i]) == 0) {
            *ret = strcasecmp(text, yes[i]) == 0;
            return 0;
        }
    }
    return err_set(e, EX_CONFIG, "\"%s\" is neither yes nor no", text);
}

int text_int(const char *text, int64_t min, int64_t max, int64_t *ret, struct err *e) {
    char *end;
    errno = 0;
    int64_t n = strtoll(text, &end, 10);
    if (end == text || *end || errno || isspace((unsigned char)*text))
        return err_set(e, EX_CONFIG, "\"%s\" is not a whole number", text);
    if (n < min || n > max)
        return err_set(e, EX_CONFIG, "%lld is not between %lld and %lld", (long long)n,
                       (long long)min, (long long)max);
    *ret = n;
    return 0;
}

const char *text_ms(int64_t ms, char *buf, size_t size) {
    if (ms < 1000)
        snprintf(buf, size, "%lldms", (long long)ms);
    else if (ms < 60000 && ms % 1000)
        snprintf(buf, size, "%lld.%llds", (long long)(ms / 1000), (long long)(ms / 100 % 10));
    else if (ms < 60000)
        snprintf(buf, size, "%llds", (long long)(ms / 1000));
    else if (ms < 3600000)
        snprintf(buf, size, ms / 1000 % 60 ? "%lldm%llds" : "%lldm", (long long)(ms / 60000),
                 (long long)(ms / 1000 % 60));
    else if (ms < 86400000)
        snprintf(buf, size, ms / 60000 % 60 ? "%lldh%lldm" : "%lldh", (long long)(ms / 3600000),
                 (long long)(ms / 60000 % 60));
    else
        snprintf(buf, size, ms / 3600000 % 24 ? "%lldd%lldh" : "%lldd", (long long)(ms / 86400000),
                 (long long)(ms / 3600000 % 24));
    return buf;
}

const char *text_bytes(int64_t bytes, char *buf, size_t size) {
    static const char *const names[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    double v = (double)bytes;
    unsigned i = 0;
    while (v >= 1000 && i < sizeof names / sizeof *names - 1) {
        v /= 1000;
        i++;
    }
    snprintf(buf, size, i && v < 100 ? "%.1f %s" : "%.0f %s", v, names[i]);
    return buf;
}

static size_t distance(const char *a, const char *b) {
    enum {
        LONGEST = 63
    };
    size_t n = strlen(b), row[LONGEST + 1];
    if (n > LONGEST || strlen(a) > LONGEST)
        return LONGEST;
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[n];
}

const char *text_nearest(const char *word, const char *const *list) {
    size_t limit = strlen(word) / 3 + 1, best = limit + 1;
    const char *found = NULL;
    for (; *list; list++) {
        size_t d = distance(word, *list);
        if (d < best) {
            best = d;
            found = *list;
        }
    }
    return found;
}

int text_words(const char *text, char ***ret_argv, struct err *e) {
    size_t len = strlen(text), most = len / 2 + 2;
    char **argv = malloc(most * sizeof *argv + len + 1);
    if (!argv)
        return err_set(e, EX_OSERR, "out of memory");
    char *out = (char *)(argv + most);
    size_t n = 0;
    const char *p = text;
    for (;;) {
        p += strspn(p, " \t\n");
        if (!*p)
            break;
        argv[n++] = out;
        char quote = 0;
        for (; *p && (quote || !strchr(" \t\n", *p)); p++) {
            if (!quote && (*p == '"' || *p == '\''))
                quote = *p;
            else if (quote && *p == quote)
                quote = 0;
            else if (*p == '\\' && quote != '\'' && p[1] && (!quote || strchr("\"\\$`", p[1])))
                *out++ = *++p;
            else
                *out++ = *p;
        }
        *out++ = 0;
        if (quote) {
            free(argv);
            return err_set(e, EX_CONFIG, "the quote %c is never closed", quote);
        }
    }
    argv[n] = NULL;
    *ret_argv = argv;
    return 0;
}

static bool buf_room(struct buf *b, size_t more) {
    if (b->failed)
        return false;
    if (b->len + more + 1 > b->cap) {
        size_t cap = b->cap ? b->cap : 256;
        while (cap < b->len + more + 1)
            cap *= 2;
        char *data = realloc(b->data, cap);
        if (!data) {
            b->failed = true;
            return false;
        }
        b->data = data;
        b->cap = cap;
    }
    return true;
}

void buf_add(struct buf *b, const void *data, size_t len) {
    if (!buf_room(b, len))
        return;
    if (len)
        memcpy(b->data + b->len, data, len);
    b->len += len;
    b->data[b->len] = 0;
}

void buf_str(struct buf *b, const char *text) {
    buf_add(b, text, strlen(text));
}

void buf_printf(struct buf *b, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0 || !buf_room(b, n))
        return;
    va_start(ap, fmt);
    vsnprintf(b->data + b->len, n + 1, fmt, ap);
    va_end(ap);
    b->len += n;
}

// Length of the UTF-8 sequence at p, or 0 if it is none (RFC 3629).
static size_t utf8_len(const unsigned char *p) {
    if (p[0] < 0x80)
        return 1;
    size_t n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
        (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return n;
}

void buf_json(struct buf *b, const char *text) {
    buf_str(b, "\"");
    for (const unsigned char *p = (const unsigned char *)text; *p;) {
        size_t n = utf8_len(p);
        if (!n) {
            buf_str(b, "\xef\xbf\xbd");
            p++;
        } else if (*p == '"' || *p == '\\') {
            buf_printf(b, "\\%c", *p++);
        } else if (*p == '\n') {
            buf_str(b, "\\n");
            p++;
        } else if (*p < 0x20 || *p == 0x7f) {
            buf_printf(b, "\\u%04x", *p++);
        } else {
            buf_add(b, p, n);
            p += n;
        }
    }
    buf_str(b, "\"");
}

void buf_free(struct buf *b) {
    free(b->data);
    *b = (struct buf){0};
}
