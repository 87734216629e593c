// Blocks joined into one gzip member, read back by zlib; the header that is rewritten.
#include "backup/codec.h"
#include "backup/tarhead.h"

#include <archive.h>
#include <archive_entry.h>
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

static uint32_t seed = 1;

static uint8_t noise(void) {
    seed = seed * 1664525U + 1013904223U;
    return (uint8_t)(seed >> 24);
}

// Content of several characters: text, noise, both in turn, zeros, noise with sectors among it that
// shrink by an eighth.
static void fill(uint8_t *p, size_t n, int kind) {
    static const char text[] = "INSERT INTO `civicrm_contact` VALUES (1,'Individual',NULL,";
    for (size_t i = 0; i < n; i++)
        p[i] = kind == 0   ? (uint8_t)text[i % (sizeof text - 1)] ^ (uint8_t)(i % 997 == 0)
               : kind == 1 ? noise()
               : kind == 2 ? (i >> 17) % 2 ? noise() : (uint8_t)text[i % (sizeof text - 1)]
               : kind == 3 ? 0
                           : noise() & ((i >> 9) % 9 == 8 ? 0x7f : 0xff);
}

// Inflates exactly one gzip member that ends where the data ends; the size, or 0.
static size_t gunzip(const uint8_t *data, size_t n, uint8_t *out, size_t size) {
    z_stream z = {.next_in = (uint8_t *)(uintptr_t)data,
                  .avail_in = (unsigned)n,
                  .next_out = out,
                  .avail_out = (unsigned)size};
    if (inflateInit2(&z, 31) != Z_OK)
        return 0;
    int rc = inflate(&z, Z_FINISH);
    size_t got = z.total_out;
    bool whole = rc == Z_STREAM_END && z.avail_in == 0;
    inflateEnd(&z);
    return whole ? got : 0;
}

static const size_t sizes[] = {1, 2, 3, 100, 4095, 8192, 65536, 65537, 300000, CODEC_BLOCK};
enum {
    NSIZES = sizeof sizes / sizeof *sizes,
    KINDS = 5,
    HEAD = TARHEAD_BYTES,
};

struct made {
    uint8_t *raw, *out;
    size_t raw_len, out_len, patch;
};

// An archive of all sizes and kinds, with a head that is rewritten afterwards.
static struct made make(enum compression how) {
    size_t total = HEAD, cap;
    for (int i = 0; i < NSIZES; i++)
        total += KINDS * sizes[i];
    cap = 2 * total + 100000;
    struct made m = {malloc(total), malloc(cap)};
    struct codec *c;
    struct err e = {0};
    uint8_t placeholder[HEAD];
    cr_assert_eq(codec_new(how, &c, &e), 0, "%s", e.text);
    memset(placeholder, 0xff, HEAD);
    m.out_len = codec_begin(how, placeholder, HEAD, m.out, &m.patch);
    tarhead_make(m.raw, "database.sql", 12345, 1700000000123);
    uint32_t crc = 0;
    m.raw_len = HEAD;
    for (int i = 0; i < NSIZES; i++)
        for (int k = 0; k < KINDS; k++) {
            uint8_t *in = m.raw + m.raw_len;
            size_t n;
            fill(in, sizes[i], k);
            cr_assert_eq(
                codec_block(c, in, sizes[i], m.out + m.out_len, codec_bound(how, sizes[i]), &n, &e),
                0, "%zu bytes of kind %d: %s", sizes[i], k, e.text);
            crc = codec_crc_join(crc, codec_crc(0, in, sizes[i]), sizes[i]);
            m.out_len += n;
            m.raw_len += sizes[i];
        }
    memcpy(m.out + m.patch, m.raw, HEAD);
    crc = codec_crc_join(codec_crc(0, m.raw, HEAD), crc, m.raw_len - HEAD);
    m.out_len += codec_end(how, crc, m.raw_len, m.out + m.out_len);
    cr_expect_eq(crc, codec_crc(0, m.raw, m.raw_len));
    codec_free(c);
    return m;
}

static void expect_same(const struct made *m, const uint8_t *back, size_t n, const char *what) {
    cr_expect_eq(n, m->raw_len, "%s: %zu of %zu bytes", what, n, m->raw_len);
    cr_expect(n == m->raw_len && memcmp(back, m->raw, n) == 0, "%s: other bytes", what);
}

