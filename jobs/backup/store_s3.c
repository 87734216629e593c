// S3 and what speaks its language. An archive is one multipart upload: its first part stays in
// memory and goes last, because the beginning is patched at the end; nothing is visible before the
// upload is completed, and an aborted one leaves nothing.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html: parts of 5 MiB to 5 GiB (the
// last may be smaller), at most 10,000.
#include "backup/store.h"

#include "backup/remote.h"
#include "backup/remote_store.h"
#include "backup/s3.h"
#include "backup/wire.h"
#include "base/cleanup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

enum {
    PART_BYTES = 5 << 20,
    PARTS_MAX = 10000,
};

struct s3_store {
    struct s3 s3;
    char *upload; // what is being written; NULL: nothing
    unsigned char *first, *part;
    size_t first_len, part_len, part_cap;
    int number;      // of the part being filled; the first one is 1
    struct buf tags; // <Part> elements of parts 2…, in order
    char first_tag[256];
};

// Parts are held in memory, and are as small as S3 allows for 24 GiB; those of the next 47 GiB have
// 16 MiB. Only what is larger still needs large ones, for 500 GiB more.
static size_t part_bytes(int number) {
    return number < PARTS_MAX / 2 ? PART_BYTES : number < PARTS_MAX * 4 / 5 ? 16 << 20 : 256 << 20;
}

static struct s3_store *self(struct store *s) {
    return (struct s3_store *)s;
}

static void s3_abort(struct store *s) {
    struct s3_store *d = self(s);
    remote_end(&d->s3.remote);
    if (d->upload)
        s3_drop_upload(&d->s3, d->s3.remote.name, d->upload);
    free(d->upload);
    d->upload = NULL;
    // Whoever reads the archive back needs memory too.
    free(take_ptr(&d->first));
    free(take_ptr(&d->part));
    d->first_len = d->part_len = 0;
    buf_free(&d->tags);
}

static int begin_upload(struct s3_store *d, struct err *e) {
    autowire struct wire_answer a = {0};
    d->s3.remote.last_words = true; // without the answer nobody could abort the upload
    if (s3_request(&d->s3, "POST", d->s3.remote.name, "uploads=", "", 0, &a, e) < 0)
        return -1;
    d->s3.remote.last_words = false;
    if (a.status != 200)
        return remote_refused(&d->s3.remote, &a, "beginning an upload", e);
    if (a.body.data)
        d->upload = remote_xml(a.body.data, a.body.data + a.body.len, "UploadId", NULL);
    return d->upload ? 0 : err_set(e, EX_PROTOCOL, "%s: an answer without UploadId", d->s3.where);
}

static int s3_create(struct store *s, const char *name, struct err *e) {
    struct s3_store *d = self(s);
    s3_abort(s);
    int there = remote_begin(&d->s3.remote, name, e) < 0 ? -1 : s3_exists(&d->s3, name, e);
    if (there)
        return there < 0 ? -1 : err_set(e, EX_CANTCREAT, "%s/%s: is there already", s->where, name);
    d->first = malloc(PART_BYTES);
    d->part = malloc(PART_BYTES);
    d->part_cap = PART_BYTES;
    if (!d->first || !d->part)
        return err_set(e, EX_OSERR, "out of memory");
    d->number = 1;
    return begin_upload(d, e);
}

static int send_part(struct s3_store *d, int number, const void *data, size_t len, char tag[256],
                     struct err *e) {
    char what[64];
    autowire struct wire_answer a = {0};
    snprintf(what, sizeof what, "partNumber=%d&", number);
    autofree char *query = s3_upload_query(what, d->upload);
    snprintf(what, sizeof what, "sending part %d", number);
    if (!query)
        return err_set(e, EX_OSERR, "out of memory");
    if (s3_request(&d->s3, "PUT", d->s3.remote.name, query, data, len, &a, e) < 0)
        return -1;
    if (a.status != 200)
        return remote_refused(&d->s3.remote, &a, what, e);
    if (!*a.etag)
        return err_set(e, EX_PROTOCOL, "%s: %s: an answer without ETag", d->s3.where, what);
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
        return err_set(e, EX_CANTCREAT, "%s: more than %d parts", d->s3.where, PARTS_MAX);
    size_t cap = part_bytes(++d->number);
    if (cap != d->part_cap) {
        unsigned char *other = realloc(d->part, cap);
        if (!other)
            return err_set(e, EX_OSERR, "out of memory");
        d->part = other;
        d->part_cap = cap;
    }
    return d->tags.failed ? err_set(e, EX_OSERR, "out of memory") : 0;
}

