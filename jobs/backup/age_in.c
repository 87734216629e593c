// Reading an age file.
#include "backup/age.h"

#include "backup/agecrypt.h"
#include "backup/agestream.h"
#include "backup/bech32.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/text.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

enum {
    SEALED = AGE_CHUNK + AGE_TAG,
    IDENTITIES = 32
};

static const unsigned char zero_nonce[12];

struct age_in {
    struct agecrypt *crypt;
    age_read *read;
    void *arg;
    uint64_t number; // of the next chunk
    bool done;       // the last chunk was opened
    size_t at, len;  // plaintext not yet given out
    size_t have;     // sealed bytes read ahead
    unsigned char plain[AGE_CHUNK];
    unsigned char sealed[SEALED + 1]; // and one more: it tells whether a chunk is the last
};

bool age_is(const void *data, size_t len) {
    size_t n = strlen(AGE_INTRO);
    return len >= n && memcmp(data, AGE_INTRO, n) == 0;
}

// The secrets of an identity file into keys[IDENTITIES]; their number.
static int identities(const char *path, unsigned char (*keys)[32], struct err *e) {
    char *text = NULL;
    size_t len;
    int n = 0, line_number = 0, rc = 0;
    if (file_read(path, 1 << 20, &text, &len, e) < 0)
        return err_wrap(e, "identity file");
    for (char *save = NULL, *line = text;
         rc == 0 && (line = strtok_r(save ? NULL : line, "\n", &save));) {
        line_number++;
        line[strcspn(line, "\r \t")] = '\0';
        if (!*line || *line == '#')
            continue;
        if (n == IDENTITIES)
            rc = err_set(e, EX_CONFIG, "%s: more than %d identities", path, IDENTITIES);
        else if (bech32_decode(line, "AGE-SECRET-KEY-", keys[n++]) < 0)
            rc = err_set(e, EX_CONFIG, "%s: entry %d is no age identity (\"AGE-SECRET-KEY-1…\")",
                         path, line_number);
    }
    agecrypt_wipe(text, len);
    free(text);
    if (rc == 0 && n == 0)
        rc = err_set(e, EX_CONFIG, "%s: holds no identity", path);
    return rc < 0 ? rc : n;
}

// The next line of the header, with its newline, appended to header.
static int header_line(struct age_in *a, struct buf *header, size_t *ret_start, struct err *e) {
    size_t start = header->len;
    for (;;) {
        char c;
        ssize_t n = a->read(a->arg, &c, 1, e);
        if (n < 0)
            return -1;
        if (n == 0 || header->len >= AGE_HEADER_MAX)
            return err_set(e, EX_DATAERR, "encrypted archive: its header is cut or too long");
        buf_add(header, &c, 1);
        if (header->failed)
            return err_set(e, EX_SOFTWARE, "out of memory");
        if (c == '\n')
            break;
    }
    *ret_start = start;
    return 0;
}

// Tries all secrets on one X25519 stanza: 1 opened, 0 not ours.
static int try_stanza(const unsigned char share[32], const unsigned char body[32],
                      unsigned char (*keys)[32], int n, unsigned char file_key[AGE_FILE_KEY]) {
    unsigned char public[32], shared[32], key[32];
    int found = 0;
    for (int i = 0; i < n && !found; i++) {
        struct agecrypt *c = NULL;
        if (agecrypt_x25519_public(keys[i], public) == 0 &&
            agecrypt_x25519(keys[i], share, shared) == 0 &&
            agestream_wrap_key(shared, share, public, key) == 0 && (c = agecrypt_new(key)))
            found = agecrypt_open(c, zero_nonce, body, 32, file_key) == 0;
        agecrypt_free(c);
    }
    agecrypt_wipe(shared, sizeof shared);
    agecrypt_wipe(key, sizeof key);
    return found;
}

// One stanza's arguments line lies at start; reads its body. 1: file_key is found.
static int read_stanza(struct age_in *a, struct buf *header, size_t start,
                       unsigned char (*keys)[32], int nkeys, unsigned char file_key[AGE_FILE_KEY],
                       struct err *e) {
    static const char kind[] = "-> X25519 ";
    unsigned char share[32], body[32];
    size_t body_at, line_at;
    bool ours = strncmp(header->data + start, kind, strlen(kind)) == 0;
    if (header_line(a, header, &body_at, e) < 0)
        return -1;
    size_t len = header->len - body_at - 1;
    while (header->len - (line_at = body_at) - 1 == 64) // a body ends with a line of less than 64
        if (header_line(a, header, &body_at, e) < 0)
            return -1;
    if (!ours)
        return 0;
    const char *text = header->data + start + strlen(kind);
    if (strcspn(text, "\n") != AGE_SHARE_TEXT || agestream_unbase64(text, share) < 0 ||
        len != AGE_SHARE_TEXT || agestream_unbase64(header->data + line_at, body) < 0)
        return err_set(e, EX_DATAERR, "encrypted archive: broken X25519 stanza in its header");
    return try_stanza(share, body, keys, nkeys, file_key);
}

