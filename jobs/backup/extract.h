// Files of an archive on their way to disk, by libarchive's archive_write_disk, so that no archive
// reaches beyond its folder: only files, folders, symlinks and hardlinks; no absolute paths, no
// "..", nothing through a symlink, no links that lead outside, no setuid, no device.
//
// libarchive's paths are relative to the working folder: this module changes it (extract_finish
// changes it back), so a process extracts one archive at a time.
#ifndef BACKUP_EXTRACT_H
#define BACKUP_EXTRACT_H

#include "backup/reader.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct extract_options {
    bool external_links; // symlinks that lead out of their root are allowed
    bool owners;         // give files their uid and gid (needs root)
    int64_t max_bytes;   // of all files together; 0: no limit
};

struct extract;

int extract_new(const struct extract_options *o, struct extract **ret, struct err *e);

// Root `name` of the archive goes into the folder dir (kept open by the caller until finish).
int extract_root(struct extract *x, const char *name, int dir, struct err *e);

// The calls of a reader for entries of kind READER_FILE whose root was given and that are wanted;
// EX_DATAERR for what must not be in an archive.
int extract_begin(struct extract *x, const struct reader_entry *r, struct err *e);
int extract_data(struct extract *x, const void *data, size_t len, int64_t offset, struct err *e);
int extract_end(struct extract *x, struct err *e);

// What can be said about an entry before anything is written: its path, type and links. What
// extract_begin checks too.
int extract_check(const struct extract_options *o, const struct reader_entry *r, struct err *e);

// Sets what folders get last (times, modes) and ends.
int extract_finish(struct extract *x, struct err *e);

int64_t extract_entries(const struct extract *x);
int64_t extract_bytes(const struct extract *x);

void extract_free(struct extract *x); // NULL is allowed

// --- pure parts ---

// Splits "files/ROOT/rest": the root into root (256 bytes), *ret_rest points to the rest ("" for
// the root itself). -1: the path is none of ours, or has "", "." or ".." in it.
int extract_split(const char *path, char root[256], const char **ret_rest);

// Whether a symlink at `rest` (relative to its root) with this target stays within the root.
// ".." is counted at the target's beginning only: behind a name it could follow another link.
bool extract_link_stays(const char *rest, const char *target);

#endif
