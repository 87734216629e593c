// Compresses blocks that stand for themselves, so that several threads can work on one archive,
// into pieces of one gzip member (RFC 1952) or frames of zstd (RFC 8878). Each block is
// decompressed again and compared before it is handed out.
#ifndef BACKUP_CODEC_H
#define BACKUP_CODEC_H

#include "backup/options.h"
#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

enum {
    CODEC_BLOCK = 512 << 10, // bytes of a block at most
    CODEC_HEAD_MAX = 64,     // bytes that codec_begin adds to the head
    CODEC_TAIL_MAX = 16,
};

struct codec; // what one thread needs

int codec_new(enum compression kind, struct codec **ret, struct err *e);
void codec_free(struct codec *c); // NULL is fine

// Bytes of a block that suit this kind, CODEC_BLOCK at most.
size_t codec_block_bytes(enum compression kind);

// Room that the output of a block of len bytes may need.
size_t codec_bound(enum compression kind, size_t len);

// Compresses in (1 to CODEC_BLOCK bytes) to out. EX_SOFTWARE when the result does not decompress
// to in again: a broken library, or broken memory.
int codec_block(struct codec *c, const void *in, size_t len, void *out, size_t cap, size_t *ret_len,
                struct err *e);

// What an archive begins with. With head_len bytes of head (up to 4096) these are stored as they
// are, at *ret_patch from the beginning, so that they can be rewritten in place. Returns the
// bytes put to out, which has room for CODEC_HEAD_MAX + head_len.
size_t codec_begin(enum compression kind, const void *head, size_t head_len, void *out,
                   size_t *ret_patch);

// What it ends with: crc and size of all that was compressed, the head first.
size_t codec_end(enum compression kind, uint32_t crc, uint64_t size, void *out);

// The CRC-32 of gzip, and that of A followed by B.
uint32_t codec_crc(uint32_t crc, const void *data, size_t len);
uint32_t codec_crc_join(uint32_t crc_a, uint32_t crc_b, uint64_t len_b);

// ".tar.gz", ".tar.zst" or ".tar".
const char *codec_ending(enum compression kind);

#endif
