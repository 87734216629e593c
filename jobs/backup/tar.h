// The tar writer, by libarchive: entries in, bytes to the compression stage out. Each entry's
// content is hashed on the way. The only writer of archives that knows <archive.h>.
#ifndef BACKUP_TAR_H
#define BACKUP_TAR_H

#include "backup/stage.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

struct tar;

enum {
    TAR_SHA_TEXT = 65, // 64 hex digits and a NUL
};

struct tar_item {
    const char *path;      // in the archive, any bytes
    int fd;                // open for reading: its ACL, xattrs and holes are taken; -1: none
    const struct stat *st; // a regular file, a folder or a symbolic link
    const char *symlink;   // target of a symbolic link
    const char *hardlink;  // path of the entry that holds the content already
};

int tar_new(struct stage *g, struct tar **ret, struct err *e);

// An entry; after that, for a regular file that is no hardlink, st_size bytes by tar_data (holes
// as zeros), then tar_end.
int tar_begin(struct tar *t, const struct tar_item *x, struct err *e);
int tar_data(struct tar *t, const void *data, size_t len, struct err *e);

// The file's data that lies at or after offset: *ret_start up to *ret_end; false: only a hole is
// left. What lies between is a hole in the archive, whatever the file holds there by now.
bool tar_next_data(struct tar *t, int64_t offset, int64_t *ret_start, int64_t *ret_end);

int tar_end(struct tar *t, char ret_sha256[TAR_SHA_TEXT], struct err *e);

// A whole file from memory, mode 0600: the pieces one after the other, ended by {NULL, 0}.
struct tar_text {
    const void *data;
    size_t len;
};
int tar_memory(struct tar *t, const char *path, const struct tar_text *pieces, int64_t mtime_ms,
               char ret_sha256[TAR_SHA_TEXT], struct err *e);

// The next entry begins a block of the stage; where.
int tar_mark(struct tar *t, uint64_t *ret_offset, struct err *e);

// The end of the archive.
int tar_close(struct tar *t, struct err *e);

void tar_free(struct tar *t); // NULL is fine

// SHA-256 of a stream, for what does not go through tar_data.
struct digest;
struct digest *digest_new(void); // NULL: out of memory
void digest_add(struct digest *d, const void *data, size_t len);
void digest_end(struct digest *d, char ret[TAR_SHA_TEXT]); // and begins anew
void digest_free(struct digest *d);

#endif
