#include "status/push.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "common/http.h"
#include "status/metrics.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>

static const char * or (const char *text, const char *fallback) {
    return text && *text ? text : fallback;
}

// A part of a file's name: what could leave the folder or hide the file becomes "_".
static void plain(struct buf *b, const char *text) {
    for (const unsigned char *p = (const unsigned char *)text; *p; p++)
        buf_add(b, isalnum(*p) || strchr("-_", *p) ? (const char *)p : "_", 1);
}

static void textfile_path(struct buf *b, const struct view *v, const char *path) {
    struct stat st;
    size_t n = strlen(path);
    buf_str(b, path);
    if ((n && path[n - 1] != '/') && (stat(path, &st) < 0 || !S_ISDIR(st.st_mode)))
        return;
    buf_str(b, n && path[n - 1] == '/' ? "civinit-" : "/civinit-");
    plain(b, or (v->instance, "default"));
    buf_str(b, "-");
    plain(b, or (v->role, "default"));
    buf_str(b, ".prom");
}

int push_textfile(const struct view *v, const char *path, struct err *e) {
    autobuf struct buf b = {0}, file = {0};
    metrics_left(v, or (v->role, "default"), &b);
    textfile_path(&file, v, path);
    if (b.failed || file.failed)
        return err_set(e, EX_OSERR, "out of memory");
    return file_replace(file.data, b.data, b.len, 0644, 0, e);
}

// The grouping key's value in a URL's path.
static void escaped(struct buf *b, const char *text) {
    for (const unsigned char *p = (const unsigned char *)text; *p; p++)
        if (isalnum(*p) || strchr("-_.~", *p))
            buf_add(b, p, 1);
        else
            buf_printf(b, "%%%02X", *p);
}

static void group_url(struct buf *b, const char *url, const struct view *v) {
    size_t n = strlen(url);
    if (strstr(url, "/metrics/job")) {
        buf_str(b, url);
        return;
    }
    while (n && url[n - 1] == '/')
        n--;
    buf_add(b, url, n);
    buf_str(b, "/metrics/job/civinit/instance/");
    escaped(b, or (v->instance, "default"));
    buf_str(b, "/role/");
    escaped(b, or (v->role, "default"));
}

int push_url(const struct view *v, const char *url, struct err *e) {
    autobuf struct buf body = {0}, target = {0};
    autoanswer struct http_answer a = {0};
    static const char *const headers[] = {"Content-Type: " METRICS_TEXT_TYPE, NULL};
    char origin[256];
    metrics_left(v, NULL, &body);
    group_url(&target, url, v);
    if (body.failed || target.failed)
        return err_set(e, EX_OSERR, "out of memory");
    struct http_request q = {.method = "POST",
                             .url = target.data,
                             .headers = headers,
                             .body = body.data,
                             .body_len = body.len,
                             .timeout_ms = 10000,
                             .max_bytes = 1024};
    if (http_do(&q, &a, NULL, e) < 0)
        return err_wrap(e, "push");
    if (a.status / 100 != 2)
        return err_set(e, EX_UNAVAILABLE, "push: %s answered with status %ld",
                       http_origin(url, origin, sizeof origin), a.status);
    return 0;
}
