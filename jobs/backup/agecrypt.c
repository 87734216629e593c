#include "backup/agecrypt.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

int agecrypt_random(unsigned char *ret, size_t len) {
    return RAND_bytes(ret, (int)len) == 1 ? 0 : -1;
}

void agecrypt_wipe(void *p, size_t len) {
    OPENSSL_cleanse(p, len);
}

int agecrypt_x25519_public(const unsigned char secret[32], unsigned char ret[32]) {
    size_t len = 32;
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, secret, 32);
    int ok = key && EVP_PKEY_get_raw_public_key(key, ret, &len) == 1 && len == 32;
    EVP_PKEY_free(key);
    return ok ? 0 : -1;
}

int agecrypt_x25519(const unsigned char secret[32], const unsigned char public[32],
                    unsigned char ret[32]) {
    size_t len = 32;
    EVP_PKEY *mine = EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, secret, 32);
    EVP_PKEY *other = EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, NULL, public, 32);
    EVP_PKEY_CTX *c = mine ? EVP_PKEY_CTX_new(mine, NULL) : NULL;
    // OpenSSL refuses the all-zero result of a public key of low order, as age must.
    int ok = c && other && EVP_PKEY_derive_init(c) == 1 &&
             EVP_PKEY_derive_set_peer(c, other) == 1 && EVP_PKEY_derive(c, ret, &len) == 1 &&
             len == 32;
    EVP_PKEY_CTX_free(c);
    EVP_PKEY_free(other);
    EVP_PKEY_free(mine);
    return ok ? 0 : -1;
}

int agecrypt_hkdf(const unsigned char *key, size_t key_len, const unsigned char *salt,
                  size_t salt_len, const char *info, unsigned char ret[32]) {
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *c = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
    OSSL_PARAM params[5], *p = params;
    *p++ = OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)"SHA256", 0);
    *p++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)key, key_len);
    *p++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)info, strlen(info));
    if (salt_len)
        *p++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)salt, salt_len);
    *p = OSSL_PARAM_construct_end();
    int ok = c && EVP_KDF_derive(c, ret, 32, params) == 1;
    EVP_KDF_CTX_free(c);
    EVP_KDF_free(kdf);
    return ok ? 0 : -1;
}

int agecrypt_hmac(const unsigned char key[32], const void *data, size_t len,
                  unsigned char ret[32]) {
    unsigned n = 32;
    return HMAC(EVP_sha256(), key, 32, data, len, ret, &n) && n == 32 ? 0 : -1;
}

struct agecrypt {
    EVP_CIPHER_CTX *seal, *open;
};

struct agecrypt *agecrypt_new(const unsigned char key[32]) {
    struct agecrypt *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->seal = EVP_CIPHER_CTX_new();
    c->open = EVP_CIPHER_CTX_new();
    const EVP_CIPHER *cipher = EVP_chacha20_poly1305();
    if (c->seal && c->open && EVP_EncryptInit_ex(c->seal, cipher, NULL, key, NULL) == 1 &&
        EVP_DecryptInit_ex(c->open, cipher, NULL, key, NULL) == 1)
        return c;
    agecrypt_free(c);
    return NULL;
}

void agecrypt_free(struct agecrypt *c) {
    if (!c)
        return;
    EVP_CIPHER_CTX_free(c->seal); // wipes the key
    EVP_CIPHER_CTX_free(c->open);
    free(c);
}

int agecrypt_seal(struct agecrypt *c, const unsigned char nonce[12], const unsigned char *in,
                  size_t len, unsigned char *out) {
    int n = 0, end = 0;
    unsigned char none[1];
    int ok = EVP_EncryptInit_ex(c->seal, NULL, NULL, NULL, nonce) == 1 &&
             (!len || EVP_EncryptUpdate(c->seal, out, &n, in, (int)len) == 1) &&
             EVP_EncryptFinal_ex(c->seal, none, &end) == 1 && (size_t)n + (size_t)end == len &&
             EVP_CIPHER_CTX_ctrl(c->seal, EVP_CTRL_AEAD_GET_TAG, 16, out + len) == 1;
    return ok ? 0 : -1;
}

int agecrypt_open(struct agecrypt *c, const unsigned char nonce[12], const unsigned char *in,
                  size_t len, unsigned char *out) {
    int n = 0, end = 0;
    unsigned char none[1];
    if (len < 16)
        return -1;
    len -= 16;
    int ok = EVP_DecryptInit_ex(c->open, NULL, NULL, NULL, nonce) == 1 &&
             (!len || EVP_DecryptUpdate(c->open, out, &n, in, (int)len) == 1) &&
             EVP_CIPHER_CTX_ctrl(c->open, EVP_CTRL_AEAD_SET_TAG, 16, (void *)(in + len)) == 1 &&
             EVP_DecryptFinal_ex(c->open, none, &end) == 1;
    return ok ? 0 : -1;
}
