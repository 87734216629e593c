#include "backup/tree.h"

#include "base/cleanup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

enum {
    READ_BYTES = 256 << 10,
    LINKS_BUCKETS = 1024,
    DEPTH_MAX = 512, // of folders; each holds a descriptor
};

// The path of a file that has more names, so that its content is archived once.
struct link {
    struct link *next;
    dev_t dev;
    ino_t ino;
    char path[];
};

struct tree {
    struct tar *tar;
    char *const *exclude;
    struct tree_calls calls;
    void *arg;
    struct link *links[LINKS_BUCKETS];
    struct tree_counts *counts;
    struct buf path; // in the archive
    char *buffer;
    int depth;
};

struct tree *tree_new(struct tar *t, char *const *exclude, const struct tree_calls *calls,
                      void *arg) {
    struct tree *w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    w->tar = t;
    w->exclude = exclude;
    w->calls = *calls;
    w->arg = arg;
    w->buffer = malloc(READ_BYTES);
    if (!w->buffer) {
        free(w);
        return NULL;
    }
    return w;
}

void tree_free(struct tree *w) {
    if (!w)
        return;
    for (int i = 0; i < LINKS_BUCKETS; i++)
        for (struct link *l = w->links[i], *next; l; l = next) {
            next = l->next;
            free(l);
        }
    buf_free(&w->path);
    free(w->buffer);
    free(w);
}

bool tree_excluded(char *const *exclude, const char *path) {
    const char *last = strrchr(path, '/');
    last = last ? last + 1 : path;
    for (; exclude && *exclude; exclude++)
        if (fnmatch(*exclude, strchr(*exclude, '/') ? path : last, 0) == 0)
            return true;
    return false;
}

static const char *path_of(const struct tree *w) {
    return w->path.data;
}

static void note(struct tree *w, const char *what) {
    w->calls.note(w->arg, path_of(w), what);
}

static int no_memory(struct err *e) {
    return err_set(e, EX_OSERR, "out of memory");
}

// By errno.
static int unreadable(const struct tree *w, struct err *e) {
    return err_errno(e, errno == EACCES || errno == EPERM ? EX_NOPERM : EX_NOINPUT, "%s",
                     path_of(w));
}

static struct link *find_link(struct tree *w, const struct stat *st) {
    struct link *l = w->links[st->st_ino % LINKS_BUCKETS];
    while (l && (l->dev != st->st_dev || l->ino != st->st_ino))
        l = l->next;
    return l;
}

static int remember_link(struct tree *w, const struct stat *st, struct err *e) {
    struct link **bucket = &w->links[st->st_ino % LINKS_BUCKETS];
    struct link *l = malloc(sizeof *l + w->path.len + 1);
    if (!l)
        return no_memory(e);
    *l = (struct link){*bucket, st->st_dev, st->st_ino};
    memcpy(l->path, path_of(w), w->path.len + 1);
    *bucket = l;
    return 0;
}

static int added(struct tree *w, const struct manifest_entry *x, struct err *e) {
    w->counts->entries++;
    w->counts->bytes += x->size;
    return w->calls.entry(w->arg, x, e);
}

