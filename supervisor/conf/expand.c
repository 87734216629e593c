#include "conf/expand.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/text.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

// One variable: inner is the text between "${" and "}".
static int variable(const char *inner, struct buf *out, bool *ret_secret, struct err *e) {
    if (strncmp(inner, "file:", 5) == 0) {
        autofree char *text = NULL;
        if (file_secret(inner + 5, &text, e) < 0)
            return -1;
        buf_str(out, text);
        *ret_secret = true;
        return 0;
    }
    const char *fallback = strstr(inner, ":-");
    size_t n = fallback ? (size_t)(fallback - inner) : strlen(inner);
    char name[256];
    if (n == 0 || n >= sizeof name ||
        strspn(inner, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") < n)
        return err_set(e, EX_CONFIG, "\"${%s}\": write ${NAME}, ${NAME:-default} or ${file:PATH}",
                       inner);
    memcpy(name, inner, n);
    name[n] = 0;
    const char *value = getenv(name);
    if (value && (*value || !fallback))
        buf_str(out, value);
    else if (fallback)
        buf_str(out, fallback + 2);
    else
        return err_set(e, EX_CONFIG,
                       "the environment variable %s is not set, and \"${%s}\" has no default", name,
                       inner);
    return 0;
}

int expand(const char *raw, struct arena *arena, char **ret, bool *ret_secret, struct err *e) {
    autobuf struct buf out = {0};
    bool secret = false;
    for (const char *p = raw; *p;) {
        size_t plain = strcspn(p, "$");
        buf_add(&out, p, plain);
        p += plain;
        if (*p != '$')
            continue;
        if (p[1] == '$') {
            buf_str(&out, "$");
            p += 2;
        } else if (p[1] != '{') {
            buf_add(&out, p++, 1);
        } else {
            const char *end = strchr(p, '}');
            if (!end)
                return err_set(e, EX_CONFIG, "\"${\" without its \"}\"");
            autofree char *inner = strndup(p + 2, end - p - 2);
            if (!inner)
                return err_set(e, EX_OSERR, "out of memory");
            if (variable(inner, &out, &secret, e) < 0)
                return -1;
            p = end + 1;
        }
    }
    char *text = out.failed ? NULL : arena_text(arena, out.data ? out.data : "");
    if (!text)
        return err_set(e, EX_OSERR, "out of memory");
    *ret = text;
    *ret_secret = secret;
    return 0;
}
