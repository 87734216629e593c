#include "common/mail.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "common/http.h"

#include <ctype.h>
#include <curl/curl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

enum {
    DEFAULT_TIMEOUT_MS = 20000,
    LINE_MAX_KEPT = 200,
};

// What the server said, as far as it matters.
struct talk {
    char line[LINE_MAX_KEPT]; // its last line
    bool accepted;            // a login succeeded
};

int mail_account_from_conf(const struct conf *c, const char *kind, struct mail_account *a,
                           struct err *e) {
    char user[32], password[32];
    snprintf(user, sizeof user, "%s_user", kind);
    snprintf(password, sizeof password, "%s_password_file", kind);
    struct mail_account new = {
        .url = conf_text(c, "mail", "", kind, NULL),
        .user = conf_text(c, "mail", "", user, NULL),
        .password_file = conf_text(c, "mail", "", password, NULL),
        .ca = conf_text(c, "mail", "", "ca", NULL),
        .timeout_ms = conf_ms(c, "mail", "", "timeout", 0),
    };
    if (!new.url)
        return err_set(e, EX_CONFIG, "[mail] %s is missing", kind);
    *a = new;
    return 0;
}

// Only what comes from the server is looked at: what is sent holds the password.
static int listen_in(CURL *c, curl_infotype type, char *data, size_t size, void *arg) {
    struct talk *t = arg;
    if (type != CURLINFO_HEADER_IN)
        return 0;
    while (size && isspace((unsigned char)data[size - 1]))
        size--;
    snprintf(t->line, sizeof t->line, "%.*s", (int)size, data);
    // SMTP's 235; an IMAP login is only believed without curl's error, so it needs no line.
    if (strncmp(t->line, "235", 3) == 0)
        t->accepted = true;
    return 0;
}

// "smtp+plain://x" → "smtp://x" with *ret_plain, the caller's to free. NULL: not such a URL.
static char *real_url(const char *url, bool *ret_plain, bool *ret_smtp) {
    static const struct {
        const char *scheme, *real;
        bool plain, smtp;
    } schemes[] = {
        {"smtp://", "smtp", false, true},      {"smtps://", "smtps", false, true},
        {"smtp+plain://", "smtp", true, true}, {"imap://", "imap", false, false},
        {"imaps://", "imaps", false, false},   {"imap+plain://", "imap", true, false},
    };
    for (unsigned i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        size_t n = strlen(schemes[i].scheme);
        if (strncasecmp(url, schemes[i].scheme, n) != 0 || !url[n])
            continue;
        char *real = NULL;
        if (asprintf(&real, "%s://%s", schemes[i].real, url + n) < 0)
            return NULL;
        *ret_plain = schemes[i].plain;
        *ret_smtp = schemes[i].smtp;
        return real;
    }
    return NULL;
}

static size_t drop(char *data, size_t size, size_t n, void *arg) {
    return size * n;
}

static void set_all(CURL *c, const struct mail_account *a, const char *url, bool plain,
                    struct talk *t, char *error) {
    long timeout = (long)(a->timeout_ms ? a->timeout_ms : DEFAULT_TIMEOUT_MS);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, error);
    curl_easy_setopt(c, CURLOPT_URL, url);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "smtp,smtps,imap,imaps");
    curl_easy_setopt(c, CURLOPT_USE_SSL, plain ? (long)CURLUSESSL_NONE : (long)CURLUSESSL_ALL);
    curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, timeout);
    curl_easy_setopt(c, CURLOPT_SERVER_RESPONSE_TIMEOUT, (timeout + 999) / 1000);
    curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, "NOOP");
    curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, drop);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, drop);
    curl_easy_setopt(c, CURLOPT_VERBOSE, 1L);
    curl_easy_setopt(c, CURLOPT_DEBUGFUNCTION, listen_in);
    curl_easy_setopt(c, CURLOPT_DEBUGDATA, t);
    if (a->ca)
        curl_easy_setopt(c, CURLOPT_CAINFO, a->ca);
}

// A refused login that the server itself calls temporary is no wrong password.
static enum obstacle why_of(int rc, bool smtp, const char *line) {
    enum obstacle why = http_obstacle(rc);
    if (why != OBSTACLE_DENIED && !(why == OBSTACLE_NOT_READY && *line))
        return why;
    if (smtp)
        return line[0] == '4' ? OBSTACLE_NOT_READY : why;
    return strstr(line, "[UNAVAILABLE]") || strstr(line, "[INUSE]") ? OBSTACLE_NOT_READY : why;
}

static int failed(enum obstacle why, const struct mail_account *a, const char *text,
                  const char *line, struct err *e) {
    char origin[256];
    return err_set(e, why == OBSTACLE_DENIED ? EX_NOPERM : EX_UNAVAILABLE, "%s: %s%s%s%s at %s",
                   obstacle_word(why), text, *line ? " (" : "", line, *line ? ")" : "",
                   http_origin(a->url, origin, sizeof origin));
}

static int login(CURL *c, const struct mail_account *a, bool smtp, struct talk *t, char *error,
                 enum obstacle *ret_why, struct err *e) {
    int rc = (int)curl_easy_perform(c);
    // curl goes on without a word when a server offers no way to log in.
    if (rc == CURLE_OK && a->user && smtp && !t->accepted) {
        *ret_why = OBSTACLE_DENIED;
        return failed(*ret_why, a, "the server offers no login", "", e);
    }
    *ret_why = why_of(rc, smtp, t->line);
    if (rc == CURLE_OK)
        return 0;
    bool said = *ret_why == OBSTACLE_DENIED || *ret_why == OBSTACLE_NOT_READY;
    return failed(*ret_why, a, *error ? error : curl_easy_strerror((CURLcode)rc),
                  said ? t->line : "", e);
}

static int with_password(const struct mail_account *a, const char *url, bool plain, bool smtp,
                         enum obstacle *ret_why, struct err *e) {
    char error[CURL_ERROR_SIZE] = "";
    struct talk talk = {0};
    autofree char *password = NULL;
    if (a->password_file && file_secret(a->password_file, &password, e) < 0) {
        if (e)
            e->code = EX_CONFIG;
        return err_wrap(e, "the mail account's password");
    }
    CURL *c = curl_easy_init();
    if (!c)
        return err_set(e, EX_OSERR, "out of memory");
    set_all(c, a, url, plain, &talk, error);
    if (a->user) {
        curl_easy_setopt(c, CURLOPT_USERNAME, a->user);
        curl_easy_setopt(c, CURLOPT_PASSWORD, password ? password : "");
    }
    int rc = login(c, a, smtp, &talk, error, ret_why, e);
    curl_easy_cleanup(c);
    if (password)
        explicit_bzero(password, strlen(password));
    return rc;
}

int mail_login(const struct mail_account *a, enum obstacle *ret_why, struct err *e) {
    bool plain = false, smtp = false;
    enum obstacle why = OBSTACLE_OTHER;
    char *url = real_url(a->url, &plain, &smtp);
    int rc = url ? with_password(a, url, plain, smtp, &why, e)
                 : err_set(e, EX_CONFIG,
                           "\"%s\" is none of smtp://, smtps://, imap://, imaps:// (or "
                           "smtp+plain://, imap+plain:// without encryption)",
                           a->url);
    free(url);
    if (ret_why)
        *ret_why = why;
    return rc;
}
