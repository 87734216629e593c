// TLS over a connected socket, and the hashes of the login: the one place that knows OpenSSL.
#ifndef FORWARD_TLS_H
#define FORWARD_TLS_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct tls_context; // the authorities that servers are verified against
struct tls;         // one connection

// ca: a file of certificates, NULL: the system's. NULL with e.
struct tls_context *tls_context_new(const char *ca, struct err *e);
void tls_context_free(struct tls_context *c);

// A client on a non-blocking socket (the caller's, and closed by it). The server's certificate must
// be valid for host, a name or an address. NULL with e.
struct tls *tls_new(struct tls_context *c, int fd, const char *host, struct err *e);

// 1: done; 0: wait for what tls_events says; -1 with e.
int tls_handshake(struct tls *t, struct err *e);

// As read(2) and write(2): > 0 bytes; 0: wait; -1 with e, also when the server closes.
ssize_t tls_read(struct tls *t, void *data, size_t len, struct err *e);
ssize_t tls_write(struct tls *t, const void *data, size_t len, struct err *e);

// POLLIN or POLLOUT: what the last call that returned 0 waits for.
short tls_events(const struct tls *t);

void tls_free(struct tls *t);

struct tls_part {
    const void *data;
    size_t len;
};
enum {
    TLS_HEX = 128
};
// The SHA-512 of the parts one after the other, as lower-case hex digits.
void tls_sha512(const struct tls_part *parts, size_t n, char ret[TLS_HEX + 1]);

// Compares without telling by its time where they differ.
bool tls_equal(const void *a, const void *b, size_t len);

#endif
