#include "backup/wire.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

enum {
    IN_MAX = 512 << 10,    // bytes of a download read ahead
    BODY_MAX = 16 << 20,   // of an answer kept in memory
    STALL_MS = 120 * 1000, // without a byte moving
    LOOK_MS = 200,         // so often: whether we shall stop
    CONNECT_MS = 30 * 1000,
};

enum mode {
    IDLE,
    DO,  // answer's body to memory
    PUT, // out is sent
    GET, // in is filled
};

struct wire {
    CURL *easy;
    CURLM *multi;
    char *user, *password, *sigv4, *ssh_key, *known_hosts, *ca;
    enum mode mode;
    struct curl_slist *headers, *commands;
    const char *out; // what is to be sent next
    size_t out_len;
    bool out_end, paused;
    struct buf in; // what came; in_at of it is given out
    size_t in_at;
    struct buf body; // DO: the answer's
    bool answered;   // header lines are complete, or data came
    bool done;
    CURLcode result;
    const atomic_bool *stop;
    int64_t moved; // a counter of bytes, for noticing a stall
    char etag[256];
    char problem[CURL_ERROR_SIZE];
};

static char *copy(const char *text, bool *failed) {
    char *c = text ? strdup(text) : NULL;
    *failed |= text && !c;
    return c;
}

int wire_new(const struct wire_login *login, struct wire **ret, struct err *e) {
    struct wire *w = calloc(1, sizeof *w);
    bool failed = false;
    if (!w || curl_global_init(CURL_GLOBAL_DEFAULT) != 0) {
        free(w);
        return err_set(e, EX_OSERR, "libcurl does not start");
    }
    w->user = copy(login->user, &failed);
    w->password = copy(login->password, &failed);
    w->sigv4 = copy(login->sigv4, &failed);
    w->ssh_key = copy(login->ssh_key, &failed);
    w->known_hosts = copy(login->known_hosts, &failed);
    w->ca = copy(login->ca, &failed);
    w->easy = curl_easy_init();
    w->multi = curl_multi_init();
    if (failed || !w->easy || !w->multi) {
        wire_free(w);
        return err_set(e, EX_OSERR, "out of memory");
    }
    *ret = w;
    return 0;
}

void wire_free(struct wire *w) {
    if (!w)
        return;
    wire_stop(w);
    curl_easy_cleanup(w->easy);
    curl_multi_cleanup(w->multi);
    if (w->password)
        explicit_bzero(w->password, strlen(w->password));
    free(w->user);
    free(w->password);
    free(w->sigv4);
    free(w->ssh_key);
    free(w->known_hosts);
    free(w->ca);
    buf_free(&w->in);
    free(w);
}

void wire_answer_free(struct wire_answer *a) {
    buf_free(&a->body);
}

static size_t on_read(char *to, size_t size, size_t n, void *arg) {
    struct wire *w = arg;
    n *= size;
    if (w->out_len == 0 && !w->out_end) {
        w->paused = true;
        return CURL_READFUNC_PAUSE;
    }
    n = n < w->out_len ? n : w->out_len;
    memcpy(to, w->out, n);
    w->out += n;
    w->out_len -= n;
    w->moved += (int64_t)n;
    return n;
}

// An upload never starts over by itself; sftp "seeks" to where it begins to write.
static int on_seek(void *arg, curl_off_t offset, int origin) {
    struct wire *w = arg;
    return w->mode == PUT && w->moved == 0 && origin == SEEK_SET ? CURL_SEEKFUNC_OK
                                                                 : CURL_SEEKFUNC_FAIL;
}

