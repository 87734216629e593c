// An archive back into databases and folders, and the drill that proves it can be done.
#ifndef BACKUP_RESTORE_H
#define BACKUP_RESTORE_H

#include "backup/extract.h"
#include "backup/load.h"
#include "backup/options.h"
#include "backup/progress.h"
#include "backup/reader.h"
#include "backup/store.h"
#include "backup/target.h"
#include "base/err.h"

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    RESTORE_ROOTS = 32,
    RESTORE_NAMES = 64,
};

// What was asked for.
struct restore_wants {
    bool databases;                             // any at all
    bool files;                                 // any at all
    char **only_databases;                      // NULL: all; NULL-terminated, as all lists here
    char **only_roots;                          // NULL: all
    char **only_paths;                          // globs of ROOT/path; NULL: all
    struct sqledit_name map[RESTORE_NAMES + 1]; // OLD → NEW
    const char *single;                         // one NEW for the only database
    const char *to_dir;                         // roots go to to_dir/ROOT
    struct root to_root[RESTORE_ROOTS + 1];     // and these go there
    bool in_place;                              // the others go where [backup] files says
    const char *definer;                        // "keep", "drop" or an account
    bool force, owners, external_links, no_verify, drill;
    int64_t max_bytes;   // 0: no limit
    const char *scratch; // the drill's folder; NULL: TMPDIR or /tmp
};

struct restore {
    struct options o;
    struct restore_wants wants;
    const char *archive;
    struct store *store;
    char *name; // of the archive in the store
    struct load_options load_options;
    char definer[160];
    struct load *load;
    struct extract *extract;
    struct target targets[RESTORE_ROOTS];
    char target_names[RESTORE_ROOTS][256];
    int ntargets;
    struct reader_result proven; // of the first pass; manifest NULL: there was none
    struct progress progress;
    int64_t seen_bytes;          // of entries, against max_bytes
    bool in_file;                // the current entry is extracted
    volatile sig_atomic_t *stop; // number of a signal that came, or 0
};

// Fills r from the command line. 1: help was printed.
int restore_parse(struct restore *r, int argc, char **argv, struct err *e);

// The first pass: the whole archive is read and proven, and r->proven says what it holds.
int restore_prove(struct restore *r, struct err *e);

// The second: databases are loaded, files extracted beside their targets.
int restore_write(struct restore *r, struct err *e);

// Puts the files in place.
int restore_publish(struct restore *r, struct err *e);

// Ends everything; what was not published is removed.
void restore_close(struct restore *r);

// Restores into scratch databases and a scratch folder, compares, reports, cleans up.
int drill_run(struct restore *r, struct err *e);

#endif
