// Text as the inside of a JSON string.
#ifndef LOG_ESCAPE_H
#define LOG_ESCAPE_H

#include <stddef.h>

enum {
    ESCAPE_WORST = 6 // output bytes for one input byte at most
};

// Writes the n bytes of in, escaped, to out (room for ESCAPE_WORST * n bytes) and returns the end
// of what was written. What is not UTF-8 (RFC 3629) becomes U+FFFD, one for each wrong byte.
char *escape_json(char *out, const char *in, size_t n);

// The length of the UTF-8 character at p (n >= 1 bytes are there), 0 when it is none.
size_t escape_utf8(const char *p, size_t n);

#endif