static size_t on_write(char *data, size_t size, size_t n, void *arg) {
    struct wire *w = arg;
    n *= size;
    struct buf *to = w->mode == GET ? &w->in : &w->body;
    if (w->mode == GET && w->in.len + n > IN_MAX) {
        w->paused = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    w->answered = true;
    w->moved += (int64_t)n;
    if (to->len + n > BODY_MAX)
        return 0;
    buf_add(to, data, n);
    return to->failed ? 0 : n;
}

static size_t on_header(char *line, size_t size, size_t n, void *arg) {
    struct wire *w = arg;
    n *= size;
    w->moved++;
    if (n > 5 && strncasecmp(line, "etag:", 5) == 0) {
        size_t from = 5, end = n;
        while (from < end && (line[from] == ' ' || line[from] == '\t'))
            from++;
        while (end > from && (line[end - 1] == '\r' || line[end - 1] == '\n'))
            end--;
        snprintf(w->etag, sizeof w->etag, "%.*s", (int)(end - from), line + from);
    }
    long status = 0;
    curl_easy_getinfo(w->easy, CURLINFO_RESPONSE_CODE, &status);
    if (n <= 2 && status >= 200) // the empty line after a final answer's headers
        w->answered = true;
    return n;
}

static struct curl_slist *slist(const char *const *list, struct curl_slist *to) {
    for (; list && *list; list++)
        to = curl_slist_append(to, *list);
    return to;
}

static void set_login(struct wire *w, bool ssh) {
    CURL *c = w->easy;
    if (w->user)
        curl_easy_setopt(c, CURLOPT_USERNAME, w->user);
    if (w->password)
        curl_easy_setopt(c, CURLOPT_PASSWORD, w->password);
    if (w->ca)
        curl_easy_setopt(c, CURLOPT_CAINFO, w->ca);
    if (ssh) {
        curl_easy_setopt(c, CURLOPT_SSH_AUTH_TYPES,
                         w->ssh_key ? CURLSSH_AUTH_PUBLICKEY : CURLSSH_AUTH_PASSWORD);
        if (w->ssh_key)
            curl_easy_setopt(c, CURLOPT_SSH_PRIVATE_KEYFILE, w->ssh_key);
        if (w->known_hosts)
            curl_easy_setopt(c, CURLOPT_SSH_KNOWNHOSTS, w->known_hosts);
    } else if (w->sigv4) {
        curl_easy_setopt(c, CURLOPT_AWS_SIGV4, w->sigv4);
    } else if (w->user) {
        curl_easy_setopt(c, CURLOPT_HTTPAUTH, CURLAUTH_BASIC);
    }
}

static void set_request(struct wire *w, const struct wire_request *q) {
    CURL *c = w->easy;
    curl_easy_setopt(c, CURLOPT_URL, q->url);
    if (q->method && strcmp(q->method, "HEAD") == 0)
        curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
    else if (q->method)
        curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, q->method);
    if (q->body) {
        curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)q->body_len);
        curl_easy_setopt(c, CURLOPT_POSTFIELDS, q->body);
    }
    if (q->commands && w->mode == DO)
        curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
    if (w->commands)
        curl_easy_setopt(c, CURLOPT_QUOTE, w->commands);
    if (w->headers)
        curl_easy_setopt(c, CURLOPT_HTTPHEADER, w->headers);
    if (q->offset)
        curl_easy_setopt(c, CURLOPT_RESUME_FROM_LARGE, (curl_off_t)q->offset);
    if (w->mode == PUT) {
        curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(c, CURLOPT_READFUNCTION, on_read);
        curl_easy_setopt(c, CURLOPT_READDATA, w);
        curl_easy_setopt(c, CURLOPT_SEEKFUNCTION, on_seek);
        curl_easy_setopt(c, CURLOPT_SEEKDATA, w);
        curl_easy_setopt(c, CURLOPT_UPLOAD_BUFFERSIZE, 256L << 10);
    }
}

static int begin(struct wire *w, enum mode mode, const struct wire_request *q, struct err *e) {
    wire_stop(w);
    CURL *c = w->easy;
    curl_easy_reset(c);
    w->mode = mode;
    w->stop = q->stop;
    w->out_len = 0;
    w->out_end = w->paused = w->answered = w->done = false;
    w->in.len = w->in_at = 0;
    w->moved = 0;
    w->etag[0] = w->problem[0] = '\0';
    w->headers = slist(q->headers, NULL);
    w->commands = slist(q->commands, NULL);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, w->problem);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https,sftp");
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    curl_easy_setopt(c, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(c, CURLOPT_BUFFERSIZE, 128L << 10);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_write);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, w);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, w);
    curl_easy_setopt(c, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
    set_login(w, strncmp(q->url, "sftp:", 5) == 0);
    set_request(w, q);
    if (curl_multi_add_handle(w->multi, c) != CURLM_OK) {
        w->mode = IDLE;
        return err_set(e, EX_OSERR, "libcurl: cannot begin a transfer");
    }
    return 0;
}

