#include "backup/sqledit.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

bool sqledit_definer(const char *account, char *buf, size_t size) {
    const char *at = strrchr(account, '@');
    if (!at || at == account || !at[1] || strpbrk(account, "`'\"\\\n"))
        return false;
    return snprintf(buf, size, "`%.*s`@`%s`", (int)(at - account), account, at + 1) < (int)size;
}

const char *sqledit_database(const struct sqledit *ed, const char *name) {
    for (const struct sqledit_name *m = ed->map; m && m->from; m++)
        if (strcmp(m->from, name) == 0)
            return m->to;
    return name;
}

static bool is_sign(const char *text, const struct sql_token *t, char c) {
    return t->kind == SQL_SIGN && text[t->start] == c;
}

// One side of an account: a name, a word or a string.
static bool is_side(const struct sql_token *t) {
    return t->kind == SQL_WORD || t->kind == SQL_NAME || t->kind == SQL_STRING;
}

// Behind DEFINER: "= account". *at moves behind the account; false: something else follows.
static bool account(const struct sql_statement *s, size_t *at) {
    struct sql_token t;
    size_t p = *at, before;
    if (!sql_token(s->text, s->len, &p, &t) || !is_sign(s->text, &t, '='))
        return false;
    if (!sql_token(s->text, s->len, &p, &t) || !is_side(&t))
        return false;
    *at = before = p;
    if (!sql_token(s->text, s->len, &p, &t))
        return true;
    if (is_sign(s->text, &t, '@')) {
        if (!sql_token(s->text, s->len, &p, &t) || !is_side(&t))
            return false;
        // An unquoted host has dots and dashes that are tokens of their own.
        while (t.kind == SQL_WORD && p < s->len && strchr(".-%", s->text[p]) && s->text[p])
            for (int i = 0; i < 2; i++)
                if (!sql_token(s->text, s->len, &p, &t))
                    break;
        *at = p;
    } else if (is_sign(s->text, &t, '(') && before == t.start &&
               sql_token(s->text, s->len, &p, &t) && is_sign(s->text, &t, ')')) {
        *at = p; // CURRENT_USER()
    }
    return true;
}

// Removes "/*!50017 " from out's end when the comment would become empty; then *at moves behind
// its closing.
static void drop_comment(const struct sql_statement *s, struct buf *out, size_t open_len,
                         size_t *at) {
    struct sql_token t;
    size_t p = *at;
    if (!open_len || !sql_token(s->text, s->len, &p, &t) || t.kind != SQL_CLOSE)
        return;
    out->len -= open_len;
    out->data[out->len] = '\0';
    *at = p;
}

struct edit {
    const struct sqledit *ed;
    const struct sql_statement *s;
    struct buf *out;
    size_t copied; // of the text, up to here
    bool changed;
};

static void copy_to(struct edit *x, size_t to) {
    buf_add(x->out, x->s->text + x->copied, to - x->copied);
    x->copied = to;
}

// A DEFINER word at t; open: the token right before it was the opening of a comment, or NULL.
static void definer(struct edit *x, const struct sql_token *t, const struct sql_token *open,
                    size_t *at) {
    size_t end = t->start + t->len;
    if (!account(x->s, &end))
        return;
    copy_to(x, t->start);
    if (x->ed->drop_definer)
        drop_comment(x->s, x->out, open ? t->start - open->start : 0, &end);
    else
        buf_printf(x->out, "DEFINER=%s", x->ed->definer);
    x->copied = *at = end;
    x->changed = true;
}

// A name at t that is a database with another name: qualified ("a." but not ".a."), or the one of
// CREATE DATABASE and USE.
static void name(struct edit *x, const struct sql_token *t, bool qualified) {
    char text[256];
    size_t end = t->start + t->len;
    bool whole = x->s->kind == SQL_USE || x->s->kind == SQL_DATABASE;
    bool dot = end < x->s->len && x->s->text[end] == '.';
    if (qualified || !(whole || dot) || !sql_name(x->s->text, t, text, sizeof text))
        return;
    const char *to = sqledit_database(x->ed, text);
    if (to == text || (whole && strcmp(text, x->s->name) != 0))
        return;
    copy_to(x, t->start);
    buf_printf(x->out, "`%s`", to);
    x->copied = end;
    x->changed = true;
}

bool sqledit_apply(const struct sqledit *ed, const struct sql_statement *s, struct buf *out) {
    struct edit x = {ed, s, out, 0, false};
    struct sql_token t, last = {SQL_COMMENT, 0, 0};
    size_t at = 0;
    out->len = 0;
    if (s->kind == SQL_DATA || s->kind == SQL_SET || *s->text == '(')
        return false;
    while (sql_token(s->text, s->len, &at, &t)) {
        bool after_dot = last.kind == SQL_SIGN && s->text[last.start] == '.';
        if ((ed->drop_definer || ed->definer) && sql_is(s->text, &t, "DEFINER"))
            definer(&x, &t, last.kind == SQL_OPEN ? &last : NULL, &at);
        else if (ed->map && (t.kind == SQL_NAME || t.kind == SQL_WORD))
            name(&x, &t, after_dot);
        last = t;
    }
    if (x.changed)
        copy_to(&x, s->len);
    return x.changed;
}
