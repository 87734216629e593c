// Compares the entries of an archive, as they are read, with what its manifest says. 16 bytes are
// kept of each entry between two parts of the manifest.
#ifndef BACKUP_CHECK_H
#define BACKUP_CHECK_H

#include "backup/manifest.h"
#include "base/err.h"

#include <jansson.h>
#include <stdint.h>

struct check_print {
    uint64_t path, whole;
};

struct check {
    struct check_print *prints; // read and not yet found in a manifest
    size_t n, cap, at;
    int64_t entries;
    int parts;
    int (*each)(void *arg, json_t *entry); // hears of every listed entry; may be NULL
    void *arg;
    int stopped; // what each returned, when not 0
};

// An entry was read.
int check_entry(struct check *c, const struct manifest_entry *x, struct err *e);

// A manifest, or a part of it (ret_head NULL), was read: text (len bytes, NUL-terminated, is
// changed) must list the entries read since the last one, in order. With c->each and nothing
// read before (a listing), nothing is compared.
int check_manifest(struct check *c, char *text, size_t len, bool compare, json_t **ret_head,
                   struct err *e);

void check_free(struct check *c);

#endif