void wire_stop(struct wire *w) {
    if (!w)
        return;
    if (w->mode != IDLE)
        curl_multi_remove_handle(w->multi, w->easy);
    w->mode = IDLE;
    buf_free(&w->body);
    curl_slist_free_all(w->headers);
    curl_slist_free_all(w->commands);
    w->headers = w->commands = NULL;
}

// The transfer's end as an error.
static int failed(struct wire *w, struct err *e) {
    static const struct {
        CURLcode from;
        int to;
    } codes[] = {
        {CURLE_LOGIN_DENIED, EX_NOPERM},         {CURLE_PEER_FAILED_VERIFICATION, EX_NOPERM},
        {CURLE_REMOTE_ACCESS_DENIED, EX_NOPERM}, {CURLE_REMOTE_FILE_NOT_FOUND, EX_NOINPUT},
        {CURLE_REMOTE_DISK_FULL, EX_CANTCREAT},  {CURLE_REMOTE_FILE_EXISTS, EX_CANTCREAT},
        {CURLE_SSL_CACERT_BADFILE, EX_CONFIG},   {CURLE_UNSUPPORTED_PROTOCOL, EX_CONFIG},
        {CURLE_QUOTE_ERROR, EX_CANTCREAT},       {CURLE_URL_MALFORMAT, EX_CONFIG},
    };
    int code = EX_UNAVAILABLE;
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (codes[i].from == w->result)
            code = codes[i].to;
    if (w->result == CURLE_PEER_FAILED_VERIFICATION && w->known_hosts)
        return err_set(e, code, "the host's key is not in %s, or another one is", w->known_hosts);
    return err_set(e, code, "%s", w->problem[0] ? w->problem : curl_easy_strerror(w->result));
}

static bool wants(const struct wire *w) {
    switch (w->mode) {
    case PUT:
        return w->out_end ? !w->done : !w->done && w->out_len > 0;
    case GET:
        return !w->done && (!w->answered || w->in_at == w->in.len);
    default:
        return !w->done;
    }
}

// Lets libcurl work until there is what the mode wants. once: until it is seen to be under way.
static int spin(struct wire *w, struct err *e) {
    int64_t moved = w->moved, since = clock_mono_ms();
    if (w->paused) {
        w->paused = false;
        curl_easy_pause(w->easy, CURLPAUSE_CONT);
    }
    while (wants(w)) {
        int running, left;
        curl_multi_perform(w->multi, &running);
        for (CURLMsg *m; (m = curl_multi_info_read(w->multi, &left));)
            if (m->msg == CURLMSG_DONE) {
                w->done = w->answered = true;
                w->result = m->data.result;
            }
        if (!wants(w))
            break;
        if (w->moved != moved) {
            moved = w->moved;
            since = clock_mono_ms();
        } else if (clock_mono_ms() - since > STALL_MS) {
            return err_set(e, EX_UNAVAILABLE, "nothing moved for %d s", STALL_MS / 1000);
        }
        if (w->stop && *w->stop)
            return err_set(e, EX_TEMPFAIL, "told to stop");
        curl_multi_poll(w->multi, NULL, 0, LOOK_MS, NULL);
    }
    return w->done && w->result != CURLE_OK ? failed(w, e) : 0;
}

int wire_do(struct wire *w, const struct wire_request *q, struct wire_answer *ret, struct err *e) {
    struct wire_answer a = {0};
    if (begin(w, DO, q, e) < 0)
        return -1;
    int rc = spin(w, e);
    curl_easy_getinfo(w->easy, CURLINFO_RESPONSE_CODE, &a.status);
    memcpy(a.etag, w->etag, sizeof a.etag);
    if (strncmp(q->url, "http", 4) != 0)
        a.status = 0;
    if (rc == 0) {
        a.body = w->body;
        w->body = (struct buf){0};
        *ret = a;
    }
    wire_stop(w);
    return rc;
}

