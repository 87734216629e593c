// The only place that compresses. gzip: libdeflate writes complete streams only, so its last
// block loses its BFINAL bit and an empty stored block fills the byte up (as zlib's
// examples/gzjoin.c explains); ISA-L ends at a byte by a full flush. What does not shrink goes into
// stored blocks.
#include "backup/codec.h"

#include "base/cleanup.h"

#include <isa-l/igzip_lib.h>
#include <libdeflate.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <zlib.h>
#include <zstd.h>

enum {
    LEVEL = 6,       // libdeflate's: 2.5 times as fast as zlib 6, and as small
    QUICK_LEVEL = 2, // ISA-L's
    QUICK_MEMORY = ISAL_DEF_LVL2_DEFAULT,
    ZSTD_LEVEL = 3,
    SECTOR = 512,          // of tar: a header is as long
    NOISE_LEAST = 8 << 10, // that is worth a change
    NOISE_LEAST_FAST = 4 << 10,
    SAMPLE = SECTOR, // are counted
    SAMPLE_EACH = 8 << 10,
    GLANCE = 64,        // bytes that tell text;
    GLANCE_LEAST = 8,   // noise has 32 with the highest bit set, with 6 standard deviations 8
    EVEN_PERCENT = 120, // of the equal pairs that noise has; 4.5 standard deviations of a sample
    HALF_LEAST = 176,   // bytes of a sector of noise with the highest bit set: 256, less 7
    HALF_MOST = 336,    // standard deviations, or more
    STORED_MAX = 65535, // bytes of a stored block
    STORED_HEADER = 5,
    EMPTY_STORED = 5, // bytes of an empty stored block at most
};

struct codec {
    enum compression kind;
    struct libdeflate_compressor *deflate;
    z_stream inflate;
    bool inflate_ready;
    struct isal_zstream quick;
    struct inflate_state check;
    uint8_t *quick_memory;
    ZSTD_CCtx *zc;
    ZSTD_DCtx *zd;
    uint8_t *scratch; // CODEC_BLOCK bytes: what decompression gave
};

static bool make_gzip(struct codec *c) {
    if (c->kind == COMPRESS_FAST)
        return (c->quick_memory = malloc(QUICK_MEMORY)) != NULL;
    c->deflate = libdeflate_alloc_compressor(LEVEL);
    c->inflate_ready = inflateInit2(&c->inflate, -15) == Z_OK;
    return c->deflate && c->inflate_ready;
}

static bool make_zstd(struct codec *c) {
    c->zc = ZSTD_createCCtx();
    c->zd = ZSTD_createDCtx();
    return c->zc && c->zd &&
           !ZSTD_isError(ZSTD_CCtx_setParameter(c->zc, ZSTD_c_compressionLevel, ZSTD_LEVEL)) &&
           !ZSTD_isError(ZSTD_CCtx_setParameter(c->zc, ZSTD_c_checksumFlag, 1));
}

int codec_new(enum compression kind, struct codec **ret, struct err *e) {
    struct codec *c = calloc(1, sizeof *c);
    if (!c)
        return err_set(e, EX_OSERR, "out of memory");
    c->kind = kind;
    bool good = true;
    if (kind != COMPRESS_NONE)
        good = (c->scratch = malloc(CODEC_BLOCK)) != NULL;
    if (good && (kind == COMPRESS_DEFAULT || kind == COMPRESS_FAST))
        good = make_gzip(c);
    else if (good && kind == COMPRESS_ZSTD)
        good = make_zstd(c);
    if (!good) {
        codec_free(c);
        return err_set(e, EX_OSERR, "out of memory");
    }
    *ret = c;
    return 0;
}

void codec_free(struct codec *c) {
    if (!c)
        return;
    libdeflate_free_compressor(c->deflate);
    if (c->inflate_ready)
        inflateEnd(&c->inflate);
    ZSTD_freeCCtx(c->zc);
    ZSTD_freeDCtx(c->zd);
    free(c->quick_memory);
    free(c->scratch);
    free(c);
}

