#include "gate.h"

#include "base/cleanup.h"
#include "base/text.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

enum {
    DEFAULT_MS = 20000,
    MARGIN_MS = 5000, // civinit-probe keeps the timeout itself, and says why
};

static int run_probe(struct helper *h, const char *kind, int64_t timeout_ms, struct err *e) {
    autofree char *probe = helper_program("civinit-probe");
    if (!probe)
        return err_set(e, EX_OSERR, "out of memory"), EX_OSERR;
    char *argv[] = {probe, (char *)kind, (char *)"--config", (char *)h->config, NULL};
    int rc = helper_run(argv, timeout_ms + MARGIN_MS, e);
    return rc < 0 ? e->code : rc == 0 ? 0 : EX_UNAVAILABLE;
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
    int rc = helper_run(argv, timeout_ms, e);
    if (rc == 0)
        return 0;
    if (rc > 0)
        err_set(e, EX_UNAVAILABLE, "[mail] check says no to %s (exit code %d)", kind, rc);
    return EX_UNAVAILABLE;
}

static int gate_one(struct helper *h, const char *kind, struct err *e) {
    const char *check = conf_text(&h->conf, "mail", "", "check", NULL);
    int64_t timeout_ms = conf_ms(&h->conf, "mail", "", "timeout", DEFAULT_MS);
    if (check)
        return run_check(check, kind, timeout_ms, e);
    return conf_find(&h->conf, "mail", "", kind) ? run_probe(h, kind, timeout_ms, e) : 0;
}

int gate(struct helper *h, const char *kind, struct err *e) {
    if (strcmp(kind, "mail") != 0)
        return gate_one(h, kind, e);
    int rc = gate_one(h, "smtp", e);
    return rc ? rc : gate_one(h, "imap", e);
}
