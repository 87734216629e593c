// One HTTP request by libcurl: small answers in memory, certificates verified, no other protocol
// ever. What probe, jobs-helper, backup's hooks and statusd's push use.
#ifndef COMMON_HTTP_H
#define COMMON_HTTP_H

#include "base/err.h"
#include "base/text.h"
#include "common/obstacle.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http_request {
    const char *method;         // NULL: GET, or POST when body is set
    const char *url;            // http:// or https://
    const char *const *headers; // "Name: value", NULL-terminated; may be NULL
    const void *body;
    size_t body_len;
    const char *ca;          // PEM file to trust instead of the system's; NULL: the system's
    const char *unix_socket; // connect there instead of to the URL's host; may be NULL
    int64_t timeout_ms;      // for everything; 0: 30 s
    int64_t connect_ms;      // for connecting; 0: as timeout_ms
    size_t max_bytes;        // of the answer that is kept, the rest is read and dropped; 0: 1 MiB
    bool follow;             // redirects, at most 5, never from https to http
};

struct http_answer {
    long status;     // 200
    struct buf body; // at most max_bytes
    bool cut;        // the answer was longer
};

// Sends the request and reads the answer, whatever its status. -1: none came; e (EX_UNAVAILABLE)
// begins with the obstacle in words and names the host, never the path or query of the URL (which
// may hold a secret); *ret_why (unless NULL) is its kind.
int http_do(const struct http_request *q, struct http_answer *ret, enum obstacle *ret_why,
            struct err *e);
void http_answer_free(struct http_answer *a);
#define autoanswer __attribute__((cleanup(http_answer_free)))

// The obstacle behind a CURLcode (also of smtp:// and imap://).
enum obstacle http_obstacle(int curl_code);

// "https://host:port" of a URL, without user, password, path and query, into buf; returns buf.
const char *http_origin(const char *url, char *buf, size_t size);

#endif
