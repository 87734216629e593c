// Bech32 (BIP 173), as age writes its keys: 32 bytes with a prefix and a checksum.
#ifndef BACKUP_BECH32_H
#define BACKUP_BECH32_H

#include <stddef.h>

// Decodes 32 bytes from text, whose prefix (before the last '1') must be hrp, in one case
// throughout. 0, or -1: something else, a typing error.
int bech32_decode(const char *text, const char *hrp, unsigned char ret[32]);

// Encodes 32 bytes into ret (at least strlen(hrp) + 60 bytes).
void bech32_encode(const char *hrp, const unsigned char data[32], char *ret);

#endif
