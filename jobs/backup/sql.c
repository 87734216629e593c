#include "backup/sql.h"

#include "base/text.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sysexits.h>

enum state {
    BETWEEN,       // before a statement
    PLAIN,         // in it
    SINGLE,        // '…'
    DOUBLE,        // "…"
    BACKTICK,      // `…`
    LINE_COMMENT,  // to the end of the line, within a statement
    BLOCK_COMMENT, // to the next */
    SKIP_LINE,     // a comment between statements
    SKIP_BLOCK,
};

enum {
    DELIMITER_MAX = 16
};

struct sql {
    sql_each *each;
    void *arg;
    size_t max_bytes;
    struct buf buf; // what is not yet emitted; at: scanned so far
    size_t at;
    enum state state, after_comment;
    char delimiter[DELIMITER_MAX];
    size_t delimiter_len;
    int64_t line, offset; // of buf's first byte
    int depth;            // of parentheses in the statement
    int64_t groups;       // how many of them at its top
};

// Characters of a statement that mean something outside of strings, beside the delimiter.
static const bool special[256] = {['\''] = true, ['"'] = true, ['`'] = true, ['-'] = true,
                                  ['#'] = true,  ['/'] = true, ['('] = true, [')'] = true};

struct sql *sql_new(size_t max_bytes, sql_each *each, void *arg) {
    struct sql *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->each = each;
    s->arg = arg;
    s->max_bytes = max_bytes;
    s->line = 1;
    s->delimiter[0] = ';';
    s->delimiter_len = 1;
    return s;
}

void sql_free(struct sql *s) {
    if (!s)
        return;
    buf_free(&s->buf);
    free(s);
}

// Drops the first n bytes of the buffer, counting their lines.
static void drop(struct sql *s, size_t n) {
    const char *p = s->buf.data, *end = p + n;
    while (p < end && (p = memchr(p, '\n', (size_t)(end - p)))) {
        s->line++;
        p++;
    }
    s->offset += (int64_t)n;
    memmove(s->buf.data, s->buf.data + n, s->buf.len - n + 1);
    s->buf.len -= n;
    s->at -= n;
}

// What several statements in one buffer need: the beginning moves without a copy for each.
struct window {
    size_t start;         // of what is not yet emitted
    int64_t line, offset; // of start
};

static void advance(struct sql *s, struct window *w, size_t to) {
    const char *p = s->buf.data + w->start, *end = s->buf.data + to;
    while (p < end && (p = memchr(p, '\n', (size_t)(end - p)))) {
        w->line++;
        p++;
    }
    w->offset += (int64_t)(to - w->start);
    w->start = to;
}

static int emit(struct sql *s, struct window *w, size_t end, struct err *e) {
    struct sql_statement x = {.text = s->buf.data + w->start,
                              .len = end - w->start,
                              .line = w->line,
                              .offset = w->offset};
    while (x.len && isspace((unsigned char)x.text[x.len - 1]))
        x.len--;
    int64_t groups = s->groups;
    s->groups = 0;
    s->depth = 0;
    if (!x.len)
        return 0;
    sql_classify(&x);
    if (x.kind == SQL_DATA) // a list of columns is the first group
        x.rows = groups - (x.rows ? 1 : 0);
    return s->each(s->arg, &x, e);
}

// Whether text at p is (so far) what it is compared with: 1 yes, 0 no, -1 more text is needed.
static int begins(const struct sql *s, size_t at, const char *what, size_t n, bool final) {
    size_t have = s->buf.len - at;
    if (have >= n)
        return memcmp(s->buf.data + at, what, n) == 0;
    return !final && memcmp(s->buf.data + at, what, have) == 0 ? -1 : 0;
}

static int set_delimiter(struct sql *s, const char *line, size_t len, struct err *e) {
    while (len && isspace((unsigned char)*line)) {
        line++;
        len--;
    }
    size_t n = 0;
    while (n < len && !isspace((unsigned char)line[n]))
        n++;
    if (n == 0 || n >= DELIMITER_MAX)
        return err_set(e, EX_DATAERR, "DELIMITER without a usable delimiter");
    memcpy(s->delimiter, line, n);
    s->delimiter_len = n;
    return 0;
}

// Before a statement, at a character that is not blank. 1: more text is needed.
static int start_of(struct sql *s, struct window *w, bool final, struct err *e) {
    static const char word[] = "delimiter";
    const char *p = s->buf.data + s->at;
    size_t have = s->buf.len - s->at;
    if (!final && have < sizeof word + 4)
        return 1;
    bool sandbox = begins(s, s->at, "/*!999999\\-", 11, final) == 1 ||
                   begins(s, s->at, "/*M!999999\\-", 12, final) == 1;
    if (*p == '#' ||
        (have >= 2 && p[0] == '-' && p[1] == '-' && (have == 2 || isspace((unsigned char)p[2])))) {
        s->state = SKIP_LINE;
    } else if (sandbox || (have >= 3 && p[0] == '/' && p[1] == '*' && p[2] != '!' &&
                           !(have >= 4 && p[2] == 'M' && p[3] == '!'))) {
        s->state = SKIP_BLOCK;
        s->at += 2;
    } else if (have > sizeof word && strncasecmp(p, word, sizeof word - 1) == 0 &&
               (p[sizeof word - 1] == ' ' || p[sizeof word - 1] == '\t')) {
        const char *end = memchr(p, '\n', have);
        if (!end && !final)
            return have > 4096 ? err_set(e, EX_DATAERR, "DELIMITER without an end of line") : 1;
        size_t n = end ? (size_t)(end - p) : have;
        if (set_delimiter(s, p + sizeof word, n - sizeof word, e) < 0)
            return err_wrap(e, "line %lld of the dump", (long long)w->line);
        s->at += n;
        advance(s, w, s->at);
    } else {
        s->state = PLAIN;
        s->groups = 0;
        s->depth = 0;
    }
    return 0;
}

