// Standard output (or input). Redirected into a file it can be patched, unless it appends: there
// pwrite ignores its offset (pwrite(2), BUGS).
#include "backup/store.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

struct pipe_store {
    struct store store;
    off_t start; // where in the file the archive begins
    bool begun;
};

static int pipe_create(struct store *s, const char *name, struct err *e) {
    struct pipe_store *p = (struct pipe_store *)s;
    struct stat st;
    int flags = fcntl(STDOUT_FILENO, F_GETFL);
    if (flags < 0 || fstat(STDOUT_FILENO, &st) < 0)
        return err_errno(e, EX_CANTCREAT, "standard output");
    if (isatty(STDOUT_FILENO))
        return err_set(e, EX_USAGE, "an archive is not written to a terminal");
    if (p->begun && lseek(STDOUT_FILENO, p->start, SEEK_SET) < 0)
        return err_set(e, EX_IOERR, "standard output: cannot begin again on a pipe");
    p->start = lseek(STDOUT_FILENO, 0, SEEK_CUR);
    s->can_patch = S_ISREG(st.st_mode) && p->start >= 0 && !(flags & O_APPEND);
    return 0;
}

static int pipe_write(struct store *s, const void *data, size_t len, struct err *e) {
    ((struct pipe_store *)s)->begun = true;
    return file_write(STDOUT_FILENO, data, len) < 0 ? err_errno(e, EX_IOERR, "standard output") : 0;
}

static int pipe_patch(struct store *s, size_t offset, const void *data, size_t len, struct err *e) {
    struct pipe_store *p = (struct pipe_store *)s;
    ssize_t n = pwrite(STDOUT_FILENO, data, len, p->start + (off_t)offset);
    if (n == (ssize_t)len)
        return 0;
    errno = n < 0 ? errno : EIO;
    return err_errno(e, EX_IOERR, "standard output");
}

static int pipe_commit(struct store *s, struct err *e) {
    if (fsync(STDOUT_FILENO) == 0 || errno == EINVAL || errno == EROFS || errno == ENOTSUP)
        return 0;
    return err_errno(e, EX_IOERR, "standard output");
}

// A file keeps nothing of a failed run; what went into a pipe is gone, and lacks its end.
static void pipe_abort(struct store *s) {
    struct pipe_store *p = (struct pipe_store *)s;
    if (p->begun && s->can_patch && ftruncate(STDOUT_FILENO, p->start) == 0)
        lseek(STDOUT_FILENO, p->start, SEEK_SET);
}

static int pipe_open(struct store *s, const char *name, uint64_t offset, int64_t *ret_size,
                     struct err *e) {
    struct stat st;
    if (fstat(STDIN_FILENO, &st) < 0)
        return err_errno(e, EX_NOINPUT, "standard input");
    if (isatty(STDIN_FILENO))
        return err_set(e, EX_USAGE, "an archive is not read from a terminal");
    if (offset)
        return err_set(e, EX_SOFTWARE, "standard input: cannot seek");
    *ret_size = S_ISREG(st.st_mode) ? st.st_size : -1;
    return 0;
}

static ssize_t pipe_read(struct store *s, void *data, size_t size, struct err *e) {
    ssize_t n;
    do
        n = read(STDIN_FILENO, data, size);
    while (n < 0 && errno == EINTR);
    return n < 0 ? err_errno(e, EX_IOERR, "standard input") : n;
}

static void pipe_close_read(struct store *s) {
}

static void pipe_free(struct store *s) {
    free(s);
}

static const struct store_ops ops = {
    .create = pipe_create,
    .write = pipe_write,
    .patch = pipe_patch,
    .commit = pipe_commit,
    .abort = pipe_abort,
    .open = pipe_open,
    .read = pipe_read,
    .close_read = pipe_close_read,
    .free = pipe_free,
};

int store_pipe_open(const struct options *o, const char *destination, struct store **ret,
                    struct err *e) {
    struct pipe_store *p = calloc(1, sizeof *p);
    if (!p)
        return err_set(e, EX_OSERR, "out of memory");
    p->store = (struct store){&ops, "-", false, false};
    *ret = (struct store *)p;
    return 0;
}
