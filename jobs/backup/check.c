#include "backup/check.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

static struct check_print print_of(const struct manifest_entry *x) {
    struct manifest_entry path = {.path = x->path, .type = ""};
    return (struct check_print){manifest_print(&path), manifest_print(x)};
}

int check_entry(struct check *c, const struct manifest_entry *x, struct err *e) {
    if (c->n == c->cap) {
        size_t cap = c->cap ? 2 * c->cap : 1024;
        struct check_print *more = realloc(c->prints, cap * sizeof *more);
        if (!more)
            return err_set(e, EX_OSERR, "out of memory");
        c->prints = more;
        c->cap = cap;
    }
    c->prints[c->n++] = print_of(x);
    c->entries++;
    return 0;
}

static int missing_or_extra(const struct check *c, const struct manifest_entry *x, uint64_t path,
                            struct err *e) {
    for (size_t i = c->at; i < c->n; i++)
        if (c->prints[i].path == path)
            return err_set(e, EX_DATAERR, "%zu entr%s before %s that the manifest does not list",
                           i - c->at, i - c->at == 1 ? "y stands" : "ies stand", x->path);
    return err_set(e, EX_DATAERR, "%s: is in the manifest, but missing in the archive", x->path);
}

struct comparing {
    struct check *c;
    bool compare;
};

static int on_line(void *arg, const struct manifest_entry *x, json_t *object, struct err *e) {
    struct comparing *m = arg;
    struct check *c = m->c;
    if (m->compare) {
        struct check_print p = print_of(x);
        if (c->at == c->n || c->prints[c->at].path != p.path)
            return missing_or_extra(c, x, p.path, e);
        if (c->prints[c->at++].whole != p.whole)
            return err_set(e, EX_DATAERR,
                           "%s: is not what the manifest says (SHA-256, size or type)", x->path);
    }
    if (c->each && !c->stopped)
        c->stopped = c->each(c->arg, object);
    return 0;
}

int check_manifest(struct check *c, char *text, size_t len, bool compare, json_t **ret_head,
                   struct err *e) {
    struct comparing m = {c, compare};
    if (manifest_parse(text, len, ret_head, on_line, &m, e) < 0)
        return -1;
    if (compare && c->at != c->n) {
        if (ret_head) {
            json_decref(*ret_head);
            *ret_head = NULL;
        }
        return err_set(e, EX_DATAERR, "%zu entr%s that the manifest does not list", c->n - c->at,
                       c->n - c->at == 1 ? "y is there" : "ies are there");
    }
    c->at = c->n = 0;
    return 0;
}

void check_free(struct check *c) {
    free(c->prints);
    *c = (struct check){0};
}
