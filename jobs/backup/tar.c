#include "backup/tar.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

enum {
    SEGMENTS_MAX = 4096, // of a sparse file; more are read as plain data
};

struct segment {
    int64_t start, end;
};

struct tar {
    struct stage *stage;
    struct archive *out, *disk;
    struct archive_entry *entry;
    struct digest *digest;
    struct segment *segments;
    size_t nsegments;
    int64_t size;       // of the entry being written
    struct err failure; // of the stage, while libarchive calls back
};

static la_ssize_t give(struct archive *a, void *arg, const void *data, size_t len) {
    struct tar *t = arg;
    if (stage_write(t->stage, data, len, &t->failure) == 0)
        return (la_ssize_t)len;
    archive_set_error(a, EIO, "%s", t->failure.text);
    return -1;
}

// The stage's own error says more than libarchive's.
static int failed(struct tar *t, const char *path, struct err *e) {
    if (t->failure.code) {
        *e = t->failure;
        return -1;
    }
    const char *why = archive_error_string(t->out);
    return err_set(e, EX_SOFTWARE, "%s: %s", path, why ? why : "libarchive does not say why");
}

int tar_new(struct stage *g, struct tar **ret, struct err *e) {
    struct tar *t = calloc(1, sizeof *t);
    if (!t)
        return err_set(e, EX_OSERR, "out of memory");
    t->stage = g;
    t->out = archive_write_new();
    t->disk = archive_read_disk_new();
    t->entry = archive_entry_new();
    t->digest = digest_new();
    t->segments = malloc(SEGMENTS_MAX * sizeof *t->segments);
    if (!t->out || !t->disk || !t->entry || !t->digest || !t->segments) {
        tar_free(t);
        return err_set(e, EX_OSERR, "out of memory");
    }
    archive_read_disk_set_standard_lookup(t->disk);
    // Not the restricted kind, which cuts times to seconds; without access and change times it adds
    // an extra header for what needs one only. SCHILY alone: GNU tar warns about
    // LIBARCHIVE.xattr. No blocking: the stage has its own.
    if (archive_write_set_format_pax(t->out) != ARCHIVE_OK ||
        archive_write_set_options(t->out, "pax:xattrheader=SCHILY") != ARCHIVE_OK ||
        archive_write_set_bytes_per_block(t->out, 0) != ARCHIVE_OK ||
        archive_write_open(t->out, t, NULL, give, NULL) != ARCHIVE_OK) {
        failed(t, "tar", e);
        tar_free(t);
        return -1;
    }
    *ret = t;
    return 0;
}

static int take_metadata(struct tar *t, const struct tar_item *x, struct err *e) {
    struct archive_entry *n = t->entry;
    archive_entry_copy_stat(n, x->st);
    archive_entry_copy_uname(n, archive_read_disk_uname(t->disk, x->st->st_uid));
    archive_entry_copy_gname(n, archive_read_disk_gname(t->disk, x->st->st_gid));
    if (x->fd < 0)
        return 0;
    bool may_be_sparse = S_ISREG(x->st->st_mode) && x->st->st_blocks * 512 < x->st->st_size;
    archive_read_disk_set_behavior(t->disk, ARCHIVE_READDISK_NO_FFLAGS |
                                                (may_be_sparse ? 0 : ARCHIVE_READDISK_NO_SPARSE));
    // A folder's default ACL is read by a path, whatever descriptor libarchive has.
    char source[32];
    snprintf(source, sizeof source, "/proc/self/fd/%d", x->fd);
    archive_entry_copy_sourcepath(n, source);
    if (archive_read_disk_entry_from_file(t->disk, n, x->fd, x->st) < ARCHIVE_WARN)
        return err_set(e, EX_IOERR, "%s: %s", x->path, archive_error_string(t->disk));
    return 0;
}

