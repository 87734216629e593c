#include "request.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "common/http.h"

#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

enum {
    JOB_MS = 3600000, // a job's request, when it sets no timeout of its own
    HOOK_MS = 15000,
    BODY_MAX = 1 << 20,
    SHOWN = 300,
};

// The answer's first line that is not empty, at most SHOWN bytes.
static int first_line(const char *body) {
    size_t n = strcspn(body, "\r\n");
    return (int)(n < SHOWN ? n : SHOWN);
}

static int judge(const struct http_answer *a, const char *origin, const char *failure_text,
                 struct err *e) {
    const char *body = a->body.data ? a->body.data : "";
    body += strspn(body, " \t\r\n");
    if (a->status < 200 || a->status > 299)
        return err_set(e, 1, "HTTP status %ld from %s%s%.*s", a->status, origin, *body ? ": " : "",
                       first_line(body), body);
    if (!failure_text)
        return 0;
    regex_t re;
    char why[200];
    int rc = regcomp(&re, failure_text, REG_EXTENDED | REG_NOSUB);
    if (rc != 0) {
        regerror(rc, &re, why, sizeof why);
        return err_set(e, EX_CONFIG, "failure_text: %s", why);
    }
    rc = regexec(&re, body, 0, NULL, 0);
    regfree(&re);
    return rc == REG_NOMATCH ? 0
                             : err_set(e, 1, "HTTP status %ld, but the answer says: %.*s",
                                       a->status, first_line(body), body);
}

int request_job(struct helper *h, const char *name, struct err *e) {
    const char *body = conf_text(&h->conf, "job", name, "body", NULL);
    const char *file = conf_text(&h->conf, "job", name, "body_file", NULL);
    const char *url = conf_text(&h->conf, "job", name, "url", NULL);
    autofree char *text = NULL;
    autoanswer struct http_answer answer = {0};
    char origin[300];
    size_t len = body ? strlen(body) : 0;
    if (!url)
        return err_set(e, EX_CONFIG, "[job %s] has no url", name);
    if (file && file_read(file, BODY_MAX, &text, &len, e) < 0)
        return err_wrap(e, "[job %s] body_file", name);
    struct http_request q = {
        .method = conf_text(&h->conf, "job", name, "method", NULL),
        .url = url,
        .headers = (const char *const *)conf_list(&h->conf, "job", name, "header"),
        .body = text ? text : body,
        .body_len = len,
        .timeout_ms = conf_ms(&h->conf, "job", name, "timeout", JOB_MS),
        .max_bytes = BODY_MAX,
    };
    if (http_do(&q, &answer, NULL, e) < 0)
        return -1;
    if (answer.body.len) {
        fwrite(answer.body.data, 1, answer.body.len, stdout);
        if (answer.body.data[answer.body.len - 1] != '\n')
            fputc('\n', stdout);
        fflush(stdout);
    }
    return judge(&answer, http_origin(url, origin, sizeof origin),
                 conf_text(&h->conf, "job", name, "failure_text", NULL), e);
}

static bool is_url(const char *text) {
    return strncmp(text, "http://", 7) == 0 || strncmp(text, "https://", 8) == 0;
}

const char *request_target(struct helper *h, const char *target, const char *key, struct err *e) {
    const char *url = target;
    if (strncmp(target, "job:", 4) == 0)
        url = conf_text(&h->conf, "job", target + 4, key, NULL);
    if (strcmp(target, "jobs") == 0 || !url)
        url = conf_text(&h->conf, "jobs", "", key, NULL);
    if (url && is_url(url))
        return url;
    err_set(e, EX_CONFIG, "%s has no %s that is an http:// or https:// URL", target, key);
    return NULL;
}

static int read_stdin(struct buf *b, struct err *e) {
    char chunk[8192];
    ssize_t n;
    while (b->len < BODY_MAX && (n = read(0, chunk, sizeof chunk)) > 0)
        buf_add(b, chunk, (size_t)n);
    return b->failed ? err_set(e, EX_OSERR, "out of memory") : 0;
}

static int post(const char *url, const char *type, struct err *e) {
    autobuf struct buf body = {0};
    autoanswer struct http_answer answer = {0};
    const char *headers[] = {type, NULL};
    char origin[300];
    if (read_stdin(&body, e) < 0)
        return -1;
    struct http_request q = {.method = "POST",
                             .url = url,
                             .headers = headers,
                             .body = body.data ? body.data : "",
                             .body_len = body.len,
                             .timeout_ms = HOOK_MS};
    if (http_do(&q, &answer, NULL, e) < 0)
        return -1;
    return judge(&answer, http_origin(url, origin, sizeof origin), NULL, e);
}

int request_hook(const char *url, struct err *e) {
    return post(url, "Content-Type: application/json", e);
}

int request_ping(const char *url, const char *state, struct err *e) {
    const char *suffix = strcmp(state, "start") == 0  ? "/start"
                         : strcmp(state, "fail") == 0 ? "/fail"
                                                      : "";
    size_t n = strcspn(url, "?#");
    autofree char *full = NULL;
    // Before the query, if there is one.
    if (asprintf(&full, "%.*s%s%s", (int)n, url, suffix, url + n) < 0) {
        full = NULL;
        return err_set(e, EX_OSERR, "out of memory");
    }
    return post(full, "Content-Type: text/plain; charset=utf-8", e);
}
