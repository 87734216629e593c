// What writing and reading age files share: base64, the chunks' nonces, the header's keys.
#ifndef BACKUP_AGESTREAM_H
#define BACKUP_AGESTREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AGE_INTRO "age-encryption.org/v1\n"

enum {
    AGE_FILE_KEY = 16,
    AGE_NONCE = 16,      // of the payload
    AGE_SHARE_TEXT = 43, // 32 bytes in base64 without padding
    AGE_HEADER_MAX = 65536,
};

// Base64 without padding. Encodes len bytes, NUL-terminated; decodes exactly 32 bytes from 43
// characters (-1: something else, or bits set that mean nothing).
void agestream_base64(const unsigned char *data, size_t len, char *ret);
int agestream_unbase64(const char *text, unsigned char ret[32]);

// The nonce of chunk number n: eleven bytes big-endian, then whether it is the last.
void agestream_nonce(uint64_t n, bool last, unsigned char ret[12]);

// The key that wraps the file key for one recipient, from the shared secret.
int agestream_wrap_key(const unsigned char shared[32], const unsigned char share[32],
                       const unsigned char recipient[32], unsigned char ret[32]);

// The header's MAC over its text up to and with "---".
int agestream_mac(const unsigned char file_key[AGE_FILE_KEY], const char *header, size_t len,
                  unsigned char ret[32]);

#endif
