// Whole files: read with a limit, replaced atomically; and descriptors written to the end.
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include "base/err.h"

#include <stddef.h>
#include <sys/types.h>

// Reads the whole of a regular file (or pipe) of at most max_bytes into *ret (NUL-terminated, the
// caller's to free). FIFOs without a writer do not block.
int file_read(const char *path, size_t max_bytes, char **ret, size_t *ret_len, struct err *e);

// As file_read, for a secret: without the newlines at its end.
int file_secret(const char *path, char **ret, struct err *e);

// Replaces path by temporary file and rename; durable = with fsync of file and folder.
int file_replace(const char *path, const void *data, size_t len, mode_t mode, int durable,
                 struct err *e);

// Writes all of data to a blocking descriptor, over EINTR and short writes. 0, or -1 with errno.
int file_write(int fd, const void *data, size_t len);

#endif