// From *offset to end, from the file or as zeros; *short_by counts what the file lacked.
static int copy_range(struct tree *w, int fd, int64_t *offset, int64_t end, bool zeros,
                      int64_t *short_by, struct err *e) {
    while (*offset < end) {
        size_t want = end - *offset < READ_BYTES ? (size_t)(end - *offset) : READ_BYTES;
        ssize_t n = 0;
        if (!zeros)
            n = pread(fd, w->buffer, want, *offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(e, EX_IOERR, "%s", path_of(w));
        if (n == 0) {
            *short_by += zeros ? 0 : (int64_t)want;
            memset(w->buffer, 0, want);
            n = (ssize_t)want;
        }
        if (tar_data(w->tar, w->buffer, (size_t)n, e) < 0)
            return -1;
        *offset += n;
        w->calls.progress(w->arg, n);
    }
    return 0;
}

static int copy_content(struct tree *w, int fd, int64_t size, int64_t *short_by, struct err *e) {
    int64_t offset = 0, start, end;
    while (tar_next_data(w->tar, offset, &start, &end)) {
        end = end < size ? end : size;
        if (copy_range(w, fd, &offset, start, true, short_by, e) < 0 ||
            copy_range(w, fd, &offset, end, false, short_by, e) < 0)
            return -1;
    }
    return copy_range(w, fd, &offset, size, true, short_by, e);
}

static bool same_time(struct timespec a, struct timespec b) {
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

// What became of the file while it was read.
static void look_again(struct tree *w, int fd, const struct stat *before, int64_t short_by) {
    struct stat st;
    const char *what = NULL;
    if (short_by)
        what = "shrank while it was read: its end is zeros";
    else if (fstat(fd, &st) < 0)
        what = "could not be looked at again";
    else if (st.st_size > before->st_size)
        what = "grew while it was read: its new end is missing";
    else if (st.st_size < before->st_size || !same_time(st.st_mtim, before->st_mtim))
        what = "was written while it was read";
    if (!what)
        return;
    w->counts->changed++;
    note(w, what);
}

static int add_file(struct tree *w, int fd, const struct stat *st, struct err *e) {
    struct tar_item x = {.path = path_of(w), .fd = fd, .st = st};
    const struct link *l = st->st_nlink > 1 ? find_link(w, st) : NULL;
    if (l) {
        x.hardlink = l->path;
        x.fd = -1;
        return tar_begin(w->tar, &x, e) < 0
                   ? -1
                   : added(w,
                           &(struct manifest_entry){
                               .path = x.path, .type = "hardlink", .link = l->path},
                           e);
    }
    char sha[TAR_SHA_TEXT];
    int64_t short_by = 0;
    if (tar_begin(w->tar, &x, e) < 0 || copy_content(w, fd, st->st_size, &short_by, e) < 0 ||
        tar_end(w->tar, sha, e) < 0)
        return -1;
    look_again(w, fd, st, short_by);
    if (st->st_nlink > 1 && remember_link(w, st, e) < 0)
        return -1;
    struct manifest_entry m = {.path = x.path, .type = "file", .size = st->st_size, .sha256 = sha};
    return added(w, &m, e);
}

static int vanished(struct tree *w) {
    w->counts->changed++;
    note(w, "vanished before it was read");
    return 0;
}

static int add_symlink(struct tree *w, int dir, const char *name, const struct stat *st,
                       struct err *e) {
    char target[4097];
    ssize_t n = readlinkat(dir, name, target, sizeof target - 1);
    if (n < 0)
        return errno == ENOENT || errno == EINVAL ? vanished(w) : unreadable(w, e);
    target[n] = 0;
    struct tar_item x = {.path = path_of(w), .fd = -1, .st = st, .symlink = target};
    struct manifest_entry m = {.path = x.path, .type = "symlink", .link = target};
    return tar_begin(w->tar, &x, e) < 0 ? -1 : added(w, &m, e);
}

// Opens what the look said, or says that it is something else by now: 1.
static int open_same(int dir, const char *name, const struct stat *seen, int flags, int *ret,
                     struct stat *ret_st) {
    flags |= O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    autoclose int fd = openat(dir, name, flags | O_NOATIME);
    if (fd < 0 && errno == EPERM) // not ours
        fd = openat(dir, name, flags);
    if (fd < 0)
        return errno == ENOENT || errno == ELOOP || errno == ENOTDIR ? 1 : -1;
    if (fstat(fd, ret_st) < 0)
        return -1;
    if (ret_st->st_ino != seen->st_ino || ret_st->st_dev != seen->st_dev ||
        (ret_st->st_mode & S_IFMT) != (seen->st_mode & S_IFMT))
        return 1;
    *ret = take_fd(&fd);
    return 0;
}

static int add_folder(struct tree *w, int fd, const struct stat *st, struct err *e);

static int add_entry(struct tree *w, int dir, const char *name, struct err *e) {
    struct stat seen, st;
    if (fstatat(dir, name, &seen, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? vanished(w) : unreadable(w, e);
    if (S_ISLNK(seen.st_mode))
        return add_symlink(w, dir, name, &seen, e);
    if (!S_ISREG(seen.st_mode) && !S_ISDIR(seen.st_mode)) {
        w->counts->skipped++;
        note(w, S_ISSOCK(seen.st_mode)   ? "skipped: a socket"
                : S_ISFIFO(seen.st_mode) ? "skipped: a FIFO"
                                         : "skipped: a device");
        return 0;
    }
    autoclose int fd = -1;
    int rc = open_same(dir, name, &seen, S_ISDIR(seen.st_mode) ? O_DIRECTORY : 0, &fd, &st);
    if (rc > 0)
        return vanished(w);
    if (rc < 0)
        return unreadable(w, e);
    return S_ISDIR(st.st_mode) ? add_folder(w, fd, &st, e) : add_file(w, fd, &st, e);
}

static int add_children(struct tree *w, int fd, struct err *e) {
    int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = own < 0 ? NULL : fdopendir(own);
    if (!list) {
        unreadable(w, e);
        if (own >= 0)
            close(own);
        return -1;
    }
    size_t len = w->path.len;
    int rc = 0;
    errno = 0;
    for (struct dirent *x; rc == 0 && (x = readdir(list)); errno = 0) {
        if (strcmp(x->d_name, ".") == 0 || strcmp(x->d_name, "..") == 0)
            continue;
        buf_str(&w->path, "/");
        buf_str(&w->path, x->d_name);
        if (w->path.failed)
            rc = no_memory(e);
        else if (tree_excluded(w->exclude, path_of(w) + strlen(FILES_PREFIX)))
            w->counts->excluded++;
        else
            rc = add_entry(w, fd, x->d_name, e);
        w->path.len = len;
        w->path.data[len] = 0;
    }
    if (rc == 0 && errno)
        rc = err_errno(e, EX_IOERR, "%s", path_of(w));
    closedir(list);
    return rc;
}

static int add_folder(struct tree *w, int fd, const struct stat *st, struct err *e) {
    struct tar_item x = {.path = path_of(w), .fd = fd, .st = st};
    struct manifest_entry m = {.path = x.path, .type = "dir"};
    if (w->depth >= DEPTH_MAX)
        return err_set(e, EX_DATAERR, "%s: more than %d folders deep", path_of(w), DEPTH_MAX);
    if (tar_begin(w->tar, &x, e) < 0 || added(w, &m, e) < 0)
        return -1;
    w->depth++;
    int rc = add_children(w, fd, e);
    w->depth--;
    return rc;
}

int tree_walk(struct tree *w, const struct root *root, struct tree_counts *counts, struct err *e) {
    struct stat st;
    autoclose int fd = open(root->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_errno(e, errno == EACCES ? EX_NOPERM : EX_NOINPUT, "%s", root->path);
    w->counts = counts;
    w->path.len = 0;
    buf_printf(&w->path, "%s%s", FILES_PREFIX, root->name);
    return w->path.failed ? no_memory(e) : add_folder(w, fd, &st, e);
}

// What cannot be read here is told when it matters.
static void measure(int dir, struct buf *path, char *const *exclude, struct tree_counts *counts,
                    int depth, const atomic_bool *enough) {
    DIR *list = fdopendir(dir);
    if (!list) {
        close(dir);
        return;
    }
    size_t len = path->len;
    for (struct dirent *x; (x = readdir(list)) && !path->failed && !*enough;) {
        struct stat st;
        if (strcmp(x->d_name, ".") == 0 || strcmp(x->d_name, "..") == 0)
            continue;
        buf_printf(path, "/%s", x->d_name);
        if (!path->failed && !tree_excluded(exclude, path->data) &&
            fstatat(dir, x->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
            counts->entries++;
            if (S_ISREG(st.st_mode))
                counts->bytes += st.st_blocks * 512 < st.st_size ? st.st_blocks * 512 : st.st_size;
            int below =
                S_ISDIR(st.st_mode) && depth < DEPTH_MAX
                    ? openat(dir, x->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
                    : -1;
            if (below >= 0)
                measure(below, path, exclude, counts, depth + 1, enough);
        }
        path->len = len;
        if (path->data)
            path->data[len] = 0;
    }
    closedir(list);
}

int tree_measure(const struct root *root, char *const *exclude, const atomic_bool *enough,
                 struct tree_counts *counts, struct err *e) {
    autobuf struct buf path = {0};
    int fd = open(root->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, errno == EACCES ? EX_NOPERM : EX_NOINPUT, "%s", root->path);
    buf_str(&path, root->name);
    measure(fd, &path, exclude, counts, 0, enough);
    return 0;
}