Test(codec, blocks_are_one_gzip_member) {
    static const enum compression kinds[] = {COMPRESS_DEFAULT, COMPRESS_FAST};
    for (int i = 0; i < 2; i++) {
        struct made m = make(kinds[i]);
        uint8_t *back = malloc(m.raw_len + 1);
        size_t n = gunzip(m.out, m.out_len, back, m.raw_len + 1);
        expect_same(&m, back, n, kinds[i] ? "fast" : "default");
        free(back);
        free(m.raw);
        free(m.out);
    }
}

Test(codec, blocks_are_zstd_frames) {
    struct made m = make(COMPRESS_ZSTD);
    uint8_t *back = malloc(m.raw_len);
    size_t n = ZSTD_decompress(back, m.raw_len, m.out, m.out_len);
    cr_assert(!ZSTD_isError(n), "%s", ZSTD_getErrorName(n));
    expect_same(&m, back, n, "zstd");
    free(back);
    free(m.raw);
    free(m.out);
}

Test(codec, noise_hardly_grows) {
    uint8_t *in = malloc(CODEC_BLOCK), *out = malloc(codec_bound(COMPRESS_DEFAULT, CODEC_BLOCK));
    struct codec *c;
    struct err e;
    size_t n;
    fill(in, CODEC_BLOCK, 1);
    cr_assert_eq(codec_new(COMPRESS_DEFAULT, &c, &e), 0);
    cr_assert_eq(
        codec_block(c, in, CODEC_BLOCK, out, codec_bound(COMPRESS_DEFAULT, CODEC_BLOCK), &n, &e), 0,
        "%s", e.text);
    cr_expect(n < CODEC_BLOCK + CODEC_BLOCK / 500, "%zu", n);
    codec_free(c);
    free(in);
    free(out);
}

// libarchive reads the header back, whatever the size.
// A tar header among pictures: its neighbours are noise, it is not.
Test(codec, a_header_among_noise_is_compressed) {
    enum {
        LEN = 256 << 10,
        GAP = 1024, // two sectors
    };
    struct codec *c;
    struct err e = {0};
    uint8_t *in = malloc(LEN), *out = malloc(codec_bound(COMPRESS_DEFAULT, LEN));
    size_t plain, with_header;
    cr_assert_eq(codec_new(COMPRESS_DEFAULT, &c, &e), 0, "%s", e.text);
    fill(in, LEN, 1);
    cr_assert_eq(codec_block(c, in, LEN, out, codec_bound(COMPRESS_DEFAULT, LEN), &plain, &e), 0);
    memset(in + LEN / 2 + 3 * GAP, 0, GAP);
    cr_assert_eq(codec_block(c, in, LEN, out, codec_bound(COMPRESS_DEFAULT, LEN), &with_header, &e),
                 0);
    cr_expect_lt(with_header, plain - GAP * 3 / 4, "%zu and %zu bytes", plain, with_header);
    codec_free(c);
    free(in);
    free(out);
}

Test(tarhead, is_read_by_libarchive) {
    static const uint64_t sizes_of[] = {
        0, 1, 511, 512, 4294967296, 8589934591, 8589934592, 9663676423, 1099511627776000};
    for (unsigned i = 0; i < sizeof sizes_of / sizeof *sizes_of; i++) {
        uint8_t tar[TARHEAD_BYTES + 2 * TAR_BLOCK] = {0};
        struct archive *a = archive_read_new();
        struct archive_entry *n;
        tarhead_make(tar, "database.sql", sizes_of[i], 1700000000123);
        archive_read_support_format_tar(a);
        cr_assert_eq(archive_read_open_memory(a, tar, sizeof tar), ARCHIVE_OK);
        cr_assert_eq(archive_read_next_header(a, &n), ARCHIVE_OK, "%s", archive_error_string(a));
        cr_expect_str_eq(archive_entry_pathname(n), "database.sql");
        cr_expect_eq((uint64_t)archive_entry_size(n), sizes_of[i]);
        cr_expect_eq(archive_entry_mtime(n), 1700000000);
        cr_expect_eq(archive_entry_perm(n), 0600);
        archive_read_free(a);
        // The same with the ustar header alone, for readers that know no pax records.
        a = archive_read_new();
        archive_read_support_format_tar(a);
        cr_assert_eq(archive_read_open_memory(a, tar + 2 * TAR_BLOCK, sizeof tar - 2 * TAR_BLOCK),
                     ARCHIVE_OK);
        cr_assert_eq(archive_read_next_header(a, &n), ARCHIVE_OK, "%s", archive_error_string(a));
        cr_expect_eq((uint64_t)archive_entry_size(n), sizes_of[i]);
        archive_read_free(a);
    }
}
