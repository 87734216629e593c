#include "backup/extract.h"

#include "backup/manifest.h"
#include "base/cleanup.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sysexits.h>
#include <unistd.h>

enum {
    ROOTS_MAX = 64,
    FLAGS = ARCHIVE_EXTRACT_TIME | ARCHIVE_EXTRACT_PERM | ARCHIVE_EXTRACT_ACL |
            ARCHIVE_EXTRACT_XATTR | ARCHIVE_EXTRACT_SPARSE | ARCHIVE_EXTRACT_SECURE_SYMLINKS |
            ARCHIVE_EXTRACT_SECURE_NODOTDOT | ARCHIVE_EXTRACT_SECURE_NOABSOLUTEPATHS |
            ARCHIVE_EXTRACT_NO_OVERWRITE,
};

struct place {
    char name[256];
    int dir;
    struct archive *disk;
    bool has_mode; // of the root folder itself: set at the end
    mode_t mode;
    uid_t uid;
    gid_t gid;
    struct timespec mtime;
    struct archive_entry *attributes; // its ACLs and xattrs; NULL: none
};

struct extract {
    struct extract_options o;
    int home; // the working folder before
    struct place places[ROOTS_MAX];
    int n;
    struct place *now;           // where the current entry goes, NULL: none
    struct archive_entry *entry; // the current one, changed
    char path[256];              // of the current one, for messages
    int64_t size, entries, bytes;
};

int extract_split(const char *path, char root[256], const char **ret_rest) {
    size_t n = strlen(FILES_PREFIX);
    if (strncmp(path, FILES_PREFIX, n) != 0)
        return -1;
    for (const char *p = path + n;;) {
        size_t len = strcspn(p, "/");
        bool dots = (len == 1 && p[0] == '.') || (len == 2 && p[0] == '.' && p[1] == '.');
        if (dots || (len == 0 && (p[0] || p == path + n)))
            return -1;
        if (!p[len] || !p[len + 1]) // "a/" is a folder's way of writing
            break;
        p += len + 1;
    }
    const char *name = path + n;
    size_t len = strcspn(name, "/");
    if (len >= 256)
        return -1;
    memcpy(root, name, len);
    root[len] = '\0';
    *ret_rest = name + len + (name[len] == '/');
    return 0;
}

bool extract_link_stays(const char *rest, const char *target) {
    int depth = 0;
    for (const char *p = rest; (p = strchr(p, '/')); p++)
        depth++;
    if (*target == '/' || !*target)
        return false;
    bool named = false;
    while (*target) {
        size_t n = strcspn(target, "/");
        if (n == 2 && target[0] == '.' && target[1] == '.') {
            if (named || --depth < 0)
                return false;
        } else if (n && !(n == 1 && target[0] == '.')) {
            named = true;
        }
        target += n;
        target += *target == '/';
    }
    return true;
}

int extract_new(const struct extract_options *o, struct extract **ret, struct err *e) {
    struct extract *x = calloc(1, sizeof *x);
    if (!x)
        return err_set(e, EX_OSERR, "out of memory");
    x->o = *o;
    x->home = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (x->home < 0) {
        free(x);
        return err_errno(e, EX_OSERR, "the working folder");
    }
    *ret = x;
    return 0;
}

int extract_root(struct extract *x, const char *name, int dir, struct err *e) {
    if (x->n == ROOTS_MAX || strlen(name) > 255)
        return err_set(e, EX_CONFIG, "%s: too many roots, or too long a name", name);
    struct place *p = &x->places[x->n];
    snprintf(p->name, sizeof p->name, "%s", name);
    p->dir = dir;
    p->disk = archive_write_disk_new();
    if (!p->disk)
        return err_set(e, EX_OSERR, "out of memory");
    x->n++;
    // Names of users are not looked up: numbers mean the same in every container.
    archive_write_disk_set_options(p->disk, FLAGS | (x->o.owners ? ARCHIVE_EXTRACT_OWNER : 0));
    return 0;
}

static int hostile(const char *path, const char *why, struct err *e) {
    return err_set(e, EX_DATAERR, "%s: %s: not restored", path, why);
}

// The root and the path in it of a hardlink's target. -1: not in the same root.
static int hardlink_target(struct archive_entry *a, const char *root, const char **ret_rest) {
    char other[256];
    const char *target = archive_entry_hardlink(a);
    return !target || extract_split(target, other, ret_rest) < 0 || strcmp(root, other) != 0 ||
                   !**ret_rest
               ? -1
               : 0;
}

int extract_check(const struct extract_options *o, const struct reader_entry *r, struct err *e) {
    char root[256];
    const char *rest, *linked;
    if (extract_split(r->path, root, &rest) < 0)
        return hostile(r->path, "a path that leads out of its root", e);
    if (archive_entry_hardlink(r->entry))
        return hardlink_target(r->entry, root, &linked) < 0
                   ? hostile(r->path, "a hardlink that leads out of its root", e)
                   : 0;
    mode_t type = archive_entry_filetype(r->entry);
    if (!*rest && type != AE_IFDIR)
        return hostile(r->path, "a root that is no folder", e);
    if (type == AE_IFLNK) {
        const char *target = archive_entry_symlink(r->entry);
        if (!target || !*target)
            return hostile(r->path, "a symlink without a target", e);
        if (!o->external_links && !extract_link_stays(rest, target))
            return hostile(r->path, "a symlink that leads out of its root (--allow-external-links)",
                           e);
    } else if (type != AE_IFREG && type != AE_IFDIR) {
        return hostile(r->path, "neither file, folder, symlink nor hardlink", e);
    }
    return 0;
}