// A slow block holds up the quick ones behind it, as they are written in order: the smaller, the
// less all threads wait for one, and the less memory they take. But each begins without a history,
// which costs libdeflate and zstd more.
size_t codec_block_bytes(enum compression kind) {
    return kind == COMPRESS_FAST || kind == COMPRESS_NONE ? CODEC_BLOCK / 2 : CODEC_BLOCK;
}

size_t codec_bound(enum compression kind, size_t len) {
    if (kind == COMPRESS_ZSTD)
        return ZSTD_compressBound(len);
    // Between parts of noise may be pieces of text, each no larger than stored blocks.
    size_t pieces = len / (NOISE_LEAST_FAST + SECTOR) * 2 + 2;
    return libdeflate_deflate_compress_bound(NULL, len) + pieces * 1024;
}

static int wrong(const char *library, struct err *e) {
    return err_set(e, EX_SOFTWARE,
                   "a compressed block does not decompress to what it was: %s, or this machine's "
                   "memory, is broken",
                   library);
}

// Decompresses a complete deflate stream block by block, compares it with in, and finds where
// its last block begins and ends (in bits).
static int inspect(struct codec *c, const uint8_t *out, size_t n, const uint8_t *in, size_t len,
                   size_t *ret_last, size_t *ret_end, struct err *e) {
    z_stream *z = &c->inflate;
    inflateReset(z);
    z->next_in = (uint8_t *)(uintptr_t)out;
    z->avail_in = (unsigned)n;
    z->next_out = c->scratch;
    z->avail_out = CODEC_BLOCK;
    size_t last = 0;
    for (;;) {
        int rc = inflate(z, Z_BLOCK);
        size_t bits = z->total_in * 8 - (z->data_type & 7);
        bool boundary = z->data_type & 128, in_last = z->data_type & 64;
        if (rc != Z_OK)
            return wrong("libdeflate", e);
        if (boundary && in_last) {
            *ret_end = bits;
            break;
        }
        if (boundary)
            last = bits;
    }
    if (z->total_out != len || memcmp(c->scratch, in, len) != 0 || (*ret_end + 7) / 8 != n)
        return wrong("libdeflate", e);
    *ret_last = last;
    return 0;
}

static int deflate_piece(struct codec *c, const uint8_t *in, size_t len, uint8_t *out, size_t cap,
                         size_t *ret_len, struct err *e) {
    size_t last = 0, end = 0;
    if (cap < EMPTY_STORED)
        return err_set(e, EX_SOFTWARE, "no room for a compressed block");
    size_t n = libdeflate_deflate_compress(c->deflate, in, len, out, cap - EMPTY_STORED);
    if (n == 0)
        return err_set(e, EX_SOFTWARE, "no room for a compressed block");
    if (inspect(c, out, n, in, len, &last, &end, e) < 0)
        return -1;
    out[last / 8] &= (uint8_t) ~(1U << (last % 8));
    if (n * 8 - end < 3)
        out[n++] = 0; // the three zero bits of a stored block's header
    memcpy(out + n, "\0\0\xff\xff", 4);
    *ret_len = n + 4;
    return 0;
}

static int quick_piece(struct codec *c, const uint8_t *in, size_t len, uint8_t *out, size_t cap,
                       size_t *ret_len, struct err *e) {
    struct isal_zstream *q = &c->quick;
    isal_deflate_init(q);
    q->level = QUICK_LEVEL;
    q->level_buf = c->quick_memory;
    q->level_buf_size = QUICK_MEMORY;
    q->flush = FULL_FLUSH;
    q->next_in = (uint8_t *)(uintptr_t)in;
    q->avail_in = (uint32_t)len;
    q->next_out = out;
    q->avail_out = (uint32_t)cap;
    if (isal_deflate(q) != COMP_OK || q->avail_in || !q->avail_out)
        return err_set(e, EX_SOFTWARE, "no room for a compressed block");
    size_t n = q->total_out;
    struct inflate_state *check = &c->check;
    isal_inflate_init(check);
    check->next_in = out;
    check->avail_in = (uint32_t)n;
    check->next_out = c->scratch;
    check->avail_out = CODEC_BLOCK;
    // ISAL_END_INPUT: there is no last block, as there should not be.
    if (isal_inflate_stateless(check) != ISAL_END_INPUT || check->total_out != len ||
        memcmp(c->scratch, in, len) != 0)
        return wrong("libisal", e);
    *ret_len = n;
    return 0;
}

