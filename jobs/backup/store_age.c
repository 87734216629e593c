// Encryption around any other store: what is written goes to the public keys, what is read and
// begins as age files do is opened with the identity file. Names are not touched.
#include "backup/age.h"
#include "backup/readback.h"
#include "backup/store.h"

#include "base/cleanup.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

enum {
    SNIFF = 22 // bytes that tell an age file
};

struct age_store {
    struct store store;
    struct store *inner;
    const char *const *recipients; // NULL: written as it is
    const char *identity;          // NULL: none
    const atomic_bool *stop;
    struct age_out *out;
    struct readback *sent; // what the last archive was made of
    struct age_in *in;
    unsigned char sniffed[SNIFF]; // read ahead of the rest
    size_t sniffed_at, sniffed_len;
    uint64_t consumed; // bytes read from inner
};

static struct age_store *self(struct store *s) {
    return (struct age_store *)s;
}

static int to_inner(void *arg, const void *data, size_t len, struct err *e) {
    struct age_store *d = arg;
    readback_add(d->sent, data, len);
    return d->inner->ops->write(d->inner, data, len, e);
}

static void crypt_abort(struct store *s) {
    struct age_store *d = self(s);
    // d->out stays until the next archive, or the end: a thread may be writing through it.
    d->inner->ops->abort(d->inner);
}

static int crypt_create(struct store *s, const char *name, struct err *e) {
    struct age_store *d = self(s);
    age_out_free(take_ptr(&d->out));
    if (d->inner->ops->create(d->inner, name, e) < 0)
        return -1;
    s->can_patch = d->inner->can_patch;
    if (!d->recipients)
        return 0;
    readback_free(d->sent);
    d->sent = readback_new();
    if (!d->sent)
        return err_set(e, EX_OSERR, "out of memory");
    return age_out_new(d->recipients, s->can_patch, to_inner, d, &d->out, e);
}

static int crypt_write(struct store *s, const void *data, size_t len, struct err *e) {
    struct age_store *d = self(s);
    return d->out ? age_out_write(d->out, data, len, e)
                  : d->inner->ops->write(d->inner, data, len, e);
}

static int crypt_patch(struct store *s, size_t offset, const void *data, size_t len,
                       struct err *e) {
    struct age_store *d = self(s);
    return d->out ? age_out_patch(d->out, offset, data, len, e)
                  : d->inner->ops->patch(d->inner, offset, data, len, e);
}

static int crypt_commit(struct store *s, struct err *e) {
    struct age_store *d = self(s);
    const unsigned char *first;
    size_t len, offset;
    if (d->out) {
        if (age_out_end(d->out, &first, &len, &offset, e) < 0)
            return -1;
        if (len) {
            readback_patch(d->sent, offset, first, len);
            if (d->inner->ops->patch(d->inner, offset, first, len, e) < 0)
                return -1;
        }
        age_out_free(take_ptr(&d->out));
    }
    return d->inner->ops->commit(d->inner, e);
}

static ssize_t from_inner(void *arg, void *buf, size_t len, struct err *e) {
    struct age_store *d = arg;
    size_t n = d->sniffed_len - d->sniffed_at;
    if (n) {
        n = n < len ? n : len;
        memcpy(buf, d->sniffed + d->sniffed_at, n);
        d->sniffed_at += n;
        d->consumed += n;
        return (ssize_t)n;
    }
    ssize_t got = d->inner->ops->read(d->inner, buf, len, e);
    if (got > 0)
        d->consumed += (uint64_t)got;
    return got;
}

static void crypt_close_read(struct store *s) {
    struct age_store *d = self(s);
    age_in_free(take_ptr(&d->in));
    d->inner->ops->close_read(d->inner);
}

// Opens inner at its beginning and reads the bytes that tell what it is.
static int sniff(struct age_store *d, const char *name, int64_t *ret_size, struct err *e) {
    if (d->inner->ops->open(d->inner, name, 0, ret_size, e) < 0)
        return -1;
    d->sniffed_at = d->sniffed_len = 0;
    d->consumed = 0;
    while (d->sniffed_len < SNIFF) {
        ssize_t n =
            d->inner->ops->read(d->inner, d->sniffed + d->sniffed_len, SNIFF - d->sniffed_len, e);
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        d->sniffed_len += (size_t)n;
    }
    return 0;
}

// Jumps over plaintext, which has to be decrypted for it.
static int skip(struct age_store *d, uint64_t offset, struct err *e) {
    char piece[8192];
    while (offset) {
        size_t n = offset < sizeof piece ? (size_t)offset : sizeof piece;
        ssize_t got = age_in_read(d->in, piece, n, e);
        if (got <= 0)
            return got < 0 ? -1
                           : err_set(e, EX_DATAERR, "encrypted archive: shorter than expected");
        offset -= (uint64_t)got;
    }
    return 0;
}

