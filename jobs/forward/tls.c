#include "forward/tls.h"

#include <arpa/inet.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

struct tls {
    SSL *ssl;
    const char *host;
    short events;
};

// Never NULL: the SSL_CTX, under a name that hides the library.
static SSL_CTX *inside(struct tls_context *c) {
    return (SSL_CTX *)c;
}

static const char *reason(void) {
    unsigned long code = ERR_get_error();
    const char *text = code ? ERR_reason_error_string(code) : NULL;
    ERR_clear_error();
    return text ? text : "unknown error";
}

struct tls_context *tls_context_new(const char *ca, struct err *e) {
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    if (!ctx) {
        err_set(e, EX_SOFTWARE, "TLS: %s", reason());
        return NULL;
    }
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    int good =
        ca ? SSL_CTX_load_verify_locations(ctx, ca, NULL) : SSL_CTX_set_default_verify_paths(ctx);
    if (good != 1) {
        err_set(e, EX_CONFIG, "[forward] ca: %s: %s", ca ? ca : "the system's", reason());
        SSL_CTX_free(ctx);
        return NULL;
    }
    return (struct tls_context *)ctx;
}

void tls_context_free(struct tls_context *c) {
    SSL_CTX_free(inside(c));
}

// What the certificate must be valid for, and what the server is told we look for.
static bool expect_host(SSL *ssl, const char *host) {
    unsigned char address[sizeof(struct in6_addr)];
    if (inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
    return SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1;
}

struct tls *tls_new(struct tls_context *c, int fd, const char *host, struct err *e) {
    struct tls *t = calloc(1, sizeof *t);
    SSL *ssl = t ? SSL_new(inside(c)) : NULL;
    if (!ssl || !expect_host(ssl, host) || SSL_set_fd(ssl, fd) != 1) {
        err_set(e, EX_OSERR, "TLS: %s", reason());
        SSL_free(ssl);
        free(t);
        return NULL;
    }
    SSL_set_connect_state(ssl);
    *t = (struct tls){ssl, host, POLLIN};
    return t;
}

// 0: the call is to be repeated when the socket is ready; -1: it failed.
static int not_done(struct tls *t, int rc, const char *what, struct err *e) {
    long verified = SSL_get_verify_result(t->ssl);
    switch (SSL_get_error(t->ssl, rc)) {
    case SSL_ERROR_WANT_READ:
        t->events = POLLIN;
        return 0;
    case SSL_ERROR_WANT_WRITE:
        t->events = POLLOUT;
        return 0;
    case SSL_ERROR_ZERO_RETURN:
        return err_set(e, EX_UNAVAILABLE, "the server closed the connection");
    case SSL_ERROR_SYSCALL:
        if (ERR_peek_error() == 0)
            return err_set(e, EX_UNAVAILABLE, "the connection broke during %s", what);
        break;
    default:
        break;
    }
    if (verified != X509_V_OK)
        return err_set(e, EX_UNAVAILABLE,
                       "TLS: the server's certificate is not accepted for %s: %s", t->host,
                       X509_verify_cert_error_string(verified));
    return err_set(e, EX_UNAVAILABLE, "TLS: %s: %s", what, reason());
}

int tls_handshake(struct tls *t, struct err *e) {
    ERR_clear_error();
    int rc = SSL_do_handshake(t->ssl);
    return rc == 1 ? 1 : not_done(t, rc, "the handshake", e);
}

ssize_t tls_read(struct tls *t, void *data, size_t len, struct err *e) {
    ERR_clear_error();
    int rc = SSL_read(t->ssl, data, (int)len);
    return rc > 0 ? rc : not_done(t, rc, "reading", e);
}

ssize_t tls_write(struct tls *t, const void *data, size_t len, struct err *e) {
    ERR_clear_error();
    int rc = SSL_write(t->ssl, data, (int)len);
    return rc > 0 ? rc : not_done(t, rc, "writing", e);
}

short tls_events(const struct tls *t) {
    return t->events;
}

void tls_free(struct tls *t) {
    if (!t)
        return;
    SSL_shutdown(t->ssl); // says goodbye where that does not block
    ERR_clear_error();
    SSL_free(t->ssl);
    free(t);
}

void tls_sha512(const struct tls_part *parts, size_t n, char ret[TLS_HEX + 1]) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool good = md && EVP_DigestInit_ex(md, EVP_sha512(), NULL) == 1;
    for (size_t i = 0; good && i < n; i++)
        good = EVP_DigestUpdate(md, parts[i].data, parts[i].len) == 1;
    if (!good || EVP_DigestFinal_ex(md, digest, NULL) != 1)
        abort(); // out of memory, or a library without SHA-512
    EVP_MD_CTX_free(md);
    for (int i = 0; i < TLS_HEX / 2; i++)
        snprintf(ret + 2 * (size_t)i, 3, "%02x", digest[i]);
}

bool tls_equal(const void *a, const void *b, size_t len) {
    return CRYPTO_memcmp(a, b, len) == 0;
}
