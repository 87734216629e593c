// A folder. An archive grows as ".NAME.part", is synced, and gets its name by a link that cannot
// replace anything; what the folder's lock holder finds as .part is litter of a dead run.
#include "backup/store.h"

#include "base/cleanup.h"
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sysexits.h>
#include <unistd.h>

#define LOCK_NAME ".civinit-backup.lock"
#define PART_END  ".part"

enum {
    SEND_BYTES = 8 << 20, // between two requests to write
};

struct dir_store {
    struct store store;
    char *path;
    int dir, lock, out, in;
    off_t sent; // told the disk to write
    size_t unsent;
    char name[256], part[256];
};

// Opened when first needed, so that a wrong path is an error of the command and not of parsing.
static int folder(struct dir_store *d, struct err *e) {
    if (d->dir < 0)
        d->dir = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return d->dir < 0 ? err_errno(e, errno == EACCES ? EX_NOPERM : EX_NOINPUT, "%s", d->path) : 0;
}

static int dir_lock(struct store *s, struct err *e) {
    struct dir_store *d = (struct dir_store *)s;
    if (folder(d, e) < 0) {
        if (e)
            e->code = e->code == EX_NOPERM ? EX_NOPERM : EX_CANTCREAT;
        return -1;
    }
    autoclose int fd = openat(d->dir, LOCK_NAME, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_errno(e, errno == EACCES ? EX_NOPERM : EX_CANTCREAT, "%s/%s", d->path,
                         LOCK_NAME);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK
                   ? err_set(e, EX_TEMPFAIL, "%s: another backup is running there", d->path)
                   : err_errno(e, EX_IOERR, "%s/%s", d->path, LOCK_NAME);
    d->lock = take_fd(&fd);
    return 0;
}

static void dir_abort(struct store *s) {
    struct dir_store *d = (struct dir_store *)s;
    if (d->out < 0)
        return;
    close(d->out);
    d->out = -1;
    unlinkat(d->dir, d->part, 0);
}

static int dir_create(struct store *s, const char *name, struct err *e) {
    struct dir_store *d = (struct dir_store *)s;
    dir_abort(s);
    if (folder(d, e) < 0)
        return -1;
    if (snprintf(d->part, sizeof d->part, ".%s%s", name, PART_END) >= (int)sizeof d->part)
        return err_set(e, EX_CANTCREAT, "%s: name too long", name);
    snprintf(d->name, sizeof d->name, "%s", name);
    if (faccessat(d->dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return err_set(e, EX_CANTCREAT, "%s/%s: is there already", d->path, name);
    d->out = openat(d->dir, d->part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (d->out < 0)
        return err_errno(e, errno == EACCES ? EX_NOPERM : EX_CANTCREAT, "%s/%s", d->path, d->part);
    return 0;
}

static int dir_write(struct store *s, const void *data, size_t len, struct err *e) {
    struct dir_store *d = (struct dir_store *)s;
    if (file_write(d->out, data, len) < 0)
        return err_errno(e, EX_IOERR, "%s/%s", d->path, d->part);
    // The disk begins now what the sync at the end would wait for; dirty pages count as the
    // container's memory, too. Where it cannot be, nothing is lost: the sync tells errors.
    d->unsent += len;
    if (d->unsent >= SEND_BYTES) {
        sync_file_range(d->out, d->sent, (off_t)d->unsent, SYNC_FILE_RANGE_WRITE);
        d->sent += (off_t)d->unsent;
        d->unsent = 0;
    }
    return 0;
}

static int dir_patch(struct store *s, size_t offset, const void *data, size_t len, struct err *e) {
    struct dir_store *d = (struct dir_store *)s;
    ssize_t n = pwrite(d->out, data, len, (off_t)offset);
    if (n == (ssize_t)len)
        return 0;
    errno = n < 0 ? errno : EIO;
    return err_errno(e, EX_IOERR, "%s/%s", d->path, d->part);
}

// Some network file systems know no hard links: there a check and a rename under the lock do.
static int give_name(struct dir_store *d) {
    if (linkat(d->dir, d->part, d->dir, d->name, 0) == 0)
        return unlinkat(d->dir, d->part, 0);
    if (errno == EEXIST)
        return -1;
    if (faccessat(d->dir, d->name, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
        errno = EEXIST;
        return -1;
    }
    return renameat(d->dir, d->part, d->dir, d->name);
}

static int dir_commit(struct store *s, struct err *e) {
    struct dir_store *d = (struct dir_store *)s;
    if (fsync(d->out) < 0)
        return err_errno(e, EX_IOERR, "%s/%s", d->path, d->part);
    if (give_name(d) < 0)
        return err_errno(e, EX_CANTCREAT, "%s/%s", d->path, d->name);
    int out = d->out;
    d->out = -1;
    if (close(out) < 0 || fsync(d->dir) < 0) {
        err_errno(e, EX_IOERR, "%s/%s", d->path, d->name);
        unlinkat(d->dir, d->name, 0);
        return -1;
    }
    return 0;
}

static void dir_close_read(struct store *s) {
    struct dir_store *d = (struct dir_store *)s;
    if (d->in >= 0)
        close(d->in);
    d->in = -1;
}

static int dir_open(struct store *s, const char *name, uint64_t offset, int64_t *ret_size,
                    struct err *e) {
    struct dir_store *d = (struct dir_store *)s;
    struct stat st;
    if (folder(d, e) < 0)
        return -1;
    autoclose int fd = openat(d->dir, name, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return err_errno(e, errno == EACCES ? EX_NOPERM : EX_NOINPUT, "%s/%s", d->path, name);
    if (fstat(fd, &st) < 0)
        return err_errno(e, EX_IOERR, "%s/%s", d->path, name);
    if (S_ISDIR(st.st_mode))
        return err_set(e, EX_NOINPUT, "%s/%s: is a folder, not an archive", d->path, name);
    if (offset && lseek(fd, (off_t)offset, SEEK_SET) < 0)
        return err_errno(e, EX_IOERR, "%s/%s", d->path, name);
    posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    dir_close_read(s);
    snprintf(d->name, sizeof d->name, "%s", name);
    d->in = take_fd(&fd);
    *ret_size = S_ISREG(st.st_mode) ? st.st_size : -1;
    return 0;
}

static ssize_t dir_read(struct store *s, void *data, size_t size, struct err *e) {
    struct dir_store *d = (struct dir_store *)s;
    ssize_t n;
    do
        n = read(d->in, data, size);
    while (n < 0 && errno == EINTR);
    return n < 0 ? err_errno(e, EX_IOERR, "%s/%s", d->path, d->name) : n;
}

static int dir_list(struct store *s, store_each *each, void *arg, struct err *e) {
    struct dir_store *d = (struct dir_store *)s;
    if (folder(d, e) < 0)
        return -1;
    DIR *list = NULL;
    int fd = openat(d->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || !(list = fdopendir(fd))) {
        err_errno(e, EX_IOERR, "%s", d->path);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    int rc = 0;
    for (struct dirent *x; rc == 0 && (x = readdir(list));) {
        struct stat st;
        if (x->d_name[0] == '.' || fstatat(fd, x->d_name, &st, 0) < 0 || !S_ISREG(st.st_mode))
            continue;
        rc = each(arg, x->d_name, st.st_size,
                  st.st_mtim.tv_sec * 1000LL + st.st_mtim.tv_nsec / 1000000);
    }
    closedir(list);
    return rc;
}

static int dir_remove(struct store *s, const char *name, struct err *e) {
    struct dir_store *d = (struct dir_store *)s;
    if (folder(d, e) < 0)
        return -1;
    return unlinkat(d->dir, name, 0) < 0 ? err_errno(e, EX_IOERR, "%s/%s", d->path, name) : 0;
}

static int dir_sweep(struct store *s, int *ret_removed, struct err *e) {
    struct dir_store *d = (struct dir_store *)s;
    if (folder(d, e) < 0)
        return -1;
    int fd = openat(d->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), n = 0;
    DIR *list = fd < 0 ? NULL : fdopendir(fd);
    if (!list) {
        err_errno(e, EX_IOERR, "%s", d->path);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    for (struct dirent *x; (x = readdir(list));) {
        size_t len = strlen(x->d_name), end = sizeof PART_END - 1;
        int64_t when;
        char name[256];
        if (x->d_name[0] != '.' || len <= end + 1 || strcmp(x->d_name + len - end, PART_END) != 0)
            continue;
        snprintf(name, sizeof name, "%.*s", (int)(len - end - 1), x->d_name + 1);
        if (store_name_time(name, NULL, &when) && unlinkat(fd, x->d_name, 0) == 0)
            n++;
    }
    closedir(list);
    *ret_removed = n;
    return 0;
}

static int64_t dir_space(struct store *s) {
    struct dir_store *d = (struct dir_store *)s;
    struct statvfs v;
    if (folder(d, NULL) < 0 || fstatvfs(d->dir, &v) < 0)
        return -1;
    return (int64_t)v.f_bavail * (int64_t)v.f_frsize;
}

static void dir_free(struct store *s) {
    struct dir_store *d = (struct dir_store *)s;
    dir_abort(s);
    dir_close_read(s);
    if (d->lock >= 0)
        close(d->lock);
    if (d->dir >= 0)
        close(d->dir);
    free(d->path);
    free(d);
}

static const struct store_ops ops = {
    .create = dir_create,
    .write = dir_write,
    .patch = dir_patch,
    .commit = dir_commit,
    .abort = dir_abort,
    .open = dir_open,
    .read = dir_read,
    .close_read = dir_close_read,
    .list = dir_list,
    .remove = dir_remove,
    .sweep = dir_sweep,
    .lock = dir_lock,
    .space = dir_space,
    .free = dir_free,
};

int store_dir_open(const struct options *o, const char *destination, struct store **ret,
                   struct err *e) {
    struct dir_store *d = calloc(1, sizeof *d);
    char *path = strdup(destination);
    if (!d || !path) {
        free(d);
        free(path);
        return err_set(e, EX_OSERR, "out of memory");
    }
    d->path = path;
    d->dir = d->lock = d->out = d->in = -1;
    d->store = (struct store){&ops, path, true, true};
    *ret = (struct store *)d;
    return 0;
}
