// Whether what lies in a store is what was sent there, byte by byte, without understanding it: the
// proof for encrypted archives where the identity is, rightly, not at hand.
#ifndef BACKUP_READBACK_H
#define BACKUP_READBACK_H

#include "backup/store.h"
#include "base/err.h"

#include <stddef.h>

struct readback;

// NULL: out of memory.
struct readback *readback_new(void);

// Bytes were sent, in order; bytes at the beginning (within twice STORE_HEAD_MAX) were replaced.
void readback_add(struct readback *r, const void *data, size_t len);
void readback_patch(struct readback *r, size_t offset, const void *data, size_t len);

// Reads `name` of s to its end and compares. EX_DATAERR: something else lies there; EX_TEMPFAIL:
// *stop (unless NULL) became true.
int readback_compare(struct readback *r, struct store *s, const char *name, const atomic_bool *stop,
                     struct err *e);

void readback_free(struct readback *r); // NULL is allowed

#endif
