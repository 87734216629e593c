// Writing an age file.
#include "backup/age.h"

#include "backup/agecrypt.h"
#include "backup/agestream.h"
#include "backup/bech32.h"
#include "base/text.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sysexits.h>

static const unsigned char zero_nonce[12];

struct age_out {
    struct agecrypt *crypt;
    age_write *write;
    void *arg;
    bool hold_first;
    size_t header_len;    // where the first chunk begins in the file
    uint64_t number;      // of the chunk being filled
    size_t len;           // bytes in plain
    size_t first_len;     // bytes in first, while it is held
    unsigned char *first; // the held chunk, NULL without hold_first
    unsigned char plain[AGE_CHUNK];
    unsigned char sealed[AGE_CHUNK + AGE_TAG];
};

int age_recipient(const char *text, unsigned char ret[AGE_KEY], struct err *e) {
    if (strncasecmp(text, "AGE-SECRET-KEY-", 15) == 0)
        return err_set(e, EX_CONFIG,
                       "a secret key was given as recipient: give the public key \"age1…\"");
    if (bech32_decode(text, "age", ret) == 0)
        return 0;
    if (strncmp(text, "ssh-", 4) == 0)
        return err_set(e, EX_CONFIG,
                       "\"%.20s…\" is an ssh key: only age's own (\"age1…\") are known", text);
    return err_set(e, EX_CONFIG, "\"%s\" is no age recipient (\"age1…\", 62 characters)", text);
}

int age_public(const char *identity, char ret[64], struct err *e) {
    unsigned char secret[AGE_KEY], public[AGE_KEY];
    int bad = bech32_decode(identity, "AGE-SECRET-KEY-", secret) < 0 ||
              agecrypt_x25519_public(secret, public) < 0;
    agecrypt_wipe(secret, sizeof secret);
    if (bad)
        return err_set(e, EX_CONFIG, "no age identity (\"AGE-SECRET-KEY-1…\")");
    bech32_encode("age", public, ret);
    return 0;
}

// One stanza: the file key, wrapped for one recipient under a secret used only here.
static int stanza(struct buf *header, const unsigned char recipient[AGE_KEY],
                  const unsigned char file_key[AGE_FILE_KEY]) {
    unsigned char secret[32], share[32], shared[32], key[32], body[AGE_FILE_KEY + AGE_TAG];
    char share_text[64], body_text[64];
    struct agecrypt *c = NULL;
    int rc =
        agecrypt_random(secret, sizeof secret) < 0 || agecrypt_x25519_public(secret, share) < 0 ||
                agecrypt_x25519(secret, recipient, shared) < 0 ||
                agestream_wrap_key(shared, share, recipient, key) < 0 || !(c = agecrypt_new(key)) ||
                agecrypt_seal(c, zero_nonce, file_key, AGE_FILE_KEY, body) < 0
            ? -1
            : 0;
    agecrypt_free(c);
    agecrypt_wipe(secret, sizeof secret);
    agecrypt_wipe(shared, sizeof shared);
    agecrypt_wipe(key, sizeof key);
    if (rc < 0)
        return -1;
    agestream_base64(share, sizeof share, share_text);
    agestream_base64(body, sizeof body, body_text);
    buf_printf(header, "-> X25519 %s\n%s\n", share_text, body_text);
    return 0;
}

static int header_text(struct buf *header, const char *const *recipients,
                       const unsigned char file_key[AGE_FILE_KEY], struct err *e) {
    unsigned char key[AGE_KEY], mac[32];
    char mac_text[64];
    buf_str(header, AGE_INTRO);
    for (; *recipients; recipients++) {
        if (age_recipient(*recipients, key, e) < 0)
            return -1;
        if (stanza(header, key, file_key) < 0)
            return err_set(e, EX_CONFIG, "\"%s\" cannot be encrypted to", *recipients);
    }
    buf_str(header, "---");
    if (header->failed || agestream_mac(file_key, header->data, header->len, mac) < 0)
        return err_set(e, EX_SOFTWARE, "encryption: out of memory");
    agestream_base64(mac, sizeof mac, mac_text);
    buf_printf(header, " %s\n", mac_text);
    return header->failed ? err_set(e, EX_SOFTWARE, "encryption: out of memory") : 0;
}

