#include "backup/bech32.h"

#include <ctype.h>
#include <stdint.h>
#include <string.h>

static const char alphabet[] = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";

enum {
    DATA = 52, // five-bit groups that hold 32 bytes
    SUM = 6
};

static uint32_t polymod(uint32_t sum, unsigned value) {
    static const uint32_t generator[] = {0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd,
                                         0x2a1462b3};
    uint32_t top = sum >> 25;
    sum = (sum & 0x1ffffff) << 5 ^ value;
    for (unsigned i = 0; i < 5; i++)
        if (top >> i & 1)
            sum ^= generator[i];
    return sum;
}

// The checksum starts with the prefix, in lower case: high bits, a zero, low bits.
static uint32_t sum_prefix(const char *hrp, size_t len) {
    uint32_t sum = 1;
    for (size_t i = 0; i < len; i++)
        sum = polymod(sum, (unsigned)tolower((unsigned char)hrp[i]) >> 5);
    sum = polymod(sum, 0);
    for (size_t i = 0; i < len; i++)
        sum = polymod(sum, (unsigned)tolower((unsigned char)hrp[i]) & 31);
    return sum;
}

int bech32_decode(const char *text, const char *hrp, unsigned char ret[32]) {
    size_t prefix = strlen(hrp), len = strlen(text);
    int upper = isupper((unsigned char)*hrp) != 0;
    if (len != prefix + 1 + DATA + SUM || strncmp(text, hrp, prefix) != 0 || text[prefix] != '1')
        return -1;
    uint32_t sum = sum_prefix(hrp, prefix), bits = 0;
    unsigned char out[32];
    unsigned have = 0, n = 0;
    for (unsigned i = 0; i < DATA + SUM; i++) {
        int c = (unsigned char)text[prefix + 1 + i];
        if (upper ? islower(c) : isupper(c))
            return -1;
        const char *at = memchr(alphabet, tolower(c), sizeof alphabet - 1);
        if (!at)
            return -1;
        unsigned value = (unsigned)(at - alphabet);
        sum = polymod(sum, value);
        if (i >= DATA)
            continue;
        bits = bits << 5 | value;
        have += 5;
        if (have >= 8 && n < sizeof out)
            out[n++] = (unsigned char)(bits >> (have -= 8));
    }
    if (sum != 1 || n != sizeof out || (bits & ((1U << have) - 1)))
        return -1;
    memcpy(ret, out, sizeof out);
    return 0;
}

void bech32_encode(const char *hrp, const unsigned char data[32], char *ret) {
    size_t prefix = strlen(hrp);
    int upper = isupper((unsigned char)*hrp) != 0;
    uint32_t sum = sum_prefix(hrp, prefix), bits = 0;
    unsigned have = 0;
    char *out = ret + prefix + 1;
    memcpy(ret, hrp, prefix);
    ret[prefix] = '1';
    for (unsigned i = 0, n = 0; n < DATA; n++) {
        if (have < 5) {
            bits = bits << 8 | (i < 32 ? data[i] : 0);
            i++;
            have += 8;
        }
        unsigned value = bits >> (have -= 5) & 31;
        sum = polymod(sum, value);
        *out++ = alphabet[value];
    }
    for (unsigned i = 0; i < SUM; i++)
        sum = polymod(sum, 0);
    sum ^= 1;
    for (unsigned i = 0; i < SUM; i++)
        *out++ = alphabet[sum >> 5 * (SUM - 1 - i) & 31];
    *out = '\0';
    for (char *p = ret; upper && *p; p++)
        *p = (char)toupper((unsigned char)*p);
}
