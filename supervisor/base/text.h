// Small texts: the units of the configuration, suggestions for misspelt words, a growing buffer.
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// "250ms", "10s", "5m", "2h", "1d", "1h30m" → milliseconds; "0" is allowed, any other bare number
// is not (the unit is part of the value).
int text_duration(const char *text, int64_t *ret_ms, struct err *e);

// "512", "64KiB", "512MiB", "2GiB", "1TiB" (also K, M, G, T and KB, MB, GB = 1000s) → bytes.
int text_size(const char *text, int64_t *ret_bytes, struct err *e);

// yes|no|true|false|on|off|1|0.
int text_bool(const char *text, bool *ret, struct err *e);

// A decimal integer between min and max.
int text_int(const char *text, int64_t min, int64_t max, int64_t *ret, struct err *e);

// Milliseconds as a person writes them ("1h30m", "2.5s", "40ms"), into buf; returns buf.
const char *text_ms(int64_t ms, char *buf, size_t size);

// Bytes as a person writes them ("1.4 GB", decimal units), into buf; returns buf.
const char *text_bytes(int64_t bytes, char *buf, size_t size);

// The word of the NULL-terminated list nearest to `word`, or NULL if none is near (Levenshtein
// distance of at most a third of its length, at least 1).
const char *text_nearest(const char *word, const char *const *list);

// Splits a command into words as a shell would for quotes and backslashes only (no expansion).
// *ret_argv is NULL-terminated, one allocation, the caller's to free. An unclosed quote fails.
int text_words(const char *text, char ***ret_argv, struct err *e);

// A growing, always NUL-terminated buffer. `struct buf b = {0}`; buf_free ends it. Out of memory
// sets .failed and later calls do nothing, so that only the end needs a check.
struct buf {
    char *data; // NULL while empty
    size_t len, cap;
    bool failed;
};
void buf_add(struct buf *b, const void *data, size_t len);
void buf_str(struct buf *b, const char *text);
__attribute__((format(printf, 2, 3))) void buf_printf(struct buf *b, const char *fmt, ...);
// A JSON string with its quotes; bytes that are not UTF-8 become U+FFFD.
void buf_json(struct buf *b, const char *text);
void buf_free(struct buf *b);
#define autobuf __attribute__((cleanup(buf_free)))

#endif
