// Encryption to public keys in the format age-encryption.org/v1: X25519 recipients ("age1…"),
// opened with an identity file ("AGE-SECRET-KEY-1…"). The file `age -d` reads, nothing of ours.
// Specification: https://c2sp.org/age (header, X25519 stanza, payload of 64 KiB chunks).
//
// The first chunk can be held back, because an archive's beginning is patched at its end: a chunk
// is never encrypted twice (the same nonce would give the key stream away).
#ifndef BACKUP_AGE_H
#define BACKUP_AGE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum {
    AGE_CHUNK = 64 * 1024, // plaintext bytes of a chunk
    AGE_TAG = 16,          // what each chunk grows by
    AGE_KEY = 32,
};

// The public key of "age1…". Says what is wrong with any other text (also a secret key).
int age_recipient(const char *text, unsigned char ret[AGE_KEY], struct err *e);

// The public key that belongs to an identity "AGE-SECRET-KEY-1…", as text, into ret (64 bytes).
int age_public(const char *identity, char ret[64], struct err *e);

// Where encrypted bytes go, in order. 0, or -1 with e.
typedef int age_write(void *arg, const void *data, size_t len, struct err *e);

struct age_out;

// Begins a file for the recipients (NULL-terminated list of "age1…" texts) and writes its header.
// hold_first: the first chunk is kept in memory until age_out_end; zeros are written in its place
// (all of AGE_CHUNK + AGE_TAG of them, as soon as there is a second chunk).
int age_out_new(const char *const *recipients, bool hold_first, age_write *write, void *arg,
                struct age_out **ret, struct err *e);

// Encrypts the next bytes.
int age_out_write(struct age_out *a, const void *data, size_t len, struct err *e);

// Replaces plaintext bytes of the held first chunk.
int age_out_patch(struct age_out *a, size_t offset, const void *data, size_t len, struct err *e);

// Writes what is left. With hold_first *ret_first is the encrypted first chunk (a's memory),
// which belongs at *ret_offset of the file; *ret_first_len is 0 if nothing is to be rewritten.
int age_out_end(struct age_out *a, const unsigned char **ret_first, size_t *ret_first_len,
                size_t *ret_offset, struct err *e);

// Forgets the keys. NULL is allowed.
void age_out_free(struct age_out *a);

// Where encrypted bytes come from: up to len of them, 0 at the end, -1 with e.
typedef ssize_t age_read(void *arg, void *buf, size_t len, struct err *e);

struct age_in;

// Whether these first bytes of a file are age's (at least 22 of them).
bool age_is(const void *data, size_t len);

// Reads the header with the identities of a file (lines "AGE-SECRET-KEY-1…", # comments).
// EX_NOPERM: none of them opens it; EX_DATAERR: broken header.
int age_in_new(const char *identity_file, age_read *read, void *arg, struct age_in **ret,
               struct err *e);

// The next plaintext bytes, at most len; 0 at the proven end, -1 with e (EX_DATAERR: changed or
// cut). Nothing is given out before its chunk has been authenticated.
ssize_t age_in_read(struct age_in *a, void *buf, size_t len, struct err *e);

// Forgets the keys. NULL is allowed.
void age_in_free(struct age_in *a);

#endif
