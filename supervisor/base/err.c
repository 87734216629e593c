#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void clean(char *text) {
    for (unsigned char *p = (unsigned char *)text; *p; p++)
        if (*p < 0x20 || *p == 0x7f)
            *p = '?';
}

void err_put(struct err *e, int code, const char *fmt, ...) {
    if (!e)
        return;
    va_list ap;
    va_start(ap, fmt);
    e->code = code;
    vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
    clean(e->text);
}

void err_put_errno(struct err *e, int code, const char *fmt, ...) {
    int saved = errno;
    if (!e)
        return;
    va_list ap;
    va_start(ap, fmt);
    e->code = code;
    vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
    size_t n = strlen(e->text);
    const char *why = strerrordesc_np(saved);
    snprintf(e->text + n, sizeof e->text - n, ": %s", why ? why : "unknown error");
    clean(e->text);
}

void err_put_where(struct err *e, const char *fmt, ...) {
    if (!e)
        return;
    char where[256], all[ERR_TEXT];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(where, sizeof where, fmt, ap);
    va_end(ap);
    snprintf(all, sizeof all, "%s: %.*s", where, ERR_TEXT - 260, e->text);
    memcpy(e->text, all, sizeof all);
    clean(e->text);
}
