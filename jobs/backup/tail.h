// Finds the manifest from an archive's end, without reading the rest: it begins a block of its
// own, and blocks decompress without what stands before them.
#ifndef BACKUP_TAIL_H
#define BACKUP_TAIL_H

#include "backup/inflow.h"
#include "backup/store.h"

// 0: where, and how to read from there. -1: not found (encrypted, in several parts, not ours …).
int tail_find(struct store *s, const char *name, enum inflow_kind *ret_kind, uint64_t *ret_offset);

#endif
