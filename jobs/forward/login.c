#include "forward/login.h"

#include "base/file.h"
#include "forward/tls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sysexits.h>

// A secret of a file, until wipe().
static char *secret(const char *path, struct err *e) {
    char *text = NULL;
    return file_secret(path, &text, e) < 0 ? NULL : text;
}

static void wipe(char *text) {
    if (text)
        explicit_bzero(text, strlen(text));
    free(text);
}

#define PART(text)                                                                                 \
    { (text), strlen(text) }

// sha512(salt + host name of who says it + nonce + shared key)
static int key_digest(const struct login *l, const struct settings *s, const char *host,
                      size_t host_len, char *ret, struct err *e) {
    char *key = secret(s->shared_key_file, e);
    if (!key)
        return err_wrap(e, "[forward] shared_key_file");
    struct tls_part parts[] = {
        PART(l->salt), {host, host_len}, {l->nonce, l->nonce_len}, PART(key)};
    tls_sha512(parts, 4, ret);
    wipe(key);
    return 0;
}

// sha512(the server's salt + user + password), for servers that ask for it.
static int password_digest(const struct settings *s, const struct mp_item *salt, char *ret,
                           struct err *e) {
    char *password = secret(s->password_file, e);
    if (!password)
        return err_wrap(e, "[forward] password_file");
    struct tls_part parts[] = {{salt->text, salt->n}, PART(s->user), PART(password)};
    tls_sha512(parts, 3, ret);
    wipe(password);
    return 0;
}

static int read_options(struct login *l, struct mp_reader *r, struct mp_item *auth) {
    struct mp_item map, key, value;
    l->nonce_len = 0;
    *auth = (struct mp_item){.type = MP_TEXT};
    if (mp_next(r, &map) < 0 || map.type != MP_MAP)
        return -1;
    for (uint32_t i = 0; i < map.n; i++) {
        struct mp_reader at;
        if (mp_next(r, &key) < 0)
            return -1;
        at = *r;
        if (mp_skip(r) < 0 || mp_next(&at, &value) < 0)
            return -1;
        if (mp_is(&key, "nonce") && value.type == MP_TEXT && value.n <= sizeof l->nonce) {
            memcpy(l->nonce, value.text, value.n);
            l->nonce_len = value.n;
        }
        if (mp_is(&key, "auth") && value.type == MP_TEXT)
            *auth = value;
    }
    return l->nonce_len ? 0 : -1;
}

static void new_salt(struct login *l) {
    unsigned char bytes[16];
    if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes)
        abort(); // cannot fail for so few bytes, getrandom(2)
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(l->salt + 2 * i, 3, "%02x", bytes[i]);
}

int login_helo(struct login *l, const struct settings *s, struct mp_reader *r, struct buf *out,
               struct err *e) {
    char key[TLS_HEX + 1], password[TLS_HEX + 1] = "";
    const char *user = "";
    struct mp_item auth;
    if (read_options(l, r, &auth) < 0)
        return err_set(e, EX_PROTOCOL, "the server's greeting makes no sense");
    if (!s->shared_key_file)
        return err_set(e, EX_CONFIG,
                       "the server wants a shared key: [forward] shared_key_file is not set");
    new_salt(l);
    if (key_digest(l, s, s->host, strlen(s->host), key, e) < 0)
        return -1;
    // Fluentd and Fluent Bit send this salt also when they want no user.
    l->salted = auth.n > 0;
    if (l->salted && s->user) {
        user = s->user;
        if (password_digest(s, &auth, password, e) < 0)
            return -1;
    }
    mp_array(out, 6);
    mp_text(out, "PING", 4);
    mp_text(out, s->host, strlen(s->host));
    mp_text(out, l->salt, strlen(l->salt));
    mp_text(out, key, strlen(key));
    mp_text(out, user, strlen(user));
    mp_text(out, password, strlen(password));
    return out->failed ? err_set(e, EX_OSERR, "out of memory") : 0;
}

int login_pong(struct login *l, const struct settings *s, struct mp_reader *r, struct err *e) {
    char want[TLS_HEX + 1];
    struct mp_item good, reason, host, digest;
    if (mp_next(r, &good) < 0 || mp_next(r, &reason) < 0 || mp_next(r, &host) < 0 ||
        mp_next(r, &digest) < 0 || good.type != MP_BOOL || reason.type != MP_TEXT ||
        host.type != MP_TEXT || digest.type != MP_TEXT)
        return err_set(e, EX_PROTOCOL, "the server's answer to the login makes no sense");
    if (!good.yes)
        return err_set(e, EX_NOPERM, "the server refuses the login: %.*s%s",
                       (int)(reason.n < 200 ? reason.n : 200), reason.text,
                       l->salted && !s->user && !memmem(reason.text, reason.n, "key", 3)
                           ? ": [forward] user is not set"
                           : "");
    if (key_digest(l, s, host.text, host.n, want, e) < 0)
        return -1;
    if (digest.n != TLS_HEX || !tls_equal(digest.text, want, TLS_HEX))
        return err_set(e, EX_NOPERM,
                       "the server does not know the shared key: it may be somebody else's");
    return 0;
}
