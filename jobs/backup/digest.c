#include "backup/tar.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

struct digest {
    EVP_MD_CTX *ctx;
    const EVP_MD *md;
};

struct digest *digest_new(void) {
    struct digest *d = calloc(1, sizeof *d);
    if (!d)
        return NULL;
    d->md = EVP_sha256();
    d->ctx = EVP_MD_CTX_new();
    if (!d->ctx || !EVP_DigestInit_ex(d->ctx, d->md, NULL)) {
        digest_free(d);
        return NULL;
    }
    return d;
}

void digest_add(struct digest *d, const void *data, size_t len) {
    EVP_DigestUpdate(d->ctx, data, len);
}

void digest_end(struct digest *d, char ret[TAR_SHA_TEXT]) {
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    EVP_DigestFinal_ex(d->ctx, sum, &n);
    for (unsigned i = 0; i < 32; i++)
        snprintf(ret + 2 * (size_t)i, 3, "%02x", sum[i]);
    EVP_DigestInit_ex(d->ctx, d->md, NULL);
}

void digest_free(struct digest *d) {
    if (!d)
        return;
    EVP_MD_CTX_free(d->ctx);
    free(d);
}
