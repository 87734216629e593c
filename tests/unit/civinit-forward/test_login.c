// The login as Fluentd 1.18 and Fluent Bit 5.1 want it: both send a salt for a password also when
// they ask for no user.
#include "forward/login.h"
#include "forward/tls.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char key_path[] = "/tmp/test_login.XXXXXX";

static void begin(void) {
    int fd = mkstemp(key_path);
    cr_assert(fd >= 0 && write(fd, "secret\n", 7) == 7 && close(fd) == 0);
}

static void end(void) {
    unlink(key_path);
}

TestSuite(login, .init = begin, .fini = end);

// What a server sends after the word HELO.
static struct buf options(const char *auth) {
    struct buf b = {0};
    mp_map(&b, 3);
    mp_text(&b, "nonce", 5);
    mp_text(&b, "NONCE", 5);
    mp_text(&b, "auth", 4);
    mp_text(&b, auth, strlen(auth));
    mp_text(&b, "keepalive", 9);
    mp_bool(&b, true);
    return b;
}

// What follows the word PONG.
static struct buf answer(bool good, const char *reason, const char *digest) {
    struct buf b = {0};
    mp_bool(&b, good);
    mp_text(&b, reason, strlen(reason));
    mp_text(&b, good ? "collector" : "", good ? 9 : 0);
    mp_text(&b, digest, strlen(digest));
    return b;
}

static struct mp_reader reading(const struct buf *b) {
    return (struct mp_reader){b->data, b->data + b->len};
}

static void expect_text(struct mp_reader *r, const char *want) {
    struct mp_item item;
    cr_assert(mp_next(r, &item) == 0 && item.type == MP_TEXT);
    cr_expect(item.n == strlen(want) && memcmp(item.text, want, item.n) == 0, "%.*s, not %s",
              (int)item.n, item.text, want);
}

static void digest(const char *const *parts, char *ret) {
    struct tls_part p[4];
    size_t n = 0;
    for (; parts[n]; n++)
        p[n] = (struct tls_part){parts[n], strlen(parts[n])};
    tls_sha512(p, n, ret);
}

// The PING that answers a greeting with this salt.
static void ping(const char *auth, const struct settings *s, const char *user,
                 const char *password_digest) {
    struct login l = {0};
    struct buf in = options(auth), out = {0};
    struct mp_reader r = reading(&in);
    struct mp_item head;
    struct err e;
    char want[TLS_HEX + 1];
    cr_assert(login_helo(&l, s, &r, &out, &e) == 0, "%s", e.text);
    r = reading(&out);
    cr_assert(mp_next(&r, &head) == 0 && head.type == MP_ARRAY && head.n == 6);
    digest((const char *const[]){l.salt, "pod", "NONCE", "secret", NULL}, want);
    expect_text(&r, "PING");
    expect_text(&r, "pod");
    expect_text(&r, l.salt);
    expect_text(&r, want);
    expect_text(&r, user);
    expect_text(&r, password_digest);
    cr_expect(r.p == r.end);
    buf_free(&in);
    buf_free(&out);
}

Test(login, a_user_is_named_where_there_is_one) {
    struct settings s = {.shared_key_file = key_path, .host = "pod"};
    char want[TLS_HEX + 1];
    ping("", &s, "", "");
    ping("SALT", &s, "", ""); // only the key is compared, or the login is refused
    s.user = "me";
    s.password_file = key_path;
    ping("", &s, "", "");
    digest((const char *const[]){"SALT", "me", "secret", NULL}, want);
    ping("SALT", &s, "me", want);
}

Test(login, the_answer_says_why_not) {
    struct settings s = {.shared_key_file = key_path, .host = "pod"};
    struct login l = {.salt = "S", .nonce = "N", .nonce_len = 1, .salted = true};
    char good[TLS_HEX + 1];
    digest((const char *const[]){"S", "collector", "N", "secret", NULL}, good);
    const struct {
        bool good;
        const char *reason, *digest, *user, *message;
    } rows[] = {
        {true, "", good, NULL, NULL},
        {true, "", "", NULL, "the server does not know the shared key"},
        {false, "shared_key mismatch", "", NULL, "refuses the login: shared_key mismatch"},
        {false, "username/password mismatch", "", "me",
         "refuses the login: username/password mismatch"},
        {false, "username/password mismatch", "", NULL,
         "username/password mismatch: [forward] user is not set"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buf in = answer(rows[i].good, rows[i].reason, rows[i].digest);
        struct mp_reader r = reading(&in);
        struct err e = {0};
        s.user = rows[i].user;
        int rc = login_pong(&l, &s, &r, &e);
        cr_expect(rc == (rows[i].message ? -1 : 0), "row %zu", i);
        if (rows[i].message)
            cr_expect(strstr(e.text, rows[i].message), "row %zu: %s", i, e.text);
        buf_free(&in);
    }
}