// What libarchive says; its paths are relative and are left out.
static int failed(struct extract *x, struct archive *disk, struct err *e) {
    int number = archive_errno(disk);
    const char *text = archive_error_string(disk);
    int code = number == ENOSPC || number == EDQUOT || number == EFBIG  ? EX_CANTCREAT
               : number == EACCES || number == EPERM || number == EROFS ? EX_NOPERM
               : number == EIO                                          ? EX_IOERR
                                                                        : EX_DATAERR;
    return err_set(e, code, "%s: %s%s%s", x->path, text ? text : "cannot be written",
                   number > 0 ? ": " : "", number > 0 ? strerror(number) : "");
}

// A hardlink's target must be a regular file of the same root, reached through folders only.
static int check_hardlink(struct extract *x, struct err *e) {
    const char *rest;
    struct open_how how = {.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
    struct stat st;
    if (hardlink_target(x->entry, x->now->name, &rest) < 0)
        return hostile(x->path, "a hardlink that leads out of its root", e);
    autoclose int fd = (int)syscall(SYS_openat2, x->now->dir, rest, &how, sizeof how);
    if (fd < 0 && errno == ENOSYS) // an old kernel: libarchive's own checks have to do
        fd = openat(x->now->dir, rest, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return err_set(e, EX_DATAERR, "%s: a hardlink to %s/%s, which is not restored before it",
                       x->path, x->now->name, rest);
    autofree char *copy = strdup(rest);
    if (!copy)
        return err_set(e, EX_OSERR, "out of memory");
    archive_entry_set_hardlink(x->entry, copy);
    return 0;
}

// Attributes of users only: security.capability would be another setuid.
static int clean_xattrs(struct archive_entry *entry) {
    struct archive_entry *from = archive_entry_clone(entry);
    if (!from)
        return -1;
    archive_entry_xattr_clear(entry);
    archive_entry_xattr_reset(from);
    const char *name;
    const void *value;
    size_t len;
    while (archive_entry_xattr_next(from, &name, &value, &len) == ARCHIVE_OK)
        if (strncmp(name, "user.", 5) == 0)
            archive_entry_xattr_add_entry(entry, name, value, len);
    archive_entry_free(from);
    return 0;
}

// Takes away what a restored entry must not have: setuid (and setgid of files), others' attributes.
static int tame(struct extract *x, struct err *e) {
    struct archive_entry *a = x->entry;
    mode_t mode = archive_entry_perm(a);
    if (archive_entry_hardlink(a))
        return check_hardlink(x, e);
    if (archive_entry_filetype(a) == AE_IFREG)
        archive_entry_set_perm(a, mode & 0777);
    else if (archive_entry_filetype(a) == AE_IFDIR)
        archive_entry_set_perm(a, mode & 03777);
    if (archive_entry_xattr_count(a) && clean_xattrs(a) < 0)
        return err_set(e, EX_OSERR, "out of memory");
    return 0;
}

// The root folder itself: remembered for the end.
static int root_folder(struct extract *x, struct err *e) {
    struct place *p = x->now;
    bool any = archive_entry_xattr_count(x->entry) || archive_entry_acl_types(x->entry);
    if (any && (clean_xattrs(x->entry) < 0 || !(p->attributes = archive_entry_clone(x->entry))))
        return err_set(e, EX_OSERR, "out of memory");
    x->now = NULL;
    p->has_mode = true;
    p->mode = archive_entry_perm(x->entry) & 03777;
    p->uid = (uid_t)archive_entry_uid(x->entry);
    p->gid = (gid_t)archive_entry_gid(x->entry);
    p->mtime = (struct timespec){archive_entry_mtime(x->entry), archive_entry_mtime_nsec(x->entry)};
    x->entries++;
    return 0;
}

static int write_header(struct extract *x, const char *rest, struct err *e) {
    struct stat st;
    bool dir = archive_entry_filetype(x->entry) == AE_IFDIR;
    autofree char *copy = strdup(rest);
    if (!copy)
        return err_set(e, EX_OSERR, "out of memory");
    size_t n = strlen(copy);
    if (n && copy[n - 1] == '/')
        copy[n - 1] = '\0';
    archive_entry_set_pathname(x->entry, copy);
    if (fchdir(x->now->dir) < 0)
        return err_errno(e, EX_OSERR, "%s", x->path);
    // libarchive would keep the older of two without a word.
    if (fstatat(x->now->dir, copy, &st, AT_SYMLINK_NOFOLLOW) == 0 && !(dir && S_ISDIR(st.st_mode)))
        return hostile(x->path, "it comes twice", e);
    if (archive_write_header(x->now->disk, x->entry) != ARCHIVE_OK)
        return failed(x, x->now->disk, e);
    x->entries++;
    return 0;
}

int extract_begin(struct extract *x, const struct reader_entry *r, struct err *e) {
    char root[256] = "";
    const char *rest = "";
    x->now = NULL;
    snprintf(x->path, sizeof x->path, "%s", r->path);
    if (extract_check(&x->o, r, e) < 0)
        return -1;
    extract_split(r->path, root, &rest);
    for (int i = 0; i < x->n; i++)
        if (strcmp(x->places[i].name, root) == 0)
            x->now = &x->places[i];
    if (!x->now)
        return hostile(x->path, "of a root that nobody asked for", e);
    archive_entry_free(x->entry);
    x->entry = archive_entry_clone(r->entry);
    if (!x->entry)
        return err_set(e, EX_OSERR, "out of memory");
    if (!*rest)
        return root_folder(x, e);
    x->size = archive_entry_size(x->entry);
    x->bytes += x->size;
    if (x->o.max_bytes && x->bytes > x->o.max_bytes)
        return err_set(e, EX_DATAERR,
                       "%s: the files are larger than --max-size allows (%lld bytes)", x->path,
                       (long long)x->o.max_bytes);
    if (tame(x, e) < 0)
        return -1;
    return write_header(x, rest, e);
}

int extract_data(struct extract *x, const void *data, size_t len, int64_t offset, struct err *e) {
    if (!x->now || !len)
        return 0;
    if (offset < 0 || offset > x->size || (int64_t)len > x->size - offset)
        return hostile(x->path, "longer than its header says", e);
    if (archive_write_data_block(x->now->disk, data, len, offset) < ARCHIVE_OK)
        return failed(x, x->now->disk, e);
    return 0;
}

int extract_end(struct extract *x, struct err *e) {
    if (!x->now)
        return 0;
    if (archive_write_finish_entry(x->now->disk) != ARCHIVE_OK)
        return failed(x, x->now->disk, e);
    x->now = NULL;
    return 0;
}

// In the working folder.
static int root_attributes(struct extract *x, struct place *p, struct err *e) {
    struct archive *disk = archive_write_disk_new();
    if (!disk)
        return err_set(e, EX_OSERR, "out of memory");
    // Without PERM libarchive takes it for no folder, and sets no default ACL.
    archive_write_disk_set_options(disk, ARCHIVE_EXTRACT_PERM | ARCHIVE_EXTRACT_ACL |
                                             ARCHIVE_EXTRACT_XATTR);
    archive_entry_set_pathname(p->attributes, ".");
    archive_entry_set_perm(p->attributes, p->mode);
    int rc = archive_write_header(disk, p->attributes) == ARCHIVE_OK &&
                     archive_write_close(disk) == ARCHIVE_OK
                 ? 0
                 : failed(x, disk, e);
    archive_write_free(disk);
    return rc;
}

static int finish_place(struct extract *x, struct place *p, struct err *e) {
    snprintf(x->path, sizeof x->path, "%s%s", FILES_PREFIX, p->name);
    if (fchdir(p->dir) < 0)
        return err_errno(e, EX_OSERR, "%s", x->path);
    if (archive_write_close(p->disk) != ARCHIVE_OK)
        return failed(x, p->disk, e);
    archive_write_free(p->disk);
    p->disk = NULL;
    if (!p->has_mode)
        return fchmod(p->dir, 0755) < 0 ? err_errno(e, EX_CANTCREAT, "%s", x->path) : 0;
    if (p->attributes && root_attributes(x, p, e) < 0)
        return -1;
    struct timespec times[2] = {{0, UTIME_OMIT}, p->mtime};
    if ((x->o.owners && fchown(p->dir, p->uid, p->gid) < 0) || fchmod(p->dir, p->mode) < 0 ||
        futimens(p->dir, times) < 0)
        return err_errno(e, EX_CANTCREAT, "%s", x->path);
    return 0;
}

int extract_finish(struct extract *x, struct err *e) {
    int rc = 0;
    for (int i = 0; rc == 0 && i < x->n; i++)
        rc = finish_place(x, &x->places[i], e);
    if (fchdir(x->home) < 0 && rc == 0)
        rc = err_errno(e, EX_OSERR, "going back to the working folder");
    return rc;
}

int64_t extract_entries(const struct extract *x) {
    return x->entries;
}

int64_t extract_bytes(const struct extract *x) {
    return x->bytes;
}

void extract_free(struct extract *x) {
    if (!x)
        return;
    for (int i = 0; i < x->n; i++)
        archive_entry_free(x->places[i].attributes);
    for (int i = 0; i < x->n; i++)
        // Freeing one that was not finished sets what is pending: in its own folder.
        if (x->places[i].disk && fchdir(x->places[i].dir) == 0)
            archive_write_free(x->places[i].disk);
    (void)!fchdir(x->home);
    archive_entry_free(x->entry);
    close(x->home);
    free(x);
}