static int crypt_open(struct store *s, const char *name, uint64_t offset, int64_t *ret_size,
                      struct err *e) {
    struct age_store *d = self(s);
    int64_t size;
    crypt_close_read(s);
    if (sniff(d, name, &size, e) < 0)
        return -1;
    bool crypted = age_is(d->sniffed, d->sniffed_len);
    s->can_seek = d->inner->can_seek && !crypted;
    if (!crypted) {
        *ret_size = size;
        if (offset == 0)
            return 0;
        d->sniffed_at = d->sniffed_len;
        d->inner->ops->close_read(d->inner);
        return d->inner->ops->open(d->inner, name, offset, ret_size, e);
    }
    if (!d->identity)
        return err_set(e, EX_NOPERM,
                       "%s is encrypted: give --identity FILE or [backup] identity_file", name);
    if (age_in_new(d->identity, from_inner, d, &d->in, e) < 0)
        return -1;
    int64_t sealed = size - (int64_t)d->consumed, chunk = AGE_CHUNK + AGE_TAG;
    *ret_size = size < 0 ? -1 : sealed - (sealed + chunk - 1) / chunk * AGE_TAG;
    return skip(d, offset, e);
}

static ssize_t crypt_read(struct store *s, void *data, size_t size, struct err *e) {
    struct age_store *d = self(s);
    return d->in ? age_in_read(d->in, data, size, e) : from_inner(d, data, size, e);
}

static int crypt_list(struct store *s, store_each *each, void *arg, struct err *e) {
    struct store *i = self(s)->inner;
    return i->ops->list(i, each, arg, e);
}

static int crypt_remove(struct store *s, const char *name, struct err *e) {
    struct store *i = self(s)->inner;
    return i->ops->remove(i, name, e);
}

static int crypt_sweep(struct store *s, int *ret_removed, struct err *e) {
    struct store *i = self(s)->inner;
    return i->ops->sweep(i, ret_removed, e);
}

static int crypt_lock(struct store *s, struct err *e) {
    struct store *i = self(s)->inner;
    return i->ops->lock(i, e);
}

static int64_t crypt_space(struct store *s) {
    struct store *i = self(s)->inner;
    return i->ops->space(i);
}

static void crypt_free(struct store *s) {
    struct age_store *d = self(s);
    age_out_free(d->out);
    age_in_free(d->in);
    readback_free(d->sent);
    store_free(d->inner);
    free(d);
}

int store_age_same(struct store *s, const char *name, struct err *e) {
    struct age_store *d = self(s);
    if (!d->sent)
        return err_set(e, EX_SOFTWARE, "nothing encrypted was written");
    return readback_compare(d->sent, d->inner, name, d->stop, e);
}

int store_age_wrap(const struct options *o, struct store *inner, struct store **ret,
                   struct err *e) {
    struct {
        struct age_store d;
        struct store_ops ops; // without what inner cannot do
    } *x = calloc(1, sizeof *x);
    unsigned char key[AGE_KEY];
    if (!x)
        return err_set(e, EX_OSERR, "out of memory");
    for (char **r = o->encrypt_to; r && *r; r++)
        if (age_recipient(*r, key, e) < 0) {
            free(x);
            return err_wrap(e, "[backup] encrypt_to");
        }
    const struct store_ops *i = inner->ops;
    x->ops = (struct store_ops){
        .create = i->create ? crypt_create : NULL,
        .write = i->write ? crypt_write : NULL,
        .patch = i->patch ? crypt_patch : NULL,
        .commit = i->commit ? crypt_commit : NULL,
        .abort = i->abort ? crypt_abort : NULL,
        .open = i->open ? crypt_open : NULL,
        .read = i->read ? crypt_read : NULL,
        .close_read = i->close_read ? crypt_close_read : NULL,
        .list = i->list ? crypt_list : NULL,
        .remove = i->remove ? crypt_remove : NULL,
        .sweep = i->sweep ? crypt_sweep : NULL,
        .lock = i->lock ? crypt_lock : NULL,
        .space = i->space ? crypt_space : NULL,
        .free = crypt_free,
    };
    x->d.store = (struct store){.ops = &x->ops,
                                .where = inner->where,
                                .can_patch = inner->can_patch,
                                .holds = inner->holds,
                                .can_seek = inner->can_seek};
    x->d.inner = inner;
    x->d.recipients = o->encrypt_to && o->encrypt_to[0] ? (const char *const *)o->encrypt_to : NULL;
    x->d.identity = o->identity_file;
    x->d.stop = o->stop;
    *ret = (struct store *)x;
    return 0;
}
