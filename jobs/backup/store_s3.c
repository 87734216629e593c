// S3 and what speaks its language. An archive is one multipart upload: its first part stays in
// memory and goes last, because the beginning is patched at the end; nothing is visible before the
// upload is completed, and an aborted one leaves nothing.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html: parts of 5 MiB to 5 GiB (the
// last may be smaller), at most 10,000.
#include "backup/store.h"

#include "backup/remote.h"
#include "backup/wire.h"
#include "base/cleanup.h"
#include "base/clock.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

enum {
    PART_BYTES = 5 << 20,
    // Parts grow when there are many, so that 10,000 of them reach S3's limit of an object: the
    // first 5,000 hold 24 GiB.
    PARTS_SMALL = 5000,
    PART_BYTES_LATER = 256 << 20,
    PARTS_MAX = 10000,
    TRIES = 5,
};

struct s3_store {
    struct store store;
    char *where, *base, *prefix; // base: endpoint/bucket, without a '/' at its end
    struct wire *wire, *reading;
    char *name, *upload; // what is being written
    unsigned char *first, *part;
    size_t first_len, part_len, part_cap;
    int number;      // of the part being filled; the first one is 1
    struct buf tags; // <Part> elements of parts 2…, in order
    char first_tag[256];
};

static struct s3_store *self(struct store *s) {
    return (struct s3_store *)s;
}

// The URL of an object (or, with NULL, of the bucket), with a query already encoded and sorted.
static char *url_of(struct s3_store *d, const char *name, const char *query) {
    struct buf b = {0};
    buf_str(&b, d->base);
    if (name) {
        buf_str(&b, "/");
        wire_encode(&b, d->prefix, false);
        wire_encode(&b, name, false);
    }
    if (query)
        buf_printf(&b, "?%s", query);
    if (!b.failed)
        return b.data;
    buf_free(&b);
    return NULL;
}

// One signed request, tried several times. The hash of the body is part of the signature.
static int request(struct s3_store *d, const char *method, const char *name, const char *query,
                   const void *body, size_t len, struct wire_answer *a, struct err *e) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    char hash[128] = "x-amz-content-sha256: ";
    autofree char *url = url_of(d, name, query);
    if (!url || EVP_Digest(len ? body : "", len, digest, &n, EVP_sha256(), NULL) != 1)
        return err_set(e, EX_OSERR, "out of memory");
    char *to = hash + strlen(hash);
    for (unsigned i = 0; i < n; i++)
        to += sprintf(to, "%02x", digest[i]);
    const char *headers[] = {hash, body ? "Content-Type: application/octet-stream" : NULL, NULL};
    struct wire_request q = {
        .method = method, .url = url, .headers = headers, .body = body, .body_len = len};
    if (wire_retry(d->wire, &q, TRIES, a, e) < 0)
        return err_wrap(e, "%s", d->where);
    return 0;
}

static int refused(struct s3_store *d, const struct wire_answer *a, const char *what,
                   struct err *e) {
    wire_status(a->status, what, &a->body, e);
    return err_wrap(e, "%s", d->where);
}

// 1: it is there, 0: it is not.
static int exists(struct s3_store *d, const char *name, struct err *e) {
    autowire struct wire_answer a = {0};
    if (request(d, "HEAD", name, NULL, NULL, 0, &a, e) < 0)
        return -1;
    if (a.status == 200)
        return 1;
    return a.status == 404 ? 0 : refused(d, &a, name, e);
}

static char *upload_query(const char *prefix, const char *id) {
    struct buf b = {0};
    buf_printf(&b, "%suploadId=", prefix);
    wire_encode(&b, id, true);
    return b.data;
}

static void drop_upload(struct s3_store *d, const char *name, const char *id) {
    autowire struct wire_answer a = {0};
    autofree char *query = upload_query("", id);
    if (query)
        request(d, "DELETE", name, query, NULL, 0, &a, NULL);
}

static void s3_abort(struct store *s) {
    struct s3_store *d = self(s);
    if (d->upload)
        drop_upload(d, d->name, d->upload);
    free(d->upload);
    free(d->name);
    d->upload = d->name = NULL;
    d->first_len = d->part_len = 0;
    buf_free(&d->tags);
}