// libarchive's map of the holes, which is what will be written.
static void take_segments(struct tar *t) {
    la_int64_t start, len;
    t->nsegments = 0;
    t->size = archive_entry_size(t->entry);
    int count = archive_entry_sparse_reset(t->entry);
    if (count > SEGMENTS_MAX) {
        archive_entry_sparse_clear(t->entry);
        count = 0;
    }
    if (count == 0)
        t->segments[t->nsegments++] = (struct segment){0, t->size};
    while (count && archive_entry_sparse_next(t->entry, &start, &len) == ARCHIVE_OK)
        t->segments[t->nsegments++] = (struct segment){start, start + len};
    archive_entry_sparse_reset(t->entry);
}

int tar_begin(struct tar *t, const struct tar_item *x, struct err *e) {
    struct archive_entry *n = archive_entry_clear(t->entry);
    archive_entry_copy_pathname(n, x->path);
    if (take_metadata(t, x, e) < 0)
        return -1;
    archive_entry_copy_pathname(n, x->path);
    archive_entry_unset_atime(n);
    archive_entry_unset_ctime(n);
    archive_entry_unset_birthtime(n);
    if (x->symlink)
        archive_entry_copy_symlink(n, x->symlink);
    if (x->hardlink) {
        archive_entry_copy_hardlink(n, x->hardlink);
        archive_entry_set_size(n, 0);
    }
    if (!S_ISREG(x->st->st_mode))
        archive_entry_set_size(n, 0);
    take_segments(t);
    // A warning is a name that is not UTF-8: it is written as bytes.
    return archive_write_header(t->out, n) < ARCHIVE_WARN ? failed(t, x->path, e) : 0;
}

bool tar_next_data(struct tar *t, int64_t offset, int64_t *ret_start, int64_t *ret_end) {
    for (size_t i = 0; i < t->nsegments; i++)
        if (t->segments[i].end > offset) {
            *ret_start = t->segments[i].start > offset ? t->segments[i].start : offset;
            *ret_end = t->segments[i].end;
            return true;
        }
    return false;
}

int tar_data(struct tar *t, const void *data, size_t len, struct err *e) {
    const char *p = data;
    digest_add(t->digest, data, len);
    while (len) {
        la_ssize_t n = archive_write_data(t->out, p, len);
        if (n <= 0)
            return failed(t, archive_entry_pathname(t->entry), e);
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

int tar_end(struct tar *t, char ret_sha256[TAR_SHA_TEXT], struct err *e) {
    digest_end(t->digest, ret_sha256);
    return archive_write_finish_entry(t->out) != ARCHIVE_OK
               ? failed(t, archive_entry_pathname(t->entry), e)
               : 0;
}

int tar_memory(struct tar *t, const char *path, const struct tar_text *pieces, int64_t mtime_ms,
               char ret_sha256[TAR_SHA_TEXT], struct err *e) {
    struct stat st = {.st_mode = S_IFREG | 0600,
                      .st_nlink = 1,
                      .st_mtim = {mtime_ms / 1000, 0}}; // whole seconds need no extra header
    for (const struct tar_text *p = pieces; p->data; p++)
        st.st_size += (off_t)p->len;
    if (tar_begin(t, &(struct tar_item){.path = path, .fd = -1, .st = &st}, e) < 0)
        return -1;
    for (const struct tar_text *p = pieces; p->data; p++)
        if (tar_data(t, p->data, p->len, e) < 0)
            return -1;
    return tar_end(t, ret_sha256, e);
}

int tar_mark(struct tar *t, uint64_t *ret_offset, struct err *e) {
    return stage_mark(t->stage, ret_offset, e); // libarchive holds nothing back
}

int tar_close(struct tar *t, struct err *e) {
    return archive_write_close(t->out) != ARCHIVE_OK ? failed(t, "tar", e) : 0;
}

void tar_free(struct tar *t) {
    if (!t)
        return;
    if (t->out) {
        archive_write_fail(t->out); // nothing more to the stage, which may be gone
        archive_write_free(t->out);
    }
    if (t->disk)
        archive_read_free(t->disk);
    if (t->entry)
        archive_entry_free(t->entry);
    digest_free(t->digest);
    free(t->segments);
    free(t);
}