// A character of a statement that means something. 1: more text is needed.
static int special_of(struct sql *s, bool final) {
    const char *p = s->buf.data + s->at;
    size_t have = s->buf.len - s->at;
    if (!final && have < 4 && (*p == '-' || *p == '/'))
        return 1;
    switch (*p) {
    case '\'':
        s->state = SINGLE;
        break;
    case '"':
        s->state = DOUBLE;
        break;
    case '`':
        s->state = BACKTICK;
        break;
    case '(':
        s->groups += s->depth++ == 0;
        break;
    case ')':
        s->depth -= s->depth > 0;
        break;
    case '#':
        s->state = LINE_COMMENT;
        break;
    case '-':
        if (have >= 3 && p[1] == '-' && isspace((unsigned char)p[2]))
            s->state = LINE_COMMENT;
        break;
    case '/':
        if (have >= 3 && p[1] == '*' && p[2] != '!' && !(have >= 4 && p[2] == 'M' && p[3] == '!')) {
            s->state = BLOCK_COMMENT;
            s->at++;
        }
        break;
    default:
        break;
    }
    s->at++;
    return 0;
}

// Scans a statement's plain text. 1: more text is needed.
static int plain(struct sql *s, struct window *w, bool final, struct err *e) {
    const char *data = s->buf.data;
    size_t at = s->at, len = s->buf.len;
    char first = s->delimiter[0];
    while (at < len && data[at] != first && !special[(unsigned char)data[at]])
        at++;
    s->at = at;
    if (at == len)
        return 1;
    if (data[at] == first) {
        int is = begins(s, at, s->delimiter, s->delimiter_len, final);
        if (is < 0)
            return 1;
        if (is) {
            if (emit(s, w, at, e) < 0)
                return -1;
            s->at = at + s->delimiter_len;
            advance(s, w, s->at);
            s->state = BETWEEN;
            return 0;
        }
        if (!special[(unsigned char)first]) {
            s->at++;
            return 0;
        }
    }
    return special_of(s, final);
}

// Scans a string to its end. 1: more text is needed.
static int quoted(struct sql *s, char quote, bool escapes) {
    const char *data = s->buf.data;
    size_t at = s->at, len = s->buf.len;
    while (at < len && data[at] != quote) {
        if (escapes && data[at] == '\\') {
            if (at + 1 == len)
                break;
            at++;
        }
        at++;
    }
    s->at = at;
    if (at == len || data[at] != quote)
        return 1;
    s->at++; // a doubled quote ends the string and begins it anew: the same
    s->state = PLAIN;
    return 0;
}

// Skips to the end of a comment. 1: more text is needed.
static int comment(struct sql *s, struct window *w, enum state next) {
    bool line = s->state == SKIP_LINE || s->state == LINE_COMMENT;
    const char *from = s->buf.data + s->at;
    size_t have = s->buf.len - s->at;
    const char *end = line ? memchr(from, '\n', have) : memmem(from, have, "*/", 2);
    if (!end) {
        s->at = s->buf.len - (!line && have && from[have - 1] == '*');
        return 1;
    }
    s->at = (size_t)(end - s->buf.data) + (line ? 1 : 2);
    s->state = next;
    if (next == BETWEEN)
        advance(s, w, s->at);
    return 0;
}

static int step(struct sql *s, struct window *w, bool final, struct err *e) {
    switch (s->state) {
    case BETWEEN:
        while (s->at < s->buf.len && isspace((unsigned char)s->buf.data[s->at]))
            s->at++;
        advance(s, w, s->at);
        return s->at == s->buf.len ? 1 : start_of(s, w, final, e);
    case PLAIN:
        return plain(s, w, final, e);
    case SINGLE:
        return quoted(s, '\'', true);
    case DOUBLE:
        return quoted(s, '"', true);
    case BACKTICK:
        return quoted(s, '`', false);
    case LINE_COMMENT:
    case BLOCK_COMMENT:
        return comment(s, w, PLAIN);
    case SKIP_LINE:
    case SKIP_BLOCK:
        return comment(s, w, BETWEEN);
    }
    return 1;
}

static int scan(struct sql *s, bool final, struct err *e) {
    struct window w = {0, s->line, s->offset};
    int rc = 0;
    while (s->at < s->buf.len && rc == 0)
        rc = step(s, &w, final, e);
    if (rc < 0)
        return -1;
    // Skipped comments need not be kept.
    if (s->state == SKIP_LINE || s->state == SKIP_BLOCK)
        advance(s, &w, s->at);
    if (w.start)
        drop(s, w.start);
    if (s->buf.len > s->max_bytes)
        return err_set(e, EX_DATAERR, "line %lld of the dump: a statement longer than %zu bytes",
                       (long long)s->line, s->max_bytes);
    return 0;
}

int sql_feed(struct sql *s, const void *data, size_t len, struct err *e) {
    buf_add(&s->buf, data, len);
    if (s->buf.failed)
        return err_set(e, EX_OSERR, "line %lld of the dump: no memory for its statement",
                       (long long)s->line);
    return scan(s, false, e);
}

int sql_end(struct sql *s, struct err *e) {
    if (s->buf.len && scan(s, true, e) < 0)
        return -1;
    if (s->state == SKIP_LINE || s->state == BETWEEN)
        return 0;
    return err_set(e, EX_DATAERR, "line %lld of the dump: it ends in the middle of a statement",
                   (long long)s->line);
}