static int begin_upload(struct s3_store *d, struct err *e) {
    autowire struct wire_answer a = {0};
    if (request(d, "POST", d->name, "uploads=", "", 0, &a, e) < 0)
        return -1;
    if (a.status != 200)
        return refused(d, &a, "beginning an upload", e);
    if (a.body.data)
        d->upload = remote_xml(a.body.data, a.body.data + a.body.len, "UploadId", NULL);
    return d->upload ? 0 : err_set(e, EX_PROTOCOL, "%s: an answer without UploadId", d->where);
}

static int s3_create(struct store *s, const char *name, struct err *e) {
    struct s3_store *d = self(s);
    s3_abort(s);
    int there = exists(d, name, e);
    if (there)
        return there < 0 ? -1 : err_set(e, EX_CANTCREAT, "%s/%s: is there already", d->where, name);
    d->name = strdup(name);
    d->first = d->first ? d->first : malloc(PART_BYTES);
    if (!d->part) {
        d->part = malloc(PART_BYTES);
        d->part_cap = PART_BYTES;
    }
    if (!d->name || !d->first || !d->part)
        return err_set(e, EX_OSERR, "out of memory");
    d->number = 1;
    return begin_upload(d, e);
}

static int send_part(struct s3_store *d, int number, const void *data, size_t len, char tag[256],
                     struct err *e) {
    char what[64];
    autowire struct wire_answer a = {0};
    snprintf(what, sizeof what, "partNumber=%d&", number);
    autofree char *query = upload_query(what, d->upload);
    snprintf(what, sizeof what, "sending part %d", number);
    if (!query)
        return err_set(e, EX_OSERR, "out of memory");
    if (request(d, "PUT", d->name, query, data, len, &a, e) < 0)
        return -1;
    if (a.status != 200)
        return refused(d, &a, what, e);
    if (!*a.etag)
        return err_set(e, EX_PROTOCOL, "%s: %s: an answer without ETag", d->where, what);
    memcpy(tag, a.etag, sizeof a.etag);
    return 0;
}

static int flush_part(struct s3_store *d, struct err *e) {
    char tag[256];
    if (send_part(d, d->number, d->part, d->part_len, tag, e) < 0)
        return -1;
    buf_printf(&d->tags, "<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>", d->number, tag);
    d->part_len = 0;
    if (d->number == PARTS_MAX)
        return err_set(e, EX_CANTCREAT, "%s: more than %d parts", d->where, PARTS_MAX);
    if (++d->number == PARTS_SMALL) {
        unsigned char *larger = realloc(d->part, PART_BYTES_LATER);
        if (!larger)
            return err_set(e, EX_OSERR, "out of memory");
        d->part = larger;
        d->part_cap = PART_BYTES_LATER;
    }
    return d->tags.failed ? err_set(e, EX_OSERR, "out of memory") : 0;
}

static int s3_write(struct store *s, const void *data, size_t len, struct err *e) {
    struct s3_store *d = self(s);
    const unsigned char *p = data;
    while (len) {
        bool first = d->number == 1;
        size_t have = first ? d->first_len : d->part_len, cap = first ? PART_BYTES : d->part_cap;
        size_t n = cap - have < len ? cap - have : len;
        memcpy((first ? d->first : d->part) + have, p, n);
        *(first ? &d->first_len : &d->part_len) += n;
        p += n;
        len -= n;
        if (have + n < cap)
            break;
        if (first)
            d->number = 2;
        else if (flush_part(d, e) < 0)
            return -1;
    }
    return 0;
}

static int s3_patch(struct store *s, size_t offset, const void *data, size_t len, struct err *e) {
    struct s3_store *d = self(s);
    if (offset > d->first_len || len > d->first_len - offset)
        return err_set(e, EX_SOFTWARE, "%s: cannot patch at %zu", d->where, offset + len);
    memcpy(d->first + offset, data, len);
    return 0;
}

