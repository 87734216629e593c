// MessagePack as the forward protocol needs it
// (https://github.com/msgpack/msgpack/blob/master/spec.md).
#ifndef FORWARD_MSGPACK_H
#define FORWARD_MSGPACK_H

#include "base/text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void mp_array(struct buf *b, uint32_t n);
void mp_map(struct buf *b, uint32_t n);
void mp_nil(struct buf *b);
void mp_bool(struct buf *b, bool value);
void mp_int(struct buf *b, int64_t value);
void mp_double(struct buf *b, double value);
void mp_text(struct buf *b, const char *text, size_t len);
// A text of at most `most` bytes whose length is known later: returns where it begins in b;
// mp_text_end writes the length of what was added since.
size_t mp_text_begin(struct buf *b, size_t most);
void mp_text_end(struct buf *b, size_t begin, size_t most);
// Fluentd's EventTime: seconds since the epoch and nanoseconds, always 10 bytes.
void mp_time(struct buf *b, uint32_t seconds, uint32_t nanoseconds);
// Integers as they lie in a message, for lengths that are filled in later.
void mp_put16(char *at, uint16_t value);
void mp_put32(char *at, uint32_t value);

enum mp_type {
    MP_NIL,
    MP_BOOL,
    MP_INT,
    MP_TEXT, // str and bin
    MP_ARRAY,
    MP_MAP,
    MP_OTHER, // float, ext
};

struct mp_item {
    enum mp_type type;
    bool yes;         // MP_BOOL
    uint32_t n;       // bytes of MP_TEXT, elements of MP_ARRAY, pairs of MP_MAP
    const char *text; // MP_TEXT, in the message
};

// Bytes that are being read; p moves on.
struct mp_reader {
    const char *p, *end;
};

// The next item (of an array or a map: only its head). -1: none, or cut short.
int mp_next(struct mp_reader *r, struct mp_item *ret);

// Passes over the next item with all that is in it. -1 as above.
int mp_skip(struct mp_reader *r);

// Whether a text is this word.
bool mp_is(const struct mp_item *item, const char *word);

#endif
