#include "forward/settings.h"

#include "base/file.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

enum {
    BUFFER = 8 << 20,
    BUFFER_LEAST = 64 << 10,
    FLUSH_MS = 5000,
    TAG_MOST = 255,
};

// "host", "host:port", "[::1]:port"; without a port 24224.
static int read_server(struct settings *s, const char *text, struct server *ret, struct err *e) {
    char *host = arena_text(&s->conf.arena, text), *port = NULL;
    if (!host)
        return err_set(e, EX_OSERR, "out of memory");
    if (*host == '[') {
        char *close = strchr(++host, ']');
        if (!close || (close[1] && close[1] != ':'))
            return err_set(e, EX_CONFIG, "[forward] to: \"%s\" is no [ADDRESS]:PORT", text);
        *close = 0;
        port = close[1] ? close + 2 : NULL;
    } else if ((port = strchr(host, ':'))) {
        *port++ = 0;
    }
    int64_t number = 24224;
    if (!*host || (port && text_int(port, 1, 65535, &number, NULL) < 0))
        return err_set(e, EX_CONFIG, "[forward] to: \"%s\" is no HOST:PORT", text);
    port = arena_printf(&s->conf.arena, "%d", (int)number);
    *ret = (struct server){
        host, port,
        arena_printf(&s->conf.arena, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port)};
    return port && ret->shown ? 0 : err_set(e, EX_OSERR, "out of memory");
}

static int read_servers(struct settings *s, struct err *e) {
    char **list = conf_list(&s->conf, "forward", "", "to");
    unsigned n = 0;
    while (list && list[n])
        n++;
    if (n == 0)
        return err_set(e, EX_CONFIG, "[forward] to: no server is named");
    if (n > SETTINGS_SERVERS)
        return err_set(e, EX_CONFIG, "[forward] to: more than %d servers", SETTINGS_SERVERS);
    s->servers = arena_alloc(&s->conf.arena, n * sizeof *s->servers);
    if (!s->servers)
        return err_set(e, EX_OSERR, "out of memory");
    for (unsigned i = 0; i < n; i++)
        if (read_server(s, list[i], &s->servers[i], e) < 0)
            return -1;
    s->nservers = n;
    return 0;
}

// Secrets are read anew for every login; here only to say at once that one cannot be.
static int check_secret(const char *path, const char *key, struct err *e) {
    char *secret = NULL;
    if (!path)
        return 0;
    if (file_secret(path, &secret, e) < 0)
        return err_wrap(e, "[forward] %s", key);
    bool empty = !*secret;
    explicit_bzero(secret, strlen(secret));
    free(secret);
    return empty ? err_set(e, EX_CONFIG, "[forward] %s: %s is empty", key, path) : 0;
}

static int check(struct settings *s, struct err *e) {
    if (s->user && (!s->shared_key_file || !s->password_file))
        return err_set(e, EX_CONFIG, "[forward] user: needs shared_key_file and password_file too");
    if (s->ca && !s->tls)
        return err_set(e, EX_CONFIG, "[forward] ca: has no use without tls = yes");
    if (s->ca && access(s->ca, R_OK) < 0)
        return err_errno(e, EX_CONFIG, "[forward] ca: %s", s->ca);
    if (s->buffer < BUFFER_LEAST)
        return err_set(e, EX_CONFIG, "[forward] buffer: at least 64KiB");
    if (!*s->tag || strlen(s->tag) > TAG_MOST)
        return err_set(e, EX_CONFIG, "[forward] tag: 1 to %d characters", TAG_MOST);
    if (check_secret(s->shared_key_file, "shared_key_file", e) < 0)
        return -1;
    return check_secret(s->password_file, "password_file", e);
}

static enum overflow overflow_of(const char *text) {
    return strcmp(text, "block") == 0         ? OVERFLOW_BLOCK
           : strcmp(text, "drop-newest") == 0 ? OVERFLOW_DROP_NEWEST
                                              : OVERFLOW_DROP_OLDEST;
}

int settings_read(struct settings *s, const char *config, struct err *e) {
    static const char *const used[] = {"container", "forward", NULL};
    *s = (struct settings){0};
    struct conf *c = &s->conf;
    const char *path = conf_path(c, config);
    if (!path)
        return err_set(e, EX_OSERR, "out of memory");
    if (conf_load_strict(c, path, used, e) < 0 || read_servers(s, e) < 0)
        return -1;
    const char *run_dir = getenv("CIVINIT_RUN_DIR");
    s->run_dir =
        run_dir && *run_dir ? run_dir : conf_text(c, "container", "", "run_dir", "/run/civinit");
    s->instance = conf_text(c, "container", "", "instance", NULL);
    s->tag = conf_text(c, "forward", "", "tag", "civinit");
    s->shared_key_file = conf_text(c, "forward", "", "shared_key_file", NULL);
    s->user = conf_text(c, "forward", "", "user", NULL);
    s->password_file = conf_text(c, "forward", "", "password_file", NULL);
    s->tls = conf_bool(c, "forward", "", "tls", false);
    s->ca = conf_text(c, "forward", "", "ca", NULL);
    s->buffer = (size_t)conf_size(c, "forward", "", "buffer", BUFFER);
    s->overflow = overflow_of(conf_text(c, "forward", "", "overflow", "drop-oldest"));
    s->flush_ms = conf_ms(c, "forward", "", "flush", FLUSH_MS);
    if (gethostname(s->host, sizeof s->host - 1) < 0)
        return err_errno(e, EX_OSERR, "gethostname");
    return check(s, e);
}

void settings_free(struct settings *s) {
    conf_free(&s->conf);
}
