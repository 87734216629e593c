#include "backup/age.h"
#include "backup/bech32.h"
#include "base/file.h"
#include "base/text.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

// The secret of 32 bytes 0x42.
static const char identity[] =
    "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";

// A memory file whose first chunk is rewritten at the end.
static int to_buf(void *arg, const void *data, size_t len, struct err *e) {
    buf_add(arg, data, len);
    return 0;
}

struct source {
    const char *data;
    size_t len, at, most;
};

static ssize_t from_source(void *arg, void *buf, size_t len, struct err *e) {
    struct source *s = arg;
    size_t n = s->len - s->at;
    n = n < len ? n : len;
    n = n < s->most ? n : s->most; // short reads, as a pipe gives them
    memcpy(buf, s->data + s->at, n);
    s->at += n;
    return (ssize_t)n;
}

static char *identity_file(const char *text) {
    char *path = strdup("/tmp/civinit-age-XXXXXX");
    int fd = mkstemp(path);
    cr_assert(fd >= 0 && file_write(fd, text, strlen(text)) == 0);
    close(fd);
    return path;
}

static void encrypt(const char *data, size_t len, bool hold, struct buf *out) {
    char public[64];
    struct err e = {0};
    cr_assert(age_public(identity, public, &e) == 0, "%s", e.text);
    const char *recipients[] = {public, NULL};
    struct age_out *a = NULL;
    cr_assert(age_out_new(recipients, hold, to_buf, out, &a, &e) == 0, "%s", e.text);
    for (size_t at = 0; at < len; at += 10007)
        cr_assert(age_out_write(a, data + at, len - at < 10007 ? len - at : 10007, &e) == 0);
    if (hold && len >= 8)
        cr_assert(age_out_patch(a, 2, "PATCH", 5, &e) == 0, "%s", e.text);
    const unsigned char *first;
    size_t first_len, offset;
    cr_assert(age_out_end(a, &first, &first_len, &offset, &e) == 0, "%s", e.text);
    memcpy(out->data + offset, first, first_len);
    age_out_free(a);
}

static int decrypt(const struct buf *in, size_t most, struct buf *out, struct err *e) {
    char *path = identity_file("# a comment\n\nAGE-SECRET-KEY-"
                               "1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX\n");
    struct source s = {in->data, in->len, 0, most};
    struct age_in *a = NULL;
    char piece[5000];
    ssize_t n = -1;
    if (age_in_new(path, from_source, &s, &a, e) == 0)
        while ((n = age_in_read(a, piece, sizeof piece, e)) > 0)
            buf_add(out, piece, (size_t)n);
    age_in_free(a);
    unlink(path);
    free(path);
    return n == 0 ? 0 : -1;
}

static char *pattern(size_t len) {
    char *p = malloc(len + 1);
    for (size_t i = 0; i < len; i++)
        p[i] = (char)(i * 2654435761U >> 13);
    return p;
}

Test(age, what_is_encrypted_comes_back_and_the_first_chunk_can_be_patched) {
    static const size_t sizes[] = {0, 1, 8, 65535, 65536, 65537, 131072, 131073, 400000};
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int hold = 0; hold < 2; hold++) {
            autobuf struct buf sealed = {0}, plain = {0};
            struct err e = {0};
            char *data = pattern(sizes[i]);
            encrypt(data, sizes[i], hold, &sealed);
            cr_assert(decrypt(&sealed, hold ? 1000000 : 777, &plain, &e) == 0, "%zu: %s", sizes[i],
                      e.text);
            if (hold && sizes[i] >= 8)
                memcpy(data + 2, "PATCH", 5);
            cr_expect(plain.len == sizes[i] && (!plain.len || !memcmp(plain.data, data, plain.len)),
                      "%zu bytes, hold %d", sizes[i], hold);
            free(data);
        }
}

Test(age, every_change_and_every_cut_is_noticed) {
    autobuf struct buf sealed = {0};
    char *data = pattern(70000);
    encrypt(data, 70000, true, &sealed);
    free(data);
    for (size_t at = 0; at < sealed.len; at += at < 300 ? 1 : 4999) {
        autobuf struct buf plain = {0};
        struct err e = {0};
        sealed.data[at] ^= 4;
        cr_expect(decrypt(&sealed, 1000000, &plain, &e) < 0, "byte %zu changed", at);
        cr_expect(e.code == EX_DATAERR || e.code == EX_NOPERM, "byte %zu: %d", at, e.code);
        sealed.data[at] ^= 4;
        struct buf cut = sealed;
        cut.len = at;
        cr_expect(decrypt(&cut, 1000000, &plain, &e) < 0, "cut to %zu", at);
    }
    autobuf struct buf longer = {0}, plain = {0};
    buf_add(&longer, sealed.data, sealed.len);
    buf_add(&longer, "x", 1);
    cr_expect(decrypt(&longer, 1000000, &plain, NULL) < 0);
}

Test(age, wrong_keys_have_clear_messages) {
    unsigned char key[32];
    char public[64];
    struct err e = {0};
    cr_assert(age_public(identity, public, &e) == 0);
    cr_expect(age_recipient(public, key, &e) == 0);
    public[20] = public[20] == 'q' ? 'p' : 'q';
    cr_expect(age_recipient(public, key, &e) < 0 && e.code == EX_CONFIG);
    cr_expect(age_recipient(identity, key, &e) < 0);
    cr_expect(strstr(e.text, "secret key") && !strstr(e.text, "GFPYY"), "%s", e.text);
    cr_expect(age_recipient("ssh-ed25519 AAAA", key, &e) < 0 && strstr(e.text, "ssh"));
    cr_expect(age_public("AGE-SECRET-KEY-1QQQ", public, &e) < 0);

    const char *none[] = {NULL};
    struct age_out *a;
    cr_expect(age_out_new(none, false, to_buf, NULL, &a, &e) < 0);
}

Test(age, bech32_round_trip) {
    unsigned char in[32], out[32];
    char text[128];
    for (unsigned i = 0; i < 200; i++) {
        for (unsigned j = 0; j < 32; j++)
            in[j] = (unsigned char)((i * 31 + j) * 2654435761U >> 11);
        bech32_encode(i & 1 ? "age" : "AGE-SECRET-KEY-", in, text);
        cr_assert(bech32_decode(text, i & 1 ? "age" : "AGE-SECRET-KEY-", out) == 0, "%s", text);
        cr_expect(memcmp(in, out, 32) == 0);
        size_t at = (i & 1 ? 4 : 16) + i % 58;
        text[at] = text[at] == 'q' || text[at] == 'Q' ? 'p' : i & 1 ? 'q' : 'Q';
        cr_expect(bech32_decode(text, i & 1 ? "age" : "AGE-SECRET-KEY-", out) < 0);
    }
}
