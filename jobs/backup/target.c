#include "backup/target.h"

#include "base/cleanup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sysexits.h>
#include <unistd.h>

#define INSIDE_NEW ".civinit-restore.new"
#define INSIDE_OLD ".civinit-restore.old"

// Calls each for the names in a folder.
static int each_name(int dir, int (*each)(void *arg, int dir, const char *name), void *arg) {
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;
    DIR *list = fd < 0 ? NULL : fdopendir(fd);
    if (!list) {
        if (fd >= 0)
            close(fd);
        return -1;
    }
    for (struct dirent *x; rc == 0 && (x = readdir(list));)
        if (strcmp(x->d_name, ".") != 0 && strcmp(x->d_name, "..") != 0)
            rc = each(arg, dir, x->d_name);
    int number = errno;
    closedir(list);
    errno = number;
    return rc;
}

// The depth of folders is bounded by PATH_MAX, and so is this recursion.
static int remove_one(void *arg, int dir, const char *name) {
    if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return -1;
    autoclose int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) // a folder that was restored without the right to read it
        return fchmodat(dir, name, 0700, 0) == 0 ? unlinkat(dir, name, AT_REMOVEDIR) : -1;
    fchmod(fd, 0700);
    return target_empty(fd) < 0 ? -1 : unlinkat(dir, name, AT_REMOVEDIR);
}

int target_empty(int dir) {
    return each_name(dir, remove_one, NULL);
}

static int remove_tree(const char *path) {
    return remove_one(NULL, AT_FDCWD, path);
}

// What a file system has of its own does not count, nor does a former restore's folder.
static bool is_own(const char *name) {
    return strcmp(name, "lost+found") == 0 || strcmp(name, INSIDE_NEW) == 0 ||
           strcmp(name, INSIDE_OLD) == 0;
}

static int found_one(void *arg, int dir, const char *name) {
    return is_own(name) ? 0 : 1;
}

// Whether path must be filled from within: it is a mount point, or its parent is not ours.
static bool is_fixed(const char *path, const char *parent) {
    struct stat a, b;
    if (stat(path, &a) < 0 || stat(parent, &b) < 0)
        return false;
    return a.st_dev != b.st_dev || access(parent, W_OK) < 0;
}