static uint8_t *put_le(uint8_t *p, uint64_t value, int bytes) {
    for (; bytes; bytes--, value >>= 8)
        *p++ = (uint8_t)value;
    return p;
}

// What does not shrink goes as it is: stored blocks cost nothing, here and for every reader.
static int stored_piece(const uint8_t *in, size_t len, uint8_t *out, size_t cap, size_t *ret_len,
                        struct err *e) {
    size_t used = 0;
    while (len) {
        size_t n = len < STORED_MAX ? len : STORED_MAX;
        if (cap - used < n + STORED_HEADER)
            return err_set(e, EX_SOFTWARE, "no room for a stored block");
        out[used++] = 0;
        put_le(put_le(out + used, n, 2), ~(uint64_t)n, 2);
        memcpy(out + used + 4, in, n);
        if (memcmp(out + used + 4, in, n) != 0)
            return wrong("libc", e);
        used += n + 4;
        in += n;
        len -= n;
    }
    *ret_len = used;
    return 0;
}

// How many of so many bytes (of a sector at most) have the highest bit set.
static unsigned count_high(const uint8_t *in, int len) {
    uint64_t sum = 0, word; // eight counts, of each eighth byte
    unsigned high = 0;
    for (int i = 0; i < len; i += sizeof word) {
        memcpy(&word, in + i, sizeof word);
        sum += word >> 7 & 0x0101010101010101;
    }
    for (; sum; sum >>= 8)
        high += sum & 0xff;
    return high;
}

// Whether about half of the bytes of a sector have the highest bit set: neither text nor a
// tar header has, which the first of them tell.
static bool sector_may_be_noise(const uint8_t *in) {
    if (count_high(in, GLANCE) < GLANCE_LEAST)
        return false;
    unsigned high = count_high(in, SECTOR);
    return high >= HALF_LEAST && high <= HALF_MOST;
}

// Whether bytes are spread so evenly that only noise is (or what is compressed already): the
// number of equal pairs, of which noise has one in 256.
static bool sample_is_noise(const uint8_t *in) {
    uint16_t count[2][256] = {{0}}; // two, so that equal neighbours need not wait for one another
    uint64_t pairs = 0;
    for (int i = 0; i < SAMPLE; i += 2) {
        count[0][in[i]]++;
        count[1][in[i + 1]]++;
    }
    for (int i = 0; i < 256; i++) {
        uint64_t n = (uint64_t)count[0][i] + count[1][i];
        pairs += n * n;
    }
    return (pairs - SAMPLE) * 256 * 100 < SAMPLE * SAMPLE * EVEN_PERCENT;
}

// How many bytes from the beginning deflate would be work for nothing, in whole sectors.
static size_t noise_at(const uint8_t *in, size_t len) {
    size_t n = 0;
    while (n + SECTOR <= len && sector_may_be_noise(in + n) &&
           (n % SAMPLE_EACH != 0 || sample_is_noise(in + n)))
        n += SECTOR;
    return n;
}

// How many bytes of one kind the beginning is, which may be none of noise. What is too short to be
// left alone counts as text: each change costs a few bytes, and text its history.
static size_t stretch(const uint8_t *in, size_t len, bool noise, size_t least) {
    size_t n = 0;
    if (noise) {
        n = noise_at(in, len);
        return n < least ? 0 : n;
    }
    while (n < len) {
        size_t next = noise_at(in + n, len - n);
        if (next >= least)
            break;
        next = next ? next : SECTOR;
        n = next < len - n ? n + next : len;
    }
    return n;
}