static int complete(struct s3_store *d, struct err *e) {
    autobuf struct buf body = {0};
    autowire struct wire_answer a = {0};
    buf_printf(&body,
               "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>%s</ETag></Part>%s"
               "</CompleteMultipartUpload>",
               d->first_tag, d->tags.data ? d->tags.data : "");
    autofree char *query = upload_query("", d->upload);
    if (body.failed || !query)
        return err_set(e, EX_OSERR, "out of memory");
    if (request(d, "POST", d->name, query, body.data, body.len, &a, e) < 0)
        return -1;
    // The answer's status is sent before the work is done: an error may come in its body.
    if (a.status == 200 && a.body.data && strstr(a.body.data, "CompleteMultipartUploadResult"))
        return 0;
    // A repeated request may find that the first one, whose answer was lost, did it all.
    if (a.status == 404 && exists(d, d->name, NULL) == 1)
        return 0;
    return refused(d, &a, "completing the upload", e);
}

static int s3_commit(struct store *s, struct err *e) {
    struct s3_store *d = self(s);
    if (d->part_len && flush_part(d, e) < 0)
        return -1;
    if (send_part(d, 1, d->first, d->first_len, d->first_tag, e) < 0)
        return -1;
    int there = exists(d, d->name, e);
    if (there)
        return there < 0 ? -1
                         : err_set(e, EX_CANTCREAT, "%s/%s: is there already", d->where, d->name);
    if (complete(d, e) < 0)
        return -1;
    free(d->upload);
    d->upload = NULL;
    s3_abort(s); // nothing is left to drop but memory
    return 0;
}

static void s3_close_read(struct store *s) {
    wire_stop(self(s)->reading);
}

static int s3_open(struct store *s, const char *name, uint64_t offset, int64_t *ret_size,
                   struct err *e) {
    struct s3_store *d = self(s);
    static const char *const headers[] = {
        "x-amz-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        NULL};
    autofree char *url = url_of(d, name, NULL);
    long status = 0;
    int64_t size = -1;
    if (!url)
        return err_set(e, EX_OSERR, "out of memory");
    struct wire_request q = {.url = url, .headers = headers, .offset = offset};
    if (wire_get(d->reading, &q, &status, &size, e) < 0)
        return err_wrap(e, "%s", d->where);
    if (status != (offset ? 206 : 200)) {
        wire_stop(d->reading);
        wire_status(status, name, NULL, e);
        return err_wrap(e, "%s", d->where);
    }
    *ret_size = size < 0 ? -1 : size + (int64_t)offset;
    return 0;
}

static ssize_t s3_read(struct store *s, void *data, size_t size, struct err *e) {
    struct s3_store *d = self(s);
    ssize_t n = wire_pull(d->reading, data, size, e);
    return n < 0 ? err_wrap(e, "%s", d->where) : n;
}

// Calls each for the elements of one page of an answer; *ret_next: how the next page is asked for.
static int list_page(struct s3_store *d, const struct buf *body, store_each *each, void *arg,
                     char **ret_next) {
    const char *p = body->data, *end = p + body->len, *from, *to;
    while (remote_xml_next(&p, end, "Contents", &from, &to)) {
        autofree char *key = remote_xml(from, to, "Key", NULL);
        autofree char *size = remote_xml(from, to, "Size", NULL);
        autofree char *time = remote_xml(from, to, "LastModified", NULL);
        size_t n = strlen(d->prefix);
        if (!key || strncmp(key, d->prefix, n) != 0 || !key[n] || strchr(key + n, '/'))
            continue;
        int rc =
            each(arg, key + n, size ? strtoll(size, NULL, 10) : 0, time ? remote_time(time) : 0);
        if (rc)
            return rc;
    }
    *ret_next = remote_xml(body->data, end, "NextContinuationToken", NULL);
    return 0;
}

static int s3_list(struct store *s, store_each *each, void *arg, struct err *e) {
    struct s3_store *d = self(s);
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
        wire_encode(&query, d->prefix, true);
        free(take_ptr(&next));
        if (query.failed)
            return err_set(e, EX_OSERR, "out of memory");
        if (request(d, "GET", NULL, query.data, NULL, 0, &a, e) < 0)
            return -1;
        if (a.status != 200 || !a.body.data)
            return refused(d, &a, "listing", e);
        int rc = list_page(d, &a.body, each, arg, &next);
        if (rc)
            return rc;
    } while (next && *next);
    return 0;
}

static int s3_remove(struct store *s, const char *name, struct err *e) {
    struct s3_store *d = self(s);
    autowire struct wire_answer a = {0};
    if (request(d, "DELETE", name, NULL, NULL, 0, &a, e) < 0)
        return -1;
    return a.status / 100 == 2 ? 0 : refused(d, &a, name, e);
}

