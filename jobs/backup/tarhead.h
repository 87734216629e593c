// The tar header of a file whose size is known only after it was written: a pax header and the
// entry's own, always of the same length, so that the final one can replace a placeholder.
#ifndef BACKUP_TARHEAD_H
#define BACKUP_TARHEAD_H

#include <stdint.h>

enum {
    TARHEAD_BYTES = 1536, // pax header, its records, ustar header
    TAR_BLOCK = 512,
};

// mtime_ms: since the epoch. name: at most 99 ASCII characters. Any size.
void tarhead_make(uint8_t out[TARHEAD_BYTES], const char *name, uint64_t size_bytes,
                  int64_t mtime_ms);

#endif
