// Transfers for the remote stores: the only include of <curl/curl.h> in this program. Uploads are
// pushed and downloads pulled, in pieces of any size, on the caller's thread; memory is a constant.
//
// Certificates and host keys are always verified, redirects are not followed, and no message
// holds a password, a query or a signature.
#ifndef BACKUP_WIRE_H
#define BACKUP_WIRE_H

#include "base/err.h"
#include "base/text.h"
#include "conf/conf.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct wire;

// How to log in; all texts are copied. What is not needed is NULL.
struct wire_login {
    const char *user, *password;       // HTTP basic, SFTP, or the two keys of S3
    const char *sigv4;                 // "aws:amz:REGION:s3": sign with them instead
    const char *ssh_key, *known_hosts; // files; sftp refuses hosts that are not in the latter
    const char *ca;                    // PEM file; NULL: the system's
};

int wire_new(const struct wire_login *login, struct wire **ret, struct err *e);
void wire_free(struct wire *w); // NULL is allowed; ends what is running

// A request; url is complete, without user and password. For http(s): method, headers
// ("Name: value", NULL-terminated or NULL) and body. For sftp: commands ("rm \"/x\"", …), and
// `names` to list a folder's lines (its url ends in '/').
struct wire_request {
    const char *method; // NULL: GET
    const char *url;
    const char *const *headers;
    const void *body;
    size_t body_len;
    const char *const *commands;
    const atomic_bool *stop; // unless NULL: once it is true, the transfer ends with EX_TEMPFAIL
    uint64_t offset; // of a download; of an upload only with sftp: where writing begins, not 0
};

struct wire_answer {
    long status;     // of HTTP; 0 for sftp
    struct buf body; // at most 16 MiB
    char etag[256];  // with its quotes; "" if there was none
};

// Does it all at once. -1: there was no answer (EX_UNAVAILABLE, EX_NOPERM for logins and host
// keys, EX_NOINPUT for a missing file of sftp). An HTTP status is an answer.
int wire_do(struct wire *w, const struct wire_request *q, struct wire_answer *ret, struct err *e);
// As wire_do; network errors and answers 429 and 5xx are tried again, `tries` times in all, after
// 0.2, 0.4, 0.8 … seconds.
int wire_retry(struct wire *w, const struct wire_request *q, int tries, struct wire_answer *ret,
               struct err *e);
void wire_answer_free(struct wire_answer *a);
#define autowire __attribute__((cleanup(wire_answer_free)))

// An upload of unknown length: begin, push…, end. Until end nothing may be said about success.
// One transfer at a time in each wire.
int wire_put(struct wire *w, const struct wire_request *q, struct err *e);
int wire_push(struct wire *w, const void *data, size_t len, struct err *e);
// *ret_status is HTTP's; 0 with sftp.
int wire_put_end(struct wire *w, long *ret_status, struct err *e);

// A download: begin (waits for the answer's beginning), pull…, wire_stop. *ret_size is the number
// of bytes that will come, -1: not known. A status that is not 2xx is no error here: see it.
int wire_get(struct wire *w, const struct wire_request *q, long *ret_status, int64_t *ret_size,
             struct err *e);
// Up to size bytes; 0 at the end, -1 with e: also when it ended too early.
ssize_t wire_pull(struct wire *w, void *data, size_t size, struct err *e);

// Ends whatever transfer is running, without an answer. Harmless when there is none.
void wire_stop(struct wire *w);

// What an HTTP status means for the user, as an error that names what was done.
int wire_status(long status, const char *what, const struct buf *body, struct err *e);

// text percent-encoded for a path ('/' stays) or, with query, for a query. Adds to b.
void wire_encode(struct buf *b, const char *text, bool query);

#endif