// Uploads of a day ago and older belong to dead runs: S3 has no lock that could tell.
static int s3_sweep(struct store *s, int *ret_removed, struct err *e) {
    struct s3_store *d = self(s);
    autobuf struct buf query = {0};
    autowire struct wire_answer a = {0};
    *ret_removed = 0;
    buf_str(&query, "prefix=");
    wire_encode(&query, d->prefix, true);
    buf_str(&query, "&uploads=");
    if (query.failed || request(d, "GET", NULL, query.data, NULL, 0, &a, e) < 0)
        return -1;
    if (a.status != 200 || !a.body.data)
        return 0; // some keys may not list uploads: no reason not to make a backup
    const char *p = a.body.data, *end = p + a.body.len, *from, *to;
    size_t n = strlen(d->prefix);
    while (remote_xml_next(&p, end, "Upload", &from, &to)) {
        autofree char *key = remote_xml(from, to, "Key", NULL);
        autofree char *id = remote_xml(from, to, "UploadId", NULL);
        autofree char *time = remote_xml(from, to, "Initiated", NULL);
        int64_t made, begun = time ? remote_time(time) : 0;
        if (!key || !id || !begun || strncmp(key, d->prefix, n) != 0 ||
            !store_name_time(key + n, NULL, &made) ||
            clock_wall_ms() - begun < REMOTE_STALE_S * 1000LL)
            continue;
        drop_upload(d, key + n, id);
        ++*ret_removed;
    }
    return 0;
}

static int s3_lock(struct store *s, struct err *e) {
    return 0; // names hold the second, nothing is ever replaced: two at once do no harm
}

static int64_t s3_space(struct store *s) {
    return -1;
}

static void s3_free(struct store *s) {
    struct s3_store *d = self(s);
    s3_abort(s);
    wire_free(d->wire);
    wire_free(d->reading);
    free(d->where);
    free(d->base);
    free(d->prefix);
    free(d->first);
    free(d->part);
    free(d);
}

static const struct store_ops ops = {
    .create = s3_create,
    .write = s3_write,
    .patch = s3_patch,
    .commit = s3_commit,
    .abort = s3_abort,
    .open = s3_open,
    .read = s3_read,
    .close_read = s3_close_read,
    .list = s3_list,
    .remove = s3_remove,
    .sweep = s3_sweep,
    .lock = s3_lock,
    .space = s3_space,
    .free = s3_free,
};

// The login's texts, then both connections: one writes, one reads.
static int connect(struct s3_store *d, const struct options *o, struct err *e) {
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
                    "%s: [backup] access_key_file and secret_key_file are needed for S3", d->where);
    struct wire_login login = {
        .user = access, .password = secret, .sigv4 = sigv4, .ca = remote_text(o, "ca")};
    if (rc == 0)
        rc = wire_new(&login, &d->wire, e);
    if (rc == 0)
        rc = wire_new(&login, &d->reading, e);
    remote_forget(&access);
    remote_forget(&secret);
    return rc;
}

// "s3://BUCKET/PREFIX": the bucket goes into base, the prefix ends in '/' or is empty.
static int place(struct s3_store *d, const struct options *o, const char *destination,
                 struct err *e) {
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
    if (asprintf(&d->base, "%.*s/%.*s", (int)end, endpoint, (int)n, bucket) < 0 ||
        asprintf(&d->prefix, "%.*s%s", (int)len, prefix, len ? "/" : "") < 0 ||
        asprintf(&d->where, "s3://%.*s/%.*s", (int)n, bucket, (int)len, prefix) < 0)
        return err_set(e, EX_OSERR, "out of memory");
    d->store.where = d->where;
    return 0;
}

int store_s3_open(const struct options *o, const char *destination, struct store **ret,
                  struct err *e) {
    struct s3_store *d = calloc(1, sizeof *d);
    if (!d)
        return err_set(e, EX_OSERR, "out of memory");
    d->store = (struct store){.ops = &ops, .can_patch = true, .can_seek = true};
    if (place(d, o, destination, e) < 0 || connect(d, o, e) < 0) {
        s3_free(&d->store);
        return -1;
    }
    *ret = (struct store *)d;
    return 0;
}
