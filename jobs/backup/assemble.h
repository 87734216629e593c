// Puts one archive together: dump, trees and manifest through tar and the compression stage into
// a store whose create() has succeeded.
#ifndef BACKUP_ASSEMBLE_H
#define BACKUP_ASSEMBLE_H

#include "backup/dump.h"
#include "backup/options.h"
#include "backup/store.h"
#include "base/err.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct assembly {
    const struct options *o;
    const atomic_bool *stop;
    int attempt;
    // The result.
    int64_t bytes, raw_bytes, entries, warnings, excluded;
    // Private.
    struct db_options where;
    struct dump dump;
    int64_t expected; // bytes before compression, about; <= 0: not known
};

// Looks before anything is written: the database, its grants, the roots, the space.
int assembly_prepare(struct assembly *a, struct store *s, struct err *e);

// Writes the archive, all but the store's commit. *ret_again: the failure is worth another try.
int assemble(struct assembly *a, struct store *s, bool *ret_again, struct err *e);

void assembly_free(struct assembly *a);

#endif
