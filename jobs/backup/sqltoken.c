// The pieces of one statement.
#include "backup/sql.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static bool is_word(char c) {
    return isalnum((unsigned char)c) || c == '_' || c == '$' || (unsigned char)c >= 128;
}

// Behind the closing quote, or the end of the text.
static size_t behind_quote(const char *text, size_t len, size_t at) {
    char quote = text[at++];
    while (at < len && (text[at] != quote || (at + 1 < len && text[at + 1] == quote))) {
        if (text[at] == quote || (quote != '`' && text[at] == '\\' && at + 1 < len))
            at++;
        at++;
    }
    return at < len ? at + 1 : len;
}

// A comment that begins at `at`: plain, or the opening of one whose inside counts.
static void comment(const char *text, size_t len, struct sql_token *t) {
    size_t at = t->start + 2;
    if (at < len && (text[at] == '!' || (text[at] == 'M' && at + 1 < len && text[at + 1] == '!'))) {
        at += text[at] == '!' ? 1 : 2;
        while (at < len && isdigit((unsigned char)text[at]))
            at++;
        t->kind = SQL_OPEN;
        t->len = at - t->start;
        return;
    }
    const char *end = memmem(text + at, len - at, "*/", 2);
    t->kind = SQL_COMMENT;
    t->len = (end ? (size_t)(end - text) + 2 : len) - t->start;
}

bool sql_token(const char *text, size_t len, size_t *at, struct sql_token *t) {
    while (*at < len && isspace((unsigned char)text[*at]))
        ++*at;
    if (*at >= len)
        return false;
    size_t from = *at, end = from + 1;
    char c = text[from], next = end < len ? text[end] : '\0';
    *t = (struct sql_token){SQL_SIGN, from, 1};
    if (c == '`' || c == '\'' || c == '"') {
        t->kind = c == '`' ? SQL_NAME : SQL_STRING;
        t->len = behind_quote(text, len, from) - from;
    } else if (c == '/' && next == '*') {
        comment(text, len, t);
    } else if (c == '*' && next == '/') {
        t->kind = SQL_CLOSE;
        t->len = 2;
    } else if (c == '#' || (c == '-' && next == '-' &&
                            (end + 1 == len || isspace((unsigned char)text[end + 1])))) {
        const char *stop = memchr(text + from, '\n', len - from);
        t->kind = SQL_COMMENT;
        t->len = (stop ? (size_t)(stop - text) : len) - from;
    } else if (is_word(c)) {
        while (end < len && is_word(text[end]))
            end++;
        t->kind = SQL_WORD;
        t->len = end - from;
    }
    *at = from + t->len;
    return true;
}

bool sql_is(const char *text, const struct sql_token *t, const char *word) {
    return t->kind == SQL_WORD && strlen(word) == t->len &&
           strncasecmp(text + t->start, word, t->len) == 0;
}

bool sql_name(const char *text, const struct sql_token *t, char *buf, size_t size) {
    size_t n = 0;
    if (t->kind == SQL_WORD && t->len < size) {
        memcpy(buf, text + t->start, t->len);
        n = t->len;
    } else if (t->kind == SQL_NAME && t->len >= 2) {
        for (size_t i = 1; i + 1 < t->len; i++) {
            if (n + 1 >= size)
                return false;
            buf[n++] = text[t->start + i];
            i += text[t->start + i] == '`'; // doubled
        }
    } else {
        return false;
    }
    buf[n] = '\0';
    return true;
}

// The next token that counts: openings of conditional comments and plain comments are passed over.
static bool word(const char *text, size_t len, size_t *at, struct sql_token *t) {
    while (sql_token(text, len, at, t))
        if (t->kind != SQL_OPEN && t->kind != SQL_CLOSE && t->kind != SQL_COMMENT)
            return true;
    return false;
}

// "INSERT [IGNORE] INTO `t` (columns) VALUES": the table's name; rows becomes 1 with columns.
static void classify_data(struct sql_statement *s, size_t at) {
    struct sql_token t, next = {SQL_SIGN, 0, 0};
    s->kind = SQL_DATA;
    s->rows = 0;
    while (word(s->text, s->len, &at, &t)) {
        if (sql_is(s->text, &t, "INTO") || sql_is(s->text, &t, "IGNORE"))
            continue;
        sql_name(s->text, &t, s->name, sizeof s->name);
        break;
    }
    if (word(s->text, s->len, &at, &next))
        s->rows = next.kind == SQL_SIGN && s->text[next.start] == '(';
}

// "CREATE DATABASE IF NOT EXISTS `x`", "USE `x`".
static void classify_database(struct sql_statement *s, size_t at, enum sql_kind kind) {
    struct sql_token t;
    while (word(s->text, s->len, &at, &t)) {
        if (kind == SQL_DATABASE && (sql_is(s->text, &t, "IF") || sql_is(s->text, &t, "NOT") ||
                                     sql_is(s->text, &t, "EXISTS")))
            continue;
        if (sql_name(s->text, &t, s->name, sizeof s->name))
            s->kind = kind;
        return;
    }
}

void sql_classify(struct sql_statement *s) {
    struct sql_token t;
    size_t at = 0;
    s->kind = SQL_OTHER;
    s->name[0] = '\0';
    if (!word(s->text, s->len, &at, &t))
        return;
    if (sql_is(s->text, &t, "INSERT") || sql_is(s->text, &t, "REPLACE")) {
        classify_data(s, at);
    } else if (sql_is(s->text, &t, "SET")) {
        s->kind = SQL_SET;
    } else if (sql_is(s->text, &t, "USE")) {
        classify_database(s, at, SQL_USE);
    } else if (sql_is(s->text, &t, "CREATE") && word(s->text, s->len, &at, &t) &&
               (sql_is(s->text, &t, "DATABASE") || sql_is(s->text, &t, "SCHEMA"))) {
        classify_database(s, at, SQL_DATABASE);
    }
}
