#include "backup/s3.h"

#include "backup/remote.h"
#include "base/cleanup.h"
#include "base/clock.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

enum {
    TRIES = 5,
};

// The URL of an object (or, with NULL, of the bucket), with a query.
static char *url_of(struct s3 *s, const char *name, const char *query) {
    autofree char *object = name ? remote_url(&s->remote, name) : NULL;
    char *url = NULL;
    if (name && !object)
        return NULL;
    return asprintf(&url, "%s%s%s", name ? object : s->bucket, query ? "?" : "",
                    query ? query : "") < 0
               ? NULL
               : url;
}

// The hash of the body is part of the signature.
int s3_request(struct s3 *s, const char *method, const char *name, const char *query,
               const void *body, size_t len, struct wire_answer *a, struct err *e) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    char hash[128] = "x-amz-content-sha256: ";
    autofree char *url = url_of(s, name, query);
    if (!url || EVP_Digest(len ? body : "", len, digest, &n, EVP_sha256(), NULL) != 1)
        return err_set(e, EX_OSERR, "out of memory");
    char *to = hash + strlen(hash);
    for (unsigned i = 0; i < n; i++)
        to += sprintf(to, "%02x", digest[i]);
    const char *headers[] = {hash, body ? "Content-Type: application/octet-stream" : NULL, NULL};
    struct wire_request q = {.method = method,
                             .url = url,
                             .headers = headers,
                             .body = body,
                             .body_len = len,
                             .stop = remote_stop(&s->remote)};
    if (wire_retry(s->remote.wire, &q, TRIES, a, e) < 0)
        return err_wrap(e, "%s", s->where);
    return 0;
}

int s3_exists(struct s3 *s, const char *name, struct err *e) {
    autowire struct wire_answer a = {0};
    if (s3_request(s, "HEAD", name, NULL, NULL, 0, &a, e) < 0)
        return -1;
    if (a.status == 200)
        return 1;
    return a.status == 404 ? 0 : remote_refused(&s->remote, &a, name, e);
}

char *s3_upload_query(const char *prefix, const char *id) {
    struct buf b = {0};
    buf_printf(&b, "%suploadId=", prefix);
    wire_encode(&b, id, true);
    return b.data;
}

void s3_drop_upload(struct s3 *s, const char *name, const char *id) {
    autowire struct wire_answer a = {0};
    autofree char *query = s3_upload_query("", id);
    if (query)
        s3_request(s, "DELETE", name, query, NULL, 0, &a, NULL);
}

// Calls each for the elements of one page of an answer; *ret_next: how the next page is asked for.
static int list_page(struct s3 *s, const struct buf *body, store_each *each, void *arg,
                     char **ret_next) {
    const char *p = body->data, *end = p + body->len, *from, *to;
    while (remote_xml_next(&p, end, "Contents", &from, &to)) {
        autofree char *key = remote_xml(from, to, "Key", NULL);
        autofree char *size = remote_xml(from, to, "Size", NULL);
        autofree char *time = remote_xml(from, to, "LastModified", NULL);
        size_t n = strlen(s->prefix);
        if (!key || strncmp(key, s->prefix, n) != 0 || !key[n] || strchr(key + n, '/'))
            continue;
        int rc =
            each(arg, key + n, size ? strtoll(size, NULL, 10) : 0, time ? remote_time(time) : 0);
        if (rc)
            return rc;
    }
    *ret_next = remote_xml(body->data, end, "NextContinuationToken", NULL);
    return 0;
}

int s3_walk(struct store *store, store_each *each, void *arg, struct err *e) {
    struct s3 *s = (struct s3 *)store;
    autofree char *next = NULL;
    do {
        autobuf struct buf query = {0};
        autowire struct wire_answer a = {0};
        if (next) {
            buf_str(&query, "continuation-token=");
            wire_encode(&query, next, true);
            buf_str(&query, "&");
        }
        buf_str(&query, "delimiter=%2F&list-type=2&prefix=");
        wire_encode(&query, s->prefix, true);
        free(take_ptr(&next));
        if (query.failed)
            return err_set(e, EX_OSERR, "out of memory");
        if (s3_request(s, "GET", NULL, query.data, NULL, 0, &a, e) < 0)
            return -1;
        if (a.status != 200 || !a.body.data)
            return remote_refused(&s->remote, &a, "listing", e);
        int rc = list_page(s, &a.body, each, arg, &next);
        if (rc)
            return rc;
    } while (next && *next);
    return 0;
}

