// The cryptography of age's format by OpenSSL: the only place of it that includes <openssl/…>.
// All functions: 0, or -1 without more (a key that does not fit, changed data, no memory).
#ifndef BACKUP_AGECRYPT_H
#define BACKUP_AGECRYPT_H

#include <stddef.h>
#include <stdint.h>

int agecrypt_random(unsigned char *ret, size_t len);

// The public key of an X25519 secret.
int agecrypt_x25519_public(const unsigned char secret[32], unsigned char ret[32]);

// The secret shared between a secret and another's public key; a public key of low order fails.
int agecrypt_x25519(const unsigned char secret[32], const unsigned char public[32],
                    unsigned char ret[32]);

// HKDF-SHA-256 → 32 bytes. info is text.
int agecrypt_hkdf(const unsigned char *key, size_t key_len, const unsigned char *salt,
                  size_t salt_len, const char *info, unsigned char ret[32]);

int agecrypt_hmac(const unsigned char key[32], const void *data, size_t len, unsigned char ret[32]);

// ChaCha20-Poly1305 without additional data. A stream keeps its key and is used chunk by chunk.
struct agecrypt;
struct agecrypt *agecrypt_new(const unsigned char key[32]);
// len bytes of in → len + 16 of out.
int agecrypt_seal(struct agecrypt *c, const unsigned char nonce[12], const unsigned char *in,
                  size_t len, unsigned char *out);
// len bytes of in (with the tag) → len - 16 of out; -1: not what was sealed.
int agecrypt_open(struct agecrypt *c, const unsigned char nonce[12], const unsigned char *in,
                  size_t len, unsigned char *out);
void agecrypt_free(struct agecrypt *c);

// Overwrites a secret, also where the compiler would leave it out.
void agecrypt_wipe(void *p, size_t len);

#endif
