// Finds the manifest from an archive's end, without reading the rest: it begins a block of its
// own, as do its earlier parts, and blocks decompress without what stands before them.
#ifndef BACKUP_TAIL_H
#define BACKUP_TAIL_H

#include "backup/inflow.h"
#include "backup/store.h"

struct tail {
    enum inflow_kind kind; // how to read
    uint64_t offset;       // from where
    bool alone;            // there are no earlier parts; else it says where they are
};

// -1: not found (encrypted, too long, not ours …).
int tail_find(struct store *s, const char *name, struct tail *ret);

#endif