// Uploads of a day ago and older belong to dead runs: S3 has no lock that could tell.
int s3_sweep(struct store *store, int *ret_removed, struct err *e) {
    struct s3 *s = (struct s3 *)store;
    autobuf struct buf query = {0};
    autowire struct wire_answer a = {0};
    *ret_removed = 0;
    buf_str(&query, "prefix=");
    wire_encode(&query, s->prefix, true);
    buf_str(&query, "&uploads=");
    if (query.failed || s3_request(s, "GET", NULL, query.data, NULL, 0, &a, e) < 0)
        return -1;
    if (a.status != 200 || !a.body.data)
        return 0; // some keys may not list uploads: no reason not to make a backup
    const char *p = a.body.data, *end = p + a.body.len, *from, *to;
    size_t n = strlen(s->prefix);
    while (remote_xml_next(&p, end, "Upload", &from, &to)) {
        autofree char *key = remote_xml(from, to, "Key", NULL);
        autofree char *id = remote_xml(from, to, "UploadId", NULL);
        autofree char *time = remote_xml(from, to, "Initiated", NULL);
        int64_t made, begun = time ? remote_time(time) : 0;
        if (!key || !id || !begun || strncmp(key, s->prefix, n) != 0 ||
            !store_name_time(key + n, NULL, &made) ||
            clock_wall_ms() - begun < REMOTE_STALE_S * 1000LL)
            continue;
        s3_drop_upload(s, key + n, id);
        ++*ret_removed;
    }
    return 0;
}

// The login's texts, then both connections: one writes, one reads.
static int connect(struct s3 *s, const struct options *o, struct err *e) {
    char sigv4[128];
    char *access = NULL, *secret = NULL;
    const char *region = remote_text(o, "region");
    snprintf(sigv4, sizeof sigv4, "aws:amz:%s:s3", region ? region : "us-east-1");
    int rc = remote_secret(o, "access_key_file", &access, e);
    if (rc == 0)
        rc = remote_secret(o, "secret_key_file", &secret, e);
    if (rc == 0 && (!access || !secret))
        rc =
            err_set(e, EX_CONFIG,
                    "%s: [backup] access_key_file and secret_key_file are needed for S3", s->where);
    struct wire_login login = {
        .user = access, .password = secret, .sigv4 = sigv4, .ca = remote_text(o, "ca")};
    if (rc == 0)
        rc = remote_connect(&s->remote, &login, e);
    remote_forget(&access);
    remote_forget(&secret);
    return rc;
}

// Where it is, as URLs.
static int place(struct s3 *s, const struct options *o, const char *destination, struct err *e) {
    const char *bucket = destination + strlen("s3://"), *endpoint = remote_text(o, "endpoint");
    const char *region = remote_text(o, "region");
    size_t n = strcspn(bucket, "/");
    const char *prefix = bucket[n] ? bucket + n + 1 : "";
    size_t len = strlen(prefix);
    while (len && prefix[len - 1] == '/')
        len--;
    char standard[256];
    snprintf(standard, sizeof standard, "https://s3.%s.amazonaws.com",
             region ? region : "us-east-1");
    endpoint = endpoint ? endpoint : standard;
    if (n == 0 || (strncmp(endpoint, "https://", 8) != 0 && strncmp(endpoint, "http://", 7) != 0))
        return err_set(e, EX_CONFIG,
                       n ? "[backup] endpoint: \"%s\" is not https://HOST[:PORT]"
                         : "\"%s\" names no bucket: s3://BUCKET/FOLDER",
                       n ? endpoint : destination);
    size_t end = strlen(endpoint);
    while (endpoint[end - 1] == '/')
        end--;
    if (asprintf(&s->bucket, "%.*s/%.*s", (int)end, endpoint, (int)n, bucket) < 0 ||
        asprintf(&s->prefix, "%.*s%s", (int)len, prefix, len ? "/" : "") < 0 ||
        asprintf(&s->where, "s3://%.*s/%.*s", (int)n, bucket, (int)len, prefix) < 0)
        return err_set(e, EX_OSERR, "out of memory");
    struct buf base = {0};
    buf_printf(&base, "%s/", s->bucket);
    wire_encode(&base, s->prefix, false);
    s->remote.base = base.data;
    s->remote.store.where = s->where;
    return base.failed ? err_set(e, EX_OSERR, "out of memory") : 0;
}

int s3_set(struct s3 *s, const struct options *o, const char *destination,
           const struct store_ops *ops, struct err *e) {
    // The hash of an empty body.
    static const char *const get_headers[] = {
        "x-amz-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        NULL};
    remote_init(&s->remote, o, ops);
    s->remote.get_headers = get_headers;
    s->remote.walk = s3_walk;
    return place(s, o, destination, e) < 0 ? -1 : connect(s, o, e);
}

void s3_close(struct s3 *s) {
    remote_close(&s->remote);
    free(s->where);
    free(s->bucket);
    free(s->prefix);
}
