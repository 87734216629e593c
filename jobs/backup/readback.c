#include "backup/readback.h"

#include <openssl/evp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

enum {
    HEAD = 3 * STORE_HEAD_MAX, // kept as it is, since it may change; the rest is hashed
    SUM = 32,
};

struct readback {
    unsigned char head[HEAD];
    uint64_t len; // of everything
    EVP_MD_CTX *rest;
    int failed;
};

struct readback *readback_new(void) {
    struct readback *r = calloc(1, sizeof *r);
    if (r && (r->rest = EVP_MD_CTX_new()) && EVP_DigestInit_ex(r->rest, EVP_sha256(), NULL) == 1)
        return r;
    readback_free(r);
    return NULL;
}

void readback_free(struct readback *r) {
    if (!r)
        return;
    EVP_MD_CTX_free(r->rest);
    free(r);
}

void readback_add(struct readback *r, const void *data, size_t len) {
    const unsigned char *p = data;
    size_t n = r->len < HEAD ? HEAD - (size_t)r->len : 0;
    n = n < len ? n : len;
    if (n)
        memcpy(r->head + r->len, p, n);
    if (len > n && EVP_DigestUpdate(r->rest, p + n, len - n) != 1)
        r->failed = 1;
    r->len += len;
}

void readback_patch(struct readback *r, size_t offset, const void *data, size_t len) {
    if (offset > HEAD || len > HEAD - offset || offset + len > r->len)
        r->failed = 1;
    else
        memcpy(r->head + offset, data, len);
}

static int same(struct readback *sent, struct readback *got) {
    unsigned char a[EVP_MAX_MD_SIZE], b[EVP_MAX_MD_SIZE];
    if (sent->failed || got->failed || sent->len != got->len ||
        memcmp(sent->head, got->head, HEAD) != 0)
        return 0;
    return EVP_DigestFinal_ex(sent->rest, a, NULL) == 1 &&
           EVP_DigestFinal_ex(got->rest, b, NULL) == 1 && memcmp(a, b, SUM) == 0;
}

int readback_compare(struct readback *r, struct store *s, const char *name, const atomic_bool *stop,
                     struct err *e) {
    static char piece[64 << 10];
    struct readback *got = readback_new();
    int64_t size;
    ssize_t n = -1;
    if (!got)
        return err_set(e, EX_OSERR, "out of memory");
    if (s->ops->open(s, name, 0, &size, e) == 0) {
        while (!(stop && *stop) && (n = s->ops->read(s, piece, sizeof piece, e)) > 0)
            readback_add(got, piece, (size_t)n);
        s->ops->close_read(s);
    }
    if (stop && *stop)
        n = err_set(e, EX_TEMPFAIL, "told to stop");
    else if (n == 0 && !same(r, got))
        n = err_set(e, EX_DATAERR, "what lies there is not what was sent (%llu bytes of %llu)",
                    (unsigned long long)got->len, (unsigned long long)r->len);
    readback_free(got);
    return n < 0 ? -1 : 0;
}
