// The decompressing end of a reader: a thread reads a store's open archive and inflates it ahead
// of the consumer, into a ring of buffers. gzip by ISA-L, zstd, or a plain tar.
#ifndef BACKUP_INFLOW_H
#define BACKUP_INFLOW_H

#include "backup/store.h"
#include "base/err.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum inflow_kind {
    INFLOW_AUTO,    // by the first bytes
    INFLOW_GZIP,    // with its checksum
    INFLOW_DEFLATE, // from the middle of a gzip member: no checksum
    INFLOW_ZSTD,
    INFLOW_PLAIN,
};

struct inflow;

// Begins reading what store's open() has opened; the store is the thread's until inflow_free.
int inflow_start(struct store *s, enum inflow_kind kind, struct inflow **ret, struct err *e);

// The next bytes, in the inflow's memory until the next call. 0: the proven end. -1: EX_DATAERR
// when the archive is damaged, cut, or followed by something else.
ssize_t inflow_next(struct inflow *f, const void **ret_data, struct err *e);

int64_t inflow_read_bytes(const struct inflow *f); // compressed bytes read so far

void inflow_free(struct inflow *f); // NULL is fine

// Inflates the beginning of a piece of a deflate stream: up to size bytes, fewer at its end.
// -1: it is not deflate.
ssize_t inflow_peek(enum inflow_kind kind, const void *data, size_t len, void *out, size_t size);

#endif
