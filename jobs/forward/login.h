// The forward protocol's handshake: HELO from the server, PING to it, PONG from it.
// https://github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1
#ifndef FORWARD_LOGIN_H
#define FORWARD_LOGIN_H

#include "base/err.h"
#include "base/text.h"
#include "forward/msgpack.h"
#include "forward/settings.h"

#include <stdbool.h>

// Between the two messages of the server.
struct login {
    char salt[33], nonce[256];
    size_t nonce_len;
    bool salted; // the server may compare a user, too
};

// A HELO (r is behind the word): adds the PING to out. -1 with e.
int login_helo(struct login *l, const struct settings *s, struct mp_reader *r, struct buf *out,
               struct err *e);

// A PONG (r is behind the word): whether we are let in, and the server knows the key as well.
int login_pong(struct login *l, const struct settings *s, struct mp_reader *r, struct err *e);

#endif