// The header and the payload's nonce; sets the key of the payload.
static int begin(struct age_out *a, const char *const *recipients, struct err *e) {
    unsigned char file_key[AGE_FILE_KEY], nonce[AGE_NONCE], key[32];
    autobuf struct buf header = {0};
    if (agecrypt_random(file_key, sizeof file_key) < 0 || agecrypt_random(nonce, sizeof nonce) < 0)
        return err_set(e, EX_OSERR, "encryption: no random numbers");
    int rc = header_text(&header, recipients, file_key, e);
    if (rc == 0 &&
        (agecrypt_hkdf(file_key, sizeof file_key, nonce, sizeof nonce, "payload", key) < 0 ||
         !(a->crypt = agecrypt_new(key))))
        rc = err_set(e, EX_SOFTWARE, "encryption: no ChaCha20-Poly1305 in OpenSSL");
    agecrypt_wipe(file_key, sizeof file_key);
    agecrypt_wipe(key, sizeof key);
    if (rc < 0)
        return -1;
    buf_add(&header, nonce, sizeof nonce);
    if (header.failed)
        return err_set(e, EX_SOFTWARE, "encryption: out of memory");
    a->header_len = header.len;
    return a->write(a->arg, header.data, header.len, e);
}

int age_out_new(const char *const *recipients, bool hold_first, age_write *write, void *arg,
                struct age_out **ret, struct err *e) {
    if (!*recipients)
        return err_set(e, EX_CONFIG, "encryption without a recipient");
    struct age_out *a = calloc(1, sizeof *a);
    if (!a || (hold_first && !(a->first = malloc(AGE_CHUNK)))) {
        age_out_free(a);
        return err_set(e, EX_SOFTWARE, "out of memory");
    }
    a->write = write;
    a->arg = arg;
    a->hold_first = hold_first;
    if (begin(a, recipients, e) < 0) {
        age_out_free(a);
        return -1;
    }
    *ret = a;
    return 0;
}

static int seal(struct age_out *a, uint64_t number, bool last, const unsigned char *plain,
                size_t len, struct err *e) {
    unsigned char nonce[12];
    agestream_nonce(number, last, nonce);
    if (agecrypt_seal(a->crypt, nonce, plain, len, a->sealed) < 0)
        return err_set(e, EX_SOFTWARE, "encryption failed");
    return 0;
}

// The full chunk goes out; the first one may be put aside, with zeros in its place.
static int chunk(struct age_out *a, struct err *e) {
    if (a->number == 0 && a->hold_first) {
        memcpy(a->first, a->plain, a->len);
        a->first_len = a->len;
        memset(a->sealed, 0, sizeof a->sealed);
    } else if (seal(a, a->number, false, a->plain, a->len, e) < 0) {
        return -1;
    }
    a->number++;
    size_t len = a->len + AGE_TAG;
    a->len = 0;
    return a->write(a->arg, a->sealed, len, e);
}

int age_out_write(struct age_out *a, const void *data, size_t len, struct err *e) {
    const unsigned char *p = data;
    while (len) {
        // A full chunk waits until more comes: the last one is sealed as the last.
        if (a->len == AGE_CHUNK && chunk(a, e) < 0)
            return -1;
        size_t n = AGE_CHUNK - a->len < len ? AGE_CHUNK - a->len : len;
        memcpy(a->plain + a->len, p, n);
        a->len += n;
        p += n;
        len -= n;
    }
    return 0;
}

int age_out_patch(struct age_out *a, size_t offset, const void *data, size_t len, struct err *e) {
    unsigned char *first = a->number ? a->first : a->plain;
    size_t have = a->number ? a->first_len : a->len;
    if (!a->hold_first || offset > have || len > have - offset)
        return err_set(e, EX_SOFTWARE, "encryption: only the first %zu bytes can be patched", have);
    memcpy(first + offset, data, len);
    return 0;
}

int age_out_end(struct age_out *a, const unsigned char **ret_first, size_t *ret_first_len,
                size_t *ret_offset, struct err *e) {
    *ret_first = a->sealed;
    *ret_first_len = 0;
    *ret_offset = a->header_len;
    if (seal(a, a->number, true, a->plain, a->len, e) < 0 ||
        a->write(a->arg, a->sealed, a->len + AGE_TAG, e) < 0)
        return -1;
    if (!a->hold_first || a->number == 0)
        return 0;
    if (seal(a, 0, false, a->first, a->first_len, e) < 0)
        return -1;
    *ret_first_len = a->first_len + AGE_TAG;
    return 0;
}

void age_out_free(struct age_out *a) {
    if (!a)
        return;
    agecrypt_free(a->crypt);
    free(a->first);
    free(a);
}