static int add(struct s3_store *d, const void *data, size_t len, struct err *e) {
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

static int s3_write(struct store *s, const void *data, size_t len, struct err *e) {
    struct s3_store *d = self(s);
    if (remote_enter(&d->s3.remote, e) < 0)
        return -1;
    int rc = add(d, data, len, e);
    remote_leave(&d->s3.remote);
    return rc;
}

// Called by the thread that also ends the archive.
static int s3_patch(struct store *s, size_t offset, const void *data, size_t len, struct err *e) {
    struct s3_store *d = self(s);
    if (offset > d->first_len || len > d->first_len - offset)
        return err_set(e, EX_SOFTWARE, "%s: cannot patch at %zu", s->where, offset + len);
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
    autofree char *query = s3_upload_query("", d->upload);
    if (body.failed || !query)
        return err_set(e, EX_OSERR, "out of memory");
    if (s3_request(&d->s3, "POST", d->s3.remote.name, query, body.data, body.len, &a, e) < 0)
        return -1;
    // The answer's status is sent before the work is done: an error may come in its body.
    if (a.status == 200 && a.body.data && strstr(a.body.data, "CompleteMultipartUploadResult"))
        return 0;
    // A repeated request may find that the first one, whose answer was lost, did it all.
    if (a.status == 404 && s3_exists(&d->s3, d->s3.remote.name, NULL) == 1)
        return 0;
    return remote_refused(&d->s3.remote, &a, "completing the upload", e);
}

static int s3_commit(struct store *s, struct err *e) {
    struct s3_store *d = self(s);
    if (d->part_len && flush_part(d, e) < 0)
        return -1;
    if (send_part(d, 1, d->first, d->first_len, d->first_tag, e) < 0)
        return -1;
    int there = s3_exists(&d->s3, d->s3.remote.name, e);
    if (there)
        return there < 0 ? -1
                         : err_set(e, EX_CANTCREAT, "%s/%s: is there already", s->where,
                                   d->s3.remote.name);
    d->s3.remote.last_words = true;
    if (complete(d, e) < 0)
        return -1;
    free(d->upload);
    d->upload = NULL;
    s3_abort(s); // nothing is left to drop but memory
    return 0;
}

static int s3_remove(struct store *s, const char *name, struct err *e) {
    struct s3_store *d = self(s);
    autowire struct wire_answer a = {0};
    if (s3_request(&d->s3, "DELETE", name, NULL, NULL, 0, &a, e) < 0)
        return -1;
    return a.status / 100 == 2 ? 0 : remote_refused(&d->s3.remote, &a, name, e);
}

static void s3_free(struct store *s) {
    struct s3_store *d = self(s);
    s3_abort(s);
    s3_close(&d->s3);
    free(d);
}

static const struct store_ops ops = {
    .create = s3_create,
    .write = s3_write,
    .patch = s3_patch,
    .commit = s3_commit,
    .abort = s3_abort,
    .open = remote_open,
    .read = remote_read,
    .close_read = remote_close_read,
    .list = remote_list,
    .remove = s3_remove,
    .sweep = s3_sweep,
    .lock = remote_lock,
    .space = remote_space,
    .free = s3_free,
};

int store_s3_open(const struct options *o, const char *destination, struct store **ret,
                  struct err *e) {
    struct s3_store *d = calloc(1, sizeof *d);
    if (!d)
        return err_set(e, EX_OSERR, "out of memory");
    struct store *s = &d->s3.remote.store;
    int rc = s3_set(&d->s3, o, destination, &ops, e);
    s->can_patch = s->holds = true;
    if (rc < 0) {
        s3_free(s);
        return -1;
    }
    *ret = s;
    return 0;
}
