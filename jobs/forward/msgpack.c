#include "forward/msgpack.h"

#include <string.h>

void mp_put16(char *at, uint16_t value) {
    at[0] = (char)(value >> 8);
    at[1] = (char)value;
}

void mp_put32(char *at, uint32_t value) {
    mp_put16(at, (uint16_t)(value >> 16));
    mp_put16(at + 2, (uint16_t)value);
}

static void byte(struct buf *b, unsigned value) {
    char c = (char)value;
    buf_add(b, &c, 1);
}

static void head16(struct buf *b, unsigned type, uint16_t value) {
    char bytes[3] = {(char)type};
    mp_put16(bytes + 1, value);
    buf_add(b, bytes, sizeof bytes);
}

static void head32(struct buf *b, unsigned type, uint32_t value) {
    char bytes[5] = {(char)type};
    mp_put32(bytes + 1, value);
    buf_add(b, bytes, sizeof bytes);
}

static void put64(struct buf *b, unsigned type, uint64_t value) {
    char bytes[9] = {(char)type};
    mp_put32(bytes + 1, (uint32_t)(value >> 32));
    mp_put32(bytes + 5, (uint32_t)value);
    buf_add(b, bytes, sizeof bytes);
}

void mp_array(struct buf *b, uint32_t n) {
    if (n < 16)
        byte(b, 0x90 | n);
    else
        head32(b, 0xdd, n);
}

void mp_map(struct buf *b, uint32_t n) {
    if (n < 16)
        byte(b, 0x80 | n);
    else
        head32(b, 0xdf, n);
}

void mp_nil(struct buf *b) {
    byte(b, 0xc0);
}

void mp_bool(struct buf *b, bool value) {
    byte(b, value ? 0xc3 : 0xc2);
}

void mp_int(struct buf *b, int64_t value) {
    if (value >= -32 && value < 128)
        byte(b, (uint8_t)value);
    else if (value >= 0 && value <= UINT32_MAX)
        head32(b, 0xce, (uint32_t)value);
    else
        put64(b, 0xd3, (uint64_t)value);
}

void mp_double(struct buf *b, double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    put64(b, 0xcb, bits);
}

size_t mp_text_begin(struct buf *b, size_t most) {
    if (most < 32)
        byte(b, 0xa0);
    else if (most <= UINT16_MAX)
        head16(b, 0xda, 0);
    else
        head32(b, 0xdb, 0);
    return b->len;
}

void mp_text_end(struct buf *b, size_t begin, size_t most) {
    size_t len = b->len - begin;
    if (b->failed)
        return;
    if (most < 32)
        b->data[begin - 1] = (char)(0xa0 | len);
    else if (most <= UINT16_MAX)
        mp_put16(b->data + begin - 2, (uint16_t)len);
    else
        mp_put32(b->data + begin - 4, (uint32_t)len);
}

void mp_text(struct buf *b, const char *text, size_t len) {
    size_t begin = mp_text_begin(b, len);
    buf_add(b, text, len);
    mp_text_end(b, begin, len);
}

void mp_time(struct buf *b, uint32_t seconds, uint32_t nanoseconds) {
    char bytes[10] = {(char)0xd7, 0}; // ext of 8 bytes, type 0
    mp_put32(bytes + 2, seconds);
    mp_put32(bytes + 6, nanoseconds);
    buf_add(b, bytes, sizeof bytes);
}

// Reads n bytes as a big-endian number.
static int number(struct mp_reader *r, unsigned n, uint32_t *ret) {
    if ((size_t)(r->end - r->p) < n)
        return -1;
    uint32_t value = 0;
    for (unsigned i = 0; i < n; i++)
        value = value << 8 | (uint8_t)*r->p++;
    *ret = value;
    return 0;
}

// What follows the bytes 0xc0 to 0xdf: a length of `len` bytes, then that many bytes plus `fixed`.
static const struct {
    uint8_t type, len, fixed;
} kinds[32] = {
    [0x00] = {MP_NIL, 0, 0},    [0x01] = {MP_OTHER, 0, 0}, [0x02] = {MP_BOOL, 0, 0},
    [0x03] = {MP_BOOL, 0, 0},   [0x04] = {MP_TEXT, 1, 0},  [0x05] = {MP_TEXT, 2, 0},
    [0x06] = {MP_TEXT, 4, 0},   [0x07] = {MP_OTHER, 1, 1}, [0x08] = {MP_OTHER, 2, 1},
    [0x09] = {MP_OTHER, 4, 1},  [0x0a] = {MP_OTHER, 0, 4}, [0x0b] = {MP_OTHER, 0, 8},
    [0x0c] = {MP_INT, 0, 1},    [0x0d] = {MP_INT, 0, 2},   [0x0e] = {MP_INT, 0, 4},
    [0x0f] = {MP_INT, 0, 8},    [0x10] = {MP_INT, 0, 1},   [0x11] = {MP_INT, 0, 2},
    [0x12] = {MP_INT, 0, 4},    [0x13] = {MP_INT, 0, 8},   [0x14] = {MP_OTHER, 0, 2},
    [0x15] = {MP_OTHER, 0, 3},  [0x16] = {MP_OTHER, 0, 5}, [0x17] = {MP_OTHER, 0, 9},
    [0x18] = {MP_OTHER, 0, 17}, [0x19] = {MP_TEXT, 1, 0},  [0x1a] = {MP_TEXT, 2, 0},
    [0x1b] = {MP_TEXT, 4, 0},   [0x1c] = {MP_ARRAY, 2, 0}, [0x1d] = {MP_ARRAY, 4, 0},
    [0x1e] = {MP_MAP, 2, 0},    [0x1f] = {MP_MAP, 4, 0},
};

static int long_form(struct mp_reader *r, unsigned first, struct mp_item *item) {
    uint32_t n = 0;
    item->type = kinds[first & 0x1f].type;
    item->yes = first == 0xc3;
    if (number(r, kinds[first & 0x1f].len, &n) < 0)
        return -1;
    item->n = n;
    return 0;
}

int mp_next(struct mp_reader *r, struct mp_item *ret) {
    if (r->p >= r->end)
        return -1;
    unsigned first = (uint8_t)*r->p++;
    struct mp_item item = {.type = MP_INT};
    uint64_t bytes = 0;
    if ((first & 0xe0) == 0xa0)
        item = (struct mp_item){.type = MP_TEXT, .n = first & 0x1f};
    else if ((first & 0xf0) == 0x90)
        item = (struct mp_item){.type = MP_ARRAY, .n = first & 0x0f};
    else if ((first & 0xf0) == 0x80)
        item = (struct mp_item){.type = MP_MAP, .n = first & 0x0f};
    else if ((first & 0xe0) == 0xc0) {
        if (long_form(r, first, &item) < 0)
            return -1;
        bytes = kinds[first & 0x1f].fixed;
    }
    if (item.type == MP_TEXT || item.type == MP_OTHER)
        bytes += item.n;
    if ((uint64_t)(r->end - r->p) < bytes)
        return -1;
    item.text = r->p;
    r->p += bytes;
    *ret = item;
    return 0;
}

int mp_skip(struct mp_reader *r) {
    struct mp_item item;
    for (uint64_t left = 1; left; left--) {
        if (mp_next(r, &item) < 0)
            return -1;
        if (item.type == MP_ARRAY)
            left += item.n;
        else if (item.type == MP_MAP)
            left += 2ULL * item.n;
    }
    return 0;
}

bool mp_is(const struct mp_item *item, const char *word) {
    return item->type == MP_TEXT && item->n == strlen(word) &&
           memcmp(item->text, word, item->n) == 0;
}
