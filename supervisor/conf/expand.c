#include "conf/expand.h"

#include "base/cgroup.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

enum {
    DEEPEST = 16
};

struct filling {
    struct buf *out;
    bool *secret;
    struct buf *absent; // what is not there, as text; NULL: that is an error
    int depth;
};

static int fill(struct filling f, const char *p, const char *end, struct err *e);

// A part that may hold variables itself, filled in; the caller's to free.
static int part(struct filling f, const char *p, const char *end, char **ret, struct err *e) {
    struct buf b = {0};
    f.out = &b;
    int rc = fill(f, p, end, e);
    buf_add(&b, "", 0);
    if (rc == 0 && b.failed)
        rc = err_set(e, EX_OSERR, "out of memory");
    if (rc < 0)
        buf_free(&b);
    else
        *ret = b.data;
    return rc;
}

// Something is not there, as e says.
static int is_absent(struct filling f, const struct err *e) {
    if (!f.absent)
        return -1;
    buf_printf(f.absent, "%s%s", f.absent->len ? "; " : "", e->text);
    return 0;
}

static int fill_file(struct filling f, const char *p, const char *end, struct err *e) {
    autofree char *path = NULL;
    size_t known = f.absent ? f.absent->len : 0;
    if (part(f, p, end, &path, e) < 0)
        return -1;
    autofree char *text = NULL;
    *f.secret = true;
    if (f.absent && f.absent->len > known)
        return 0; // not even its name is whole
    if (file_secret(path, &text, e) < 0)
        return errno == ENOENT || errno == ENOTDIR ? is_absent(f, e) : -1;
    buf_str(f.out, text);
    return 0;
}

// One number of ${fit:…}; an empty one keeps its default.
static int fit_number(const char *text, int i, int64_t *ret, struct err *e) {
    text += strspn(text, " ");
    if (!*text)
        return 0;
    return i < 2 ? text_size(text, ret, e) : text_int(text, 0, INT32_MAX, ret, e);
}

static int fill_fit(struct filling f, const char *p, const char *end, struct err *e) {
    autofree char *text = NULL;
    int64_t number[4] = {0, 0, 1, INT32_MAX}; // cost, reserved, least, most
    size_t known = f.absent ? f.absent->len : 0;
    if (part(f, p, end, &text, e) < 0)
        return -1;
    if (f.absent && f.absent->len > known)
        return 0;
    char *rest = text;
    for (int i = 0; rest; i++) {
        const char *word = strsep(&rest, ",");
        if (i == 4)
            return err_set(e, EX_CONFIG, "${fit:…} takes COST,RESERVED,MIN,MAX and no more");
        if (fit_number(word, i, &number[i], e) < 0)
            return err_wrap(e, "${fit:…}");
    }
    if (number[0] <= 0)
        return err_set(e, EX_CONFIG, "${fit:COST…}: the cost must be a size above 0");
    if (number[3] < number[2])
        return err_set(e, EX_CONFIG, "${fit:…}: the least is above the most");
    struct cgroup g;
    cgroup_find(&g);
    int64_t room = cgroup_memory_available(&g) - number[1];
    int64_t n = room > 0 ? room / number[0] : 0;
    n = n < number[2] ? number[2] : n > number[3] ? number[3] : n;
    buf_printf(f.out, "%lld", (long long)n);
    return 0;
}

// One variable, between "${" and its "}".
static int variable(struct filling f, const char *p, const char *end, struct err *e) {
    if (end - p > 5 && strncmp(p, "file:", 5) == 0)
        return fill_file(f, p + 5, end, e);
    if (end - p > 4 && strncmp(p, "fit:", 4) == 0)
        return fill_fit(f, p + 4, end, e);
    size_t n = strspn(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
    const char *more = p + n;
    bool plain = more == end;
    if (!n || more > end ||
        (!plain && (end - more < 2 || *more != ':' || (more[1] != '-' && more[1] != '+'))))
        return err_set(e, EX_CONFIG,
                       "\"${%.*s}\": write ${NAME}, ${NAME:-default}, ${NAME:+text}, ${file:PATH} "
                       "or ${fit:COST,RESERVED,MIN,MAX}",
                       (int)(end - p), p);
    autofree char *name = strndup(p, n);
    const char *value = name ? getenv(name) : NULL;
    bool given = value && *value;
    if (plain && !value) {
        err_set(e, EX_CONFIG,
                "the environment variable %s is not set, and \"${%s}\" has no default", name, name);
        return is_absent(f, e);
    }
    if (plain || (given && more[1] == '-'))
        buf_str(f.out, value);
    else if (given || more[1] == '-')
        return fill(f, more + 2, end, e);
    return 0;
}

// The "}" that belongs to the "${" before p, or NULL.
static const char *closing(const char *p, const char *end) {
    for (int open = 1; p < end; p++) {
        if (p[0] == '$' && p + 1 < end && p[1] == '{')
            open++;
        else if (*p == '}' && --open == 0)
            return p;
    }
    return NULL;
}

static int fill(struct filling f, const char *p, const char *end, struct err *e) {
    if (f.depth++ > DEEPEST)
        return err_set(e, EX_CONFIG, "variables nested too deep");
    while (p < end) {
        const char *dollar = memchr(p, '$', end - p);
        buf_add(f.out, p, (dollar ? dollar : end) - p);
        if (!dollar)
            break;
        p = dollar + 1;
        if (p < end && *p == '$') {
            buf_str(f.out, "$");
            p++;
        } else if (p == end || *p != '{') {
            buf_str(f.out, "$");
        } else {
            const char *close = closing(p + 1, end);
            if (!close)
                return err_set(e, EX_CONFIG, "\"${\" without its \"}\"");
            if (variable(f, p + 1, close, e) < 0)
                return -1;
            p = close + 1;
        }
    }
    return 0;
}

static int expand_all(const char *raw, struct buf *absent, struct arena *arena, char **ret,
                      bool *ret_secret, struct err *e) {
    autobuf struct buf out = {0};
    bool secret = false;
    struct filling f = {.out = &out, .secret = &secret, .absent = absent};
    if (fill(f, raw, raw + strlen(raw), e) < 0)
        return -1;
    char *text = out.failed ? NULL : arena_text(arena, out.data ? out.data : "");
    if (!text)
        return err_set(e, EX_OSERR, "out of memory");
    *ret = text;
    *ret_secret = secret;
    return 0;
}

int expand(const char *raw, struct arena *arena, char **ret, bool *ret_secret, struct err *e) {
    return expand_all(raw, NULL, arena, ret, ret_secret, e);
}

int expand_known(const char *raw, struct arena *arena, char **ret, bool *ret_secret,
                 char **ret_absent, struct err *e) {
    autobuf struct buf absent = {0};
    if (expand_all(raw, &absent, arena, ret, ret_secret, e) < 0)
        return -1;
    *ret_absent = absent.len && !absent.failed ? arena_text(arena, absent.data) : NULL;
    if (absent.failed || (absent.len && !*ret_absent))
        return err_set(e, EX_OSERR, "out of memory");
    return 0;
}
