// Walks a root of the file tree into the archive: by descriptors, never through a symbolic link,
// so that nobody who may write there can make it read something else.
#ifndef BACKUP_TREE_H
#define BACKUP_TREE_H

#include "backup/manifest.h"
#include "backup/options.h"
#include "backup/tar.h"

#include <stdatomic.h>
#include <stdint.h>

struct tree_counts {
    int64_t entries, bytes; // archived
    int64_t skipped;        // sockets, FIFOs, devices
    int64_t excluded;
    int64_t changed; // grew, shrank, vanished or were written while read
};

struct tree_calls {
    // An entry is in the archive.
    int (*entry)(void *arg, const struct manifest_entry *x, struct err *e);
    // Something to tell: a path in the archive, and what ("vanished", "socket skipped" …).
    void (*note)(void *arg, const char *path, const char *what);
    // Bytes were read.
    void (*progress)(void *arg, int64_t bytes);
};

struct tree; // remembers hardlinks over all roots

struct tree *tree_new(struct tar *t, char *const *exclude, const struct tree_calls *calls,
                      void *arg); // NULL: out of memory

// Archives root as files/NAME/…. A root that is not there, and what may not be read, is an error.
int tree_walk(struct tree *w, const struct root *root, struct tree_counts *counts, struct err *e);

// Adds up what a root holds (without excludes' subtrees): entries and bytes, for the space check
// and the progress bar. Once *enough is true it ends with what it has.
int tree_measure(const struct root *root, char *const *exclude, const atomic_bool *enough,
                 struct tree_counts *counts, struct err *e);

// Whether a glob of the list fits. path is "NAME/below/it". A glob with a slash is matched with
// the whole path ('*' also fits slashes), one without with the last component.
bool tree_excluded(char *const *exclude, const char *path);

void tree_free(struct tree *w);

#endif