int wire_retry(struct wire *w, const struct wire_request *q, int tries, struct wire_answer *ret,
               struct err *e) {
    for (long wait_ms = 200;; wait_ms *= 2) {
        struct err why = {0};
        int rc = wire_do(w, q, ret, &why);
        bool again = rc < 0 ? why.code == EX_UNAVAILABLE : ret->status == 429 || ret->status >= 500;
        if (!again || --tries <= 0) {
            if (rc < 0 && e)
                *e = why;
            return rc;
        }
        if (rc == 0)
            wire_answer_free(ret);
        if (q->stop && *q->stop)
            return err_set(e, EX_TEMPFAIL, "told to stop");
        nanosleep(&(struct timespec){wait_ms / 1000, wait_ms % 1000 * 1000000}, NULL);
    }
}

int wire_put(struct wire *w, const struct wire_request *q, struct err *e) {
    return begin(w, PUT, q, e);
}

int wire_push(struct wire *w, const void *data, size_t len, struct err *e) {
    if (w->mode != PUT)
        return err_set(e, EX_SOFTWARE, "no upload is running");
    w->out = data;
    w->out_len = len;
    if (spin(w, e) < 0)
        return -1;
    if (w->out_len == 0)
        return 0;
    long status = 0;
    curl_easy_getinfo(w->easy, CURLINFO_RESPONSE_CODE, &status);
    return wire_status(status, "upload", NULL, e);
}

int wire_put_end(struct wire *w, long *ret_status, struct err *e) {
    if (w->mode != PUT)
        return err_set(e, EX_SOFTWARE, "no upload is running");
    w->out_len = 0;
    w->out_end = true;
    int rc = spin(w, e);
    *ret_status = 0;
    curl_easy_getinfo(w->easy, CURLINFO_RESPONSE_CODE, ret_status);
    wire_stop(w);
    return rc;
}

int wire_get(struct wire *w, const struct wire_request *q, long *ret_status, int64_t *ret_size,
             struct err *e) {
    if (begin(w, GET, q, e) < 0)
        return -1;
    curl_off_t size = -1;
    if (spin(w, e) < 0) {
        wire_stop(w);
        return -1;
    }
    *ret_status = 0;
    if (strncmp(q->url, "http", 4) == 0)
        curl_easy_getinfo(w->easy, CURLINFO_RESPONSE_CODE, ret_status);
    curl_easy_getinfo(w->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &size);
    *ret_size = size;
    return 0;
}

ssize_t wire_pull(struct wire *w, void *data, size_t size, struct err *e) {
    if (w->mode != GET)
        return err_set(e, EX_SOFTWARE, "no download is running");
    if (w->in_at == w->in.len) {
        w->in_at = w->in.len = 0;
        if (spin(w, e) < 0)
            return -1;
    }
    size_t n = w->in.len - w->in_at;
    n = n < size ? n : size;
    if (n)
        memcpy(data, w->in.data + w->in_at, n);
    w->in_at += n;
    return (ssize_t)n;
}

int wire_status(long status, const char *what, const struct buf *body, struct err *e) {
    static const struct {
        long status;
        int code;
        const char *means;
    } known[] = {
        {401, EX_NOPERM, "the server does not accept the user or password"},
        {403, EX_NOPERM, "the server refuses: wrong key, secret or rights"},
        {404, EX_NOINPUT, "not there"},
        {409, EX_CANTCREAT, "the folder is not there"},
        {412, EX_CANTCREAT, "an archive of that name is there already"},
        {507, EX_CANTCREAT, "no space on the server"},
    };
    char hint[160] = "";
    const char *code = body && body->data ? strstr(body->data, "<Code>") : NULL;
    if (code)
        snprintf(hint, sizeof hint, " (%.*s)", (int)strcspn(code + 6, "<"), code + 6);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].status == status)
            return err_set(e, known[i].code, "%s: %s: HTTP %ld%s", what, known[i].means, status,
                           hint);
    return err_set(e, EX_UNAVAILABLE, "%s: the server answered HTTP %ld%s", what, status, hint);
}

void wire_encode(struct buf *b, const char *text, bool query) {
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     c == '-' || c == '_' || c == '.' || c == '~' || (c == '/' && !query);
        buf_printf(b, plain ? "%c" : "%%%02X", c);
    }
}
