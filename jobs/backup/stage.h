// The compression stage: bytes in, an archive in a store out. Blocks are compressed by several
// threads and written, in order, by one more. Memory: a few blocks more than threads, in and out,
// whatever the size of the archive.
#ifndef BACKUP_STAGE_H
#define BACKUP_STAGE_H

#include "backup/codec.h"
#include "backup/store.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct stage;

// Begins an archive on a store whose create() has succeeded. threads >= 1. With head_len > 0
// (the store can_patch) so many bytes are reserved at the beginning: not a tar header until
// stage_finish gets the real ones. *stop becomes true when the process shall end: waiting then
// fails with EX_TEMPFAIL.
int stage_start(struct store *s, enum compression kind, int threads, size_t head_len,
                const atomic_bool *stop, struct stage **ret, struct err *e);

// Takes bytes; -1 with the first error of any thread.
int stage_write(struct stage *g, const void *data, size_t len, struct err *e);

// The next byte begins a new block: a reader can start there.
int stage_flush(struct stage *g, struct err *e);
// The same, and where that block begins in the archive. Waits until all before it is written.
int stage_mark(struct stage *g, uint64_t *ret_offset, struct err *e);

// Compresses and writes all, rewrites the head (head_len bytes; NULL without one), ends the
// threads. The store's commit() is the caller's.
int stage_finish(struct stage *g, const void *head, struct err *e);

// Ends the threads, finished or not, and frees. The store is no longer used.
void stage_free(struct stage *g);

uint64_t stage_raw_bytes(const struct stage *g);     // taken, with the head
uint64_t stage_written_bytes(const struct stage *g); // given to the store

#endif
