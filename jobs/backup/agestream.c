#include "backup/agestream.h"

#include "backup/agecrypt.h"

#include <string.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void agestream_base64(const unsigned char *data, size_t len, char *ret) {
    uint32_t bits = 0;
    unsigned have = 0;
    for (size_t i = 0; i < len; i++) {
        bits = bits << 8 | data[i];
        have += 8;
        while (have >= 6)
            *ret++ = digits[bits >> (have -= 6) & 63];
    }
    if (have)
        *ret++ = digits[bits << (6 - have) & 63];
    *ret = '\0';
}

int agestream_unbase64(const char *text, unsigned char ret[32]) {
    uint32_t bits = 0;
    unsigned have = 0, n = 0;
    unsigned char out[32];
    for (unsigned i = 0; i < AGE_SHARE_TEXT; i++) {
        const char *at = text[i] ? strchr(digits, text[i]) : NULL;
        if (!at)
            return -1;
        bits = bits << 6 | (uint32_t)(at - digits);
        have += 6;
        if (have >= 8)
            out[n++] = (unsigned char)(bits >> (have -= 8));
    }
    if (bits & ((1U << have) - 1))
        return -1;
    memcpy(ret, out, sizeof out);
    return 0;
}

void agestream_nonce(uint64_t n, bool last, unsigned char ret[12]) {
    memset(ret, 0, 12);
    for (int i = 10; i > 2; i--, n >>= 8)
        ret[i] = (unsigned char)n;
    ret[11] = last;
}

int agestream_wrap_key(const unsigned char shared[32], const unsigned char share[32],
                       const unsigned char recipient[32], unsigned char ret[32]) {
    unsigned char salt[64];
    memcpy(salt, share, 32);
    memcpy(salt + 32, recipient, 32);
    return agecrypt_hkdf(shared, 32, salt, sizeof salt, "age-encryption.org/v1/X25519", ret);
}

int agestream_mac(const unsigned char file_key[AGE_FILE_KEY], const char *header, size_t len,
                  unsigned char ret[32]) {
    unsigned char key[32];
    int rc = agecrypt_hkdf(file_key, AGE_FILE_KEY, NULL, 0, "header", key) < 0 ||
                     agecrypt_hmac(key, header, len, ret) < 0
                 ? -1
                 : 0;
    agecrypt_wipe(key, sizeof key);
    return rc;
}