static int check_target(struct target *t, struct err *e) {
    struct stat st;
    char parent[PATH_MAX];
    snprintf(parent, sizeof parent, "%s", t->path);
    char *slash = strrchr(parent, '/');
    slash[slash == parent] = '\0';
    if (lstat(t->path, &st) < 0)
        return errno == ENOENT ? 0 : err_errno(e, EX_CANTCREAT, "%s", t->path);
    if (S_ISLNK(st.st_mode) && (stat(t->path, &st) < 0 || !S_ISDIR(st.st_mode)))
        return err_set(e, EX_CANTCREAT, "%s is a link to no folder", t->path);
    if (!S_ISDIR(st.st_mode))
        return err_set(e, EX_CANTCREAT, "%s is no folder", t->path);
    autoclose int fd = open(t->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int used = fd < 0 ? -1 : each_name(fd, found_one, NULL);
    if (used < 0)
        return err_errno(e, errno == EACCES ? EX_NOPERM : EX_CANTCREAT, "%s", t->path);
    if (used && !t->force)
        return err_set(e, EX_CANTCREAT, "%s is not empty: --force replaces it", t->path);
    t->inside = is_fixed(t->path, parent);
    return 0;
}

// An absolute path without a '/' at its end and, where it exists, without links.
static int resolve(struct target *t, const char *path, struct err *e) {
    char *real = realpath(path, NULL);
    char cwd[PATH_MAX];
    int n;
    if (real)
        n = snprintf(t->path, sizeof t->path, "%s", real);
    else if (*path == '/')
        n = snprintf(t->path, sizeof t->path, "%s", path);
    else
        n = getcwd(cwd, sizeof cwd) ? snprintf(t->path, sizeof t->path, "%s/%s", cwd, path) : -1;
    free(real);
    if (n < 0 || n >= (int)sizeof t->path)
        return err_set(e, EX_CANTCREAT, "%s: path too long", path);
    while (n > 1 && t->path[n - 1] == '/')
        t->path[--n] = '\0';
    return n > 1 ? 0 : err_set(e, EX_CANTCREAT, "the root folder cannot be restored into");
}

int target_begin(struct target *t, const char *path, bool force, struct err *e) {
    t->fd = -1;
    t->force = force;
    t->inside = false;
    if (resolve(t, path, e) < 0 || check_target(t, e) < 0)
        return -1;
    if (snprintf(t->staging, sizeof t->staging, t->inside ? "%s/" INSIDE_NEW : "%s.new", t->path) >=
        (int)sizeof t->staging)
        return err_set(e, EX_CANTCREAT, "%s: path too long", path);
    if (mkdir(t->staging, 0700) < 0 && errno != EEXIST)
        return err_errno(e, errno == EACCES || errno == EROFS ? EX_NOPERM : EX_CANTCREAT, "%s",
                         t->staging);
    autoclose int fd = open(t->staging, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, EX_CANTCREAT, "%s", t->staging);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK
                   ? err_set(e, EX_TEMPFAIL, "%s: another restore is at work", t->staging)
                   : err_errno(e, EX_IOERR, "%s", t->staging);
    if (target_empty(fd) < 0)
        return err_errno(e, EX_CANTCREAT, "%s: what is left of a former restore", t->staging);
    t->fd = take_fd(&fd);
    return 0;
}

int64_t target_space(const struct target *t) {
    struct statvfs v;
    if (fstatvfs(t->fd, &v) < 0)
        return -1;
    return (int64_t)v.f_bavail * (int64_t)v.f_frsize;
}

struct move {
    int from, to;
};

static int move_one(void *arg, int dir, const char *name) {
    struct move *m = arg;
    if (is_own(name))
        return 0;
    return renameat(m->from, name, m->to, name);
}

// A mount point's content: the old goes aside, the new comes in, the old is removed.
static int publish_inside(struct target *t, struct err *e) {
    autoclose int top = open(t->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (top < 0 || (mkdirat(top, INSIDE_OLD, 0700) < 0 && errno != EEXIST))
        return err_errno(e, EX_CANTCREAT, "%s", t->path);
    autoclose int old = openat(top, INSIDE_OLD, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (old < 0 || target_empty(old) < 0)
        return err_errno(e, EX_CANTCREAT, "%s/%s", t->path, INSIDE_OLD);
    struct move aside = {top, old}, in = {t->fd, top}, back = {old, top};
    if (each_name(top, move_one, &aside) < 0 || each_name(t->fd, move_one, &in) < 0) {
        err_errno(e, EX_IOERR, "%s: putting the files in place", t->path);
        each_name(old, move_one, &back); // names already taken by the new stay
        return -1;
    }
    struct stat st;
    if (fstat(t->fd, &st) == 0 && fchmod(top, st.st_mode & 07777) == 0)
        (void)!fchown(top, st.st_uid, st.st_gid);
    fsync(top);
    target_empty(old);
    unlinkat(top, INSIDE_OLD, AT_REMOVEDIR);
    unlinkat(top, INSIDE_NEW, AT_REMOVEDIR);
    return 0;
}

static void sync_parent(const char *path) {
    char parent[PATH_MAX];
    snprintf(parent, sizeof parent, "%s", path);
    char *slash = strrchr(parent, '/');
    slash[slash == parent] = '\0';
    autoclose int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0)
        fsync(fd);
}

// Both folders change their names at once; where that is unknown, the old one goes aside first.
static int swap(struct target *t, struct err *e) {
    char old[PATH_MAX + 8];
    if (renameat2(AT_FDCWD, t->staging, AT_FDCWD, t->path, RENAME_EXCHANGE) == 0) {
        sync_parent(t->path);
        return remove_tree(t->staging) < 0
                   ? err_errno(e, EX_IOERR, "%s: removing what was there before", t->staging)
                   : 0;
    }
    snprintf(old, sizeof old, "%s.old", t->path);
    if (rename(t->path, old) < 0)
        return err_errno(e, EX_CANTCREAT, "%s", old);
    if (rename(t->staging, t->path) < 0) {
        err_errno(e, EX_CANTCREAT, "%s", t->path);
        rename(old, t->path);
        return -1;
    }
    sync_parent(t->path);
    return remove_tree(old) < 0 ? err_errno(e, EX_IOERR, "%s: removing it", old) : 0;
}

int target_publish(struct target *t, struct err *e) {
    if (syncfs(t->fd) < 0)
        return err_errno(e, EX_IOERR, "%s", t->staging);
    int rc = 0;
    if (t->inside)
        rc = publish_inside(t, e);
    else if (rename(t->staging, t->path) == 0) // also over an empty folder
        sync_parent(t->path);
    else if (errno == ENOTEMPTY || errno == EEXIST)
        rc = t->force ? swap(t, e) : err_set(e, EX_CANTCREAT, "%s is no longer empty", t->path);
    else
        rc = err_errno(e, EX_CANTCREAT, "%s", t->path);
    if (rc == 0) {
        close(t->fd);
        t->fd = -1;
    }
    return rc;
}

void target_discard(struct target *t) {
    if (t->fd < 0)
        return;
    target_empty(t->fd);
    rmdir(t->staging);
    close(t->fd);
    t->fd = -1;
}