static int gzip_piece(struct codec *c, bool noise, const uint8_t *in, size_t len, uint8_t *out,
                      size_t cap, size_t *ret_len, struct err *e) {
    if (noise)
        return stored_piece(in, len, out, cap, ret_len, e);
    return c->kind == COMPRESS_FAST ? quick_piece(c, in, len, out, cap, ret_len, e)
                                    : deflate_piece(c, in, len, out, cap, ret_len, e);
}

static int gzip_block(struct codec *c, const uint8_t *in, size_t len, uint8_t *out, size_t cap,
                      size_t *ret_len, struct err *e) {
    size_t used = 0, n, got;
    for (bool noise = true; len; noise = !noise, in += n, len -= n) {
        n = stretch(in, len, noise, c->kind == COMPRESS_FAST ? NOISE_LEAST_FAST : NOISE_LEAST);
        if (n && gzip_piece(c, noise, in, n, out + used, cap - used, &got, e) < 0)
            return -1;
        used += n ? got : 0;
    }
    *ret_len = used;
    return 0;
}

static int zstd_block(struct codec *c, const void *in, size_t len, void *out, size_t cap,
                      size_t *ret_len, struct err *e) {
    size_t n = ZSTD_compress2(c->zc, out, cap, in, len);
    if (ZSTD_isError(n))
        return err_set(e, EX_SOFTWARE, "zstd: %s", ZSTD_getErrorName(n));
    size_t back = ZSTD_decompressDCtx(c->zd, c->scratch, CODEC_BLOCK, out, n);
    if (ZSTD_isError(back) || back != len || memcmp(c->scratch, in, len) != 0)
        return wrong("libzstd", e);
    *ret_len = n;
    return 0;
}

int codec_block(struct codec *c, const void *in, size_t len, void *out, size_t cap, size_t *ret_len,
                struct err *e) {
    switch (c->kind) {
    case COMPRESS_ZSTD:
        return zstd_block(c, in, len, out, cap, ret_len, e);
    case COMPRESS_NONE:
        memcpy(out, in, len);
        *ret_len = len;
        return 0;
    default:
        return gzip_block(c, in, len, out, cap, ret_len, e);
    }
}

size_t codec_begin(enum compression kind, const void *head, size_t head_len, void *out,
                   size_t *ret_patch) {
    uint8_t *p = out;
    if (kind == COMPRESS_DEFAULT || kind == COMPRESS_FAST) {
        memcpy(p, "\x1f\x8b\x08\0\0\0\0\0\0\x03", 10); // no name, no time, made on Unix
        p += 10;
        if (head_len) { // a stored block: RFC 1951, 3.2.4
            *p++ = 0;
            p = put_le(p, head_len, 2);
            p = put_le(p, ~(uint64_t)head_len, 2);
        }
    } else if (kind == COMPRESS_ZSTD && head_len) {
        // A frame of one raw block: single segment, two bytes of content size (less 256).
        memcpy(p, "\x28\xb5\x2f\xfd\x60", 5);
        p = put_le(p + 5, head_len - 256, 2);
        p = put_le(p, (uint64_t)head_len << 3 | 1, 3);
    }
    *ret_patch = p - (uint8_t *)out;
    if (head_len)
        memcpy(p, head, head_len);
    return *ret_patch + head_len;
}

size_t codec_end(enum compression kind, uint32_t crc, uint64_t size, void *out) {
    uint8_t *p = out;
    if (kind != COMPRESS_DEFAULT && kind != COMPRESS_FAST)
        return 0;
    p = put_le(p, 3, 2); // a last block of fixed codes that holds nothing
    p = put_le(p, crc, 4);
    p = put_le(p, size, 4);
    return p - (uint8_t *)out;
}

uint32_t codec_crc(uint32_t crc, const void *data, size_t len) {
    return libdeflate_crc32(crc, data, len);
}

uint32_t codec_crc_join(uint32_t crc_a, uint32_t crc_b, uint64_t len_b) {
    return (uint32_t)crc32_combine(crc_a, crc_b, (z_off_t)len_b);
}

const char *codec_ending(enum compression kind) {
    return kind == COMPRESS_ZSTD ? ".tar.zst" : kind == COMPRESS_NONE ? ".tar" : ".tar.gz";
}
