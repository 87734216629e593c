#include "common/http.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

enum {
    DEFAULT_TIMEOUT_MS = 30000,
    DEFAULT_MAX = 1 << 20,
    MAX_REDIRECTS = 5,
};

struct sink {
    struct http_answer *answer;
    size_t max;
};

enum obstacle http_obstacle(int curl_code) {
    switch (curl_code) {
    case CURLE_OK:
        return OBSTACLE_NONE;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        return OBSTACLE_NAME;
    case CURLE_COULDNT_CONNECT:
        return OBSTACLE_REFUSED;
    case CURLE_OPERATION_TIMEDOUT:
        return OBSTACLE_TIMEOUT;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_USE_SSL_FAILED:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_CRL_BADFILE:
        return OBSTACLE_TLS;
    case CURLE_LOGIN_DENIED:
    case CURLE_REMOTE_ACCESS_DENIED:
    case CURLE_AUTH_ERROR:
        return OBSTACLE_DENIED;
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_PARTIAL_FILE:
    case CURLE_WEIRD_SERVER_REPLY:
        return OBSTACLE_NOT_READY;
    default:
        return OBSTACLE_OTHER;
    }
}

static size_t keep(char *data, size_t size, size_t n, void *arg) {
    struct sink *s = arg;
    size_t len = size * n, room = s->max - s->answer->body.len;
    if (len > room) {
        s->answer->cut = true;
        buf_add(&s->answer->body, data, room);
    } else {
        buf_add(&s->answer->body, data, len);
    }
    return s->answer->body.failed ? 0 : len;
}

static void set_body(CURL *c, const struct http_request *q) {
    if (q->body || (q->method && strcmp(q->method, "POST") == 0)) {
        curl_easy_setopt(c, CURLOPT_POST, 1L);
        curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)q->body_len);
        curl_easy_setopt(c, CURLOPT_POSTFIELDS, q->body ? q->body : "");
    }
    if (q->method && strcmp(q->method, "HEAD") == 0)
        curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
    else if (q->method)
        curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, q->method);
}

static void set_all(CURL *c, const struct http_request *q, struct sink *sink, char *error) {
    long timeout = (long)(q->timeout_ms ? q->timeout_ms : DEFAULT_TIMEOUT_MS);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, error);
    curl_easy_setopt(c, CURLOPT_URL, q->url);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "civinit/" CIVINIT_VERSION);
    curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, timeout);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)(q->connect_ms ? q->connect_ms : timeout));
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR,
                     strncasecmp(q->url, "https:", 6) == 0 ? "https" : "http,https");
    curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, q->follow ? 1L : 0L);
    curl_easy_setopt(c, CURLOPT_MAXREDIRS, (long)MAX_REDIRECTS);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, keep);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, sink);
    if (q->ca)
        curl_easy_setopt(c, CURLOPT_CAINFO, q->ca);
    if (q->unix_socket)
        curl_easy_setopt(c, CURLOPT_UNIX_SOCKET_PATH, q->unix_socket);
    set_body(c, q);
}

static struct curl_slist *header_list(const char *const *headers) {
    // "Expect: 100-continue" would cost a second with servers that ignore it.
    struct curl_slist *list = curl_slist_append(NULL, "Expect:");
    for (; list && headers && *headers; headers++) {
        struct curl_slist *longer = curl_slist_append(list, *headers);
        if (!longer) {
            curl_slist_free_all(list);
            return NULL;
        }
        list = longer;
    }
    return list;
}

int http_do(const struct http_request *q, struct http_answer *ret, enum obstacle *ret_why,
            struct err *e) {
    struct http_answer got = {0};
    struct sink sink = {&got, q->max_bytes ? q->max_bytes : DEFAULT_MAX};
    char error[CURL_ERROR_SIZE] = "", origin[256];
    if (ret_why)
        *ret_why = OBSTACLE_OTHER;
    CURL *c = curl_easy_init();
    struct curl_slist *headers = header_list(q->headers);
    if (!c || !headers) {
        curl_easy_cleanup(c);
        curl_slist_free_all(headers);
        return err_set(e, EX_OSERR, "out of memory");
    }
    set_all(c, q, &sink, error);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
    CURLcode rc = curl_easy_perform(c);
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &got.status);
    curl_easy_cleanup(c);
    curl_slist_free_all(headers);
    if (ret_why)
        *ret_why = http_obstacle((int)rc);
    if (rc != CURLE_OK) {
        http_answer_free(&got);
        return err_set(e, EX_UNAVAILABLE, "%s: %s at %s", obstacle_word(http_obstacle((int)rc)),
                       *error ? error : curl_easy_strerror(rc),
                       http_origin(q->url, origin, sizeof origin));
    }
    *ret = got;
    return 0;
}

void http_answer_free(struct http_answer *a) {
    buf_free(&a->body);
}
