#include "gate.h"

#include "base/cleanup.h"
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

enum {
    DEFAULT_MS = 20000,
    MARGIN_MS = 5000, // civinit-probe keeps the timeout itself, and says why
};

// The last line that says something, without the name of the program that says it.
static const char *last_line(struct buf *errors, const char *kind) {
    char prefix[40], *line = errors->data;
    if (!line)
        return "";
    while (errors->len && (unsigned char)line[errors->len - 1] <= ' ')
        line[--errors->len] = 0;
    char *newline = strrchr(line, '\n');
    line = newline ? newline + 1 : line;
    if (strncmp(line, "civinit-probe: error: ", 22) == 0)
        line += 22;
    snprintf(prefix, sizeof prefix, "%s: ", kind);
    return strncmp(line, prefix, strlen(prefix)) == 0 ? line + strlen(prefix) : line;
}

static int answer(char *const *argv, const char *kind, int64_t timeout_ms, struct err *e) {
    autobuf struct buf errors = {0};
    int rc = helper_run(argv, timeout_ms, &errors, e);
    if (rc == 0)
        return 0;
    const char *line = last_line(&errors, kind);
    if (rc > 0 && *line)
        err_set(e, EX_UNAVAILABLE, "%s", line);
    else if (rc > 0)
        err_set(e, EX_UNAVAILABLE, "%s ended with %d", argv[0], rc);
    return EX_UNAVAILABLE;
}

static int run_probe(struct helper *h, const char *kind, int64_t timeout_ms, struct err *e) {
    autofree char *probe = helper_program("civinit-probe");
    if (!probe)
        return err_set(e, EX_OSERR, "out of memory"), EX_OSERR;
    char *argv[] = {probe, (char *)kind, (char *)"--config", (char *)h->config, NULL};
    return answer(argv, kind, timeout_ms + MARGIN_MS, e);
}

static int run_check(const char *check, const char *kind, int64_t timeout_ms, struct err *e) {
    autofree char **words = NULL, **argv = NULL;
    size_t n = 0;
    if (text_words(check, &words, e) < 0)
        return EX_CONFIG;
    while (words[n])
        n++;
    if (n == 0)
        return err_set(e, EX_CONFIG, "[mail] check is empty"), EX_CONFIG;
    if (!(argv = calloc(n + 2, sizeof *argv)))
        return err_set(e, EX_OSERR, "out of memory"), EX_OSERR;
    memcpy(argv, words, n * sizeof *argv);
    argv[n] = (char *)kind;
    return answer(argv, kind, timeout_ms, e);
}

static int gate_one(struct helper *h, const char *kind, struct err *e) {
    const char *check = conf_text(&h->conf, "mail", "", "check", NULL);
    int64_t timeout_ms = conf_ms(&h->conf, "mail", "", "timeout", DEFAULT_MS);
    int rc = conf_find(&h->conf, "mail", "", kind) ? run_probe(h, kind, timeout_ms, e) : 0;
    return rc == 0 && check ? run_check(check, kind, timeout_ms, e) : rc;
}

int gate(struct helper *h, const char *kind, struct err *e) {
    if (strcmp(kind, "mail") != 0)
        return gate_one(h, kind, e);
    int rc = gate_one(h, "smtp", e);
    return rc ? rc : gate_one(h, "imap", e);
}