// Reads the header to its end and proves it with its MAC.
static int read_header(struct age_in *a, unsigned char (*keys)[32], int nkeys,
                       unsigned char file_key[AGE_FILE_KEY], struct err *e) {
    autobuf struct buf header = {0};
    unsigned char mac[32], given[32], key[AGE_FILE_KEY];
    size_t start;
    int found = 0;
    if (header_line(a, &header, &start, e) < 0)
        return -1;
    if (!age_is(header.data, header.len))
        return err_set(e, EX_DATAERR, "not an age file of version 1");
    for (;;) {
        if (header_line(a, &header, &start, e) < 0)
            return -1;
        if (strncmp(header.data + start, "-> ", 3) != 0)
            break;
        int rc = read_stanza(a, &header, start, keys, nkeys, key, e);
        if (rc < 0)
            return -1;
        if (rc && !found) {
            found = 1;
            memcpy(file_key, key, sizeof key);
        }
    }
    const char *last = header.data + start;
    if (strncmp(last, "--- ", 4) != 0 || strcspn(last + 4, "\n") != AGE_SHARE_TEXT ||
        agestream_unbase64(last + 4, given) < 0)
        return err_set(e, EX_DATAERR, "encrypted archive: broken header");
    if (!found)
        return err_set(e, EX_NOPERM, "encrypted archive: no identity of the file opens it");
    if (agestream_mac(file_key, header.data, start + 3, mac) < 0 || memcmp(mac, given, 32) != 0)
        return err_set(e, EX_DATAERR, "encrypted archive: its header was changed");
    return 0;
}

// Fills sealed up to want bytes; fewer only at the end.
static int fill(struct age_in *a, size_t want, struct err *e) {
    while (a->have < want) {
        ssize_t n = a->read(a->arg, a->sealed + a->have, want - a->have, e);
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        a->have += (size_t)n;
    }
    return 0;
}

static int begin(struct age_in *a, const char *identity_file, struct err *e) {
    unsigned char keys[IDENTITIES][32], file_key[AGE_FILE_KEY], key[32];
    int n = identities(identity_file, keys, e);
    int rc = n < 0 ? -1 : read_header(a, keys, n, file_key, e);
    agecrypt_wipe(keys, sizeof keys);
    if (rc == 0 && fill(a, AGE_NONCE, e) < 0)
        rc = -1;
    if (rc == 0 && a->have < AGE_NONCE)
        rc = err_set(e, EX_DATAERR, "encrypted archive: cut after its header");
    if (rc == 0 &&
        (agecrypt_hkdf(file_key, sizeof file_key, a->sealed, AGE_NONCE, "payload", key) < 0 ||
         !(a->crypt = agecrypt_new(key))))
        rc = err_set(e, EX_SOFTWARE, "decryption: no ChaCha20-Poly1305 in OpenSSL");
    a->have = 0;
    agecrypt_wipe(file_key, sizeof file_key);
    agecrypt_wipe(key, sizeof key);
    return rc;
}

int age_in_new(const char *identity_file, age_read *read, void *arg, struct age_in **ret,
               struct err *e) {
    struct age_in *a = calloc(1, sizeof *a);
    if (!a)
        return err_set(e, EX_SOFTWARE, "out of memory");
    a->read = read;
    a->arg = arg;
    if (begin(a, identity_file, e) < 0) {
        age_in_free(a);
        return -1;
    }
    *ret = a;
    return 0;
}

// Opens the next chunk into plain.
static int chunk(struct age_in *a, struct err *e) {
    unsigned char nonce[12];
    if (fill(a, SEALED + 1, e) < 0)
        return -1;
    bool last = a->have <= SEALED;
    size_t len = last ? a->have : SEALED;
    agestream_nonce(a->number, last, nonce);
    if (len < AGE_TAG || (len == AGE_TAG && a->number > 0) ||
        agecrypt_open(a->crypt, nonce, a->sealed, len, a->plain) < 0)
        return err_set(e, EX_DATAERR,
                       "encrypted archive: changed or cut in chunk %llu (64 KiB each)",
                       (unsigned long long)a->number);
    a->number++;
    a->at = 0;
    a->len = len - AGE_TAG;
    a->done = last;
    a->have -= len;
    if (a->have)
        a->sealed[0] = a->sealed[SEALED];
    return 0;
}

ssize_t age_in_read(struct age_in *a, void *buf, size_t len, struct err *e) {
    if (a->at == a->len) {
        if (a->done)
            return 0;
        if (chunk(a, e) < 0)
            return -1;
    }
    size_t n = a->len - a->at < len ? a->len - a->at : len;
    memcpy(buf, a->plain + a->at, n);
    a->at += n;
    return (ssize_t)n;
}

void age_in_free(struct age_in *a) {
    if (!a)
        return;
    agecrypt_free(a->crypt);
    agecrypt_wipe(a->plain, sizeof a->plain);
    free(a);
}
