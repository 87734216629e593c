// The manifest of an archive while it is written: entries are added as they go into the archive;
// what grows too long goes into the archive as a part of its own, so that memory stays constant.
#ifndef BACKUP_LISTING_H
#define BACKUP_LISTING_H

#include "backup/manifest.h"
#include "backup/tar.h"
#include "base/text.h"

#include <jansson.h>
#include <stdint.h>

struct listing {
    struct buf entries;
    int64_t count; // of all parts
    int parts;
    json_t *offsets;  // of the parts in the archive
    json_t *warnings; // [{"path", "what"}], at most LISTING_WARNINGS
    int64_t nwarnings;
};

enum {
    LISTING_WARNINGS = 1000,
};

int listing_new(struct listing *l, struct err *e);
int listing_add(struct listing *l, struct tar *t, const struct manifest_entry *x, struct err *e);
void listing_warn(struct listing *l, const char *path, const char *what);

// Writes MANIFEST.json. head gets what the listing knows; it stays the caller's.
int listing_write(struct listing *l, struct tar *t, json_t *head, int64_t now_ms, struct err *e);

void listing_free(struct listing *l);

#endif
