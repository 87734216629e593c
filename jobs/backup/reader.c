#include "backup/reader.h"

#include "backup/check.h"
#include "backup/dumpscan.h"
#include "backup/inflow.h"
#include "backup/manifest.h"
#include "backup/tail.h"
#include "backup/tar.h"
#include "base/cleanup.h"
#include "base/text.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>

enum {
    MANIFEST_MAX = 16 << 20, // bytes of one manifest or part
    ZEROS = 64 << 10,
};

struct reading {
    struct inflow *in;
    struct archive *tar;
    const struct reader_calls *calls;
    void *arg;
    struct check check;
    struct digest *digest;
    struct dumpscan scan;
    struct reader_result result;
    int64_t total;
    char *zeros;
    bool only_manifest; // a listing from the archive's end
    bool dump_ended;
    struct err failure; // of the inflow, while libarchive calls back
};

static la_ssize_t take(struct archive *a, void *arg, const void **ret) {
    struct reading *r = arg;
    ssize_t n = inflow_next(r->in, ret, &r->failure);
    if (n < 0) {
        archive_set_error(a, EIO, "%s", r->failure.text);
        return -1;
    }
    r->result.raw_bytes += n;
    if (r->calls && r->calls->progress)
        r->calls->progress(r->arg, inflow_read_bytes(r->in), r->total);
    return n;
}

static int broken(struct reading *r, struct err *e) {
    if (r->failure.code) {
        *e = r->failure;
        return -1;
    }
    const char *why = archive_error_string(r->tar);
    return err_set(e, EX_DATAERR, "is damaged: %s", why ? why : "not a tar archive");
}

static enum reader_kind kind_of(const char *path) {
    size_t dump = strlen(DUMP_NAME), part = strlen(MANIFEST_PART);
    if (strncmp(path, DUMP_NAME, dump) == 0 && (!path[dump] || path[dump] == '.'))
        return READER_DUMP;
    if (strncmp(path, FILES_PREFIX, strlen(FILES_PREFIX)) == 0)
        return READER_FILE;
    return strcmp(path, MANIFEST_NAME) == 0 || strncmp(path, MANIFEST_PART, part) == 0
               ? READER_MANIFEST
               : READER_OTHER;
}

// ---- content

static int give(struct reading *r, const struct reader_entry *x, const void *data, size_t len,
                int64_t offset, struct err *e) {
    digest_add(r->digest, data, len);
    if (x->kind == READER_DUMP) {
        dumpscan_add(&r->scan, data, len);
        r->result.dump_bytes += (int64_t)len;
    }
    return r->calls && r->calls->data ? r->calls->data(r->arg, x, data, len, offset, e) : 0;
}

static void hash_hole(struct reading *r, int64_t len) {
    for (int64_t n; len > 0; len -= n) {
        n = len < ZEROS ? len : ZEROS;
        digest_add(r->digest, r->zeros, (size_t)n);
    }
}

static int read_content(struct reading *r, const struct reader_entry *x, struct err *e) {
    const void *data;
    size_t len;
    la_int64_t offset;
    int64_t at = 0;
    for (int rc; (rc = archive_read_data_block(r->tar, &data, &len, &offset)) != ARCHIVE_EOF;) {
        if (rc != ARCHIVE_OK)
            return broken(r, e);
        hash_hole(r, offset - at);
        if (len && give(r, x, data, len, offset, e) < 0)
            return -1;
        at = offset + (int64_t)len;
    }
    hash_hole(r, x->size - at);
    return 0;
}

static int read_whole(struct reading *r, const struct reader_entry *x, char **ret, struct err *e) {
    if (x->size > MANIFEST_MAX)
        return err_set(e, EX_DATAERR, "%s: is too large", x->path);
    autofree char *text = malloc((size_t)x->size + 1);
    if (!text)
        return err_set(e, EX_OSERR, "out of memory");
    for (int64_t n = 0; n < x->size;) {
        la_ssize_t got = archive_read_data(r->tar, text + n, (size_t)(x->size - n));
        if (got <= 0)
            return broken(r, e);
        n += got;
    }
    text[x->size] = 0;
    *ret = take_ptr(&text);
    return 0;
}

// ---- entries

static int end_dump(struct reading *r, struct err *e) {
    if (!r->result.has_dump || r->dump_ended)
        return 0;
    r->dump_ended = true;
    return r->scan.completed
               ? 0
               : err_set(e, EX_DATAERR, "%s: lacks its closing line: the dump is not whole",
                         DUMP_NAME);
}

static int on_manifest(struct reading *r, const struct reader_entry *x, struct err *e) {
    autofree char *text = NULL;
    bool last = strcmp(x->path, MANIFEST_NAME) == 0;
    if (r->result.manifest)
        return err_set(e, EX_DATAERR, "%s: stands after the manifest", x->path);
    if (read_whole(r, x, &text, e) < 0)
        return -1;
    if (check_manifest(&r->check, text, (size_t)x->size, !r->only_manifest,
                       last ? &r->result.manifest : NULL, e) < 0)
        return -1;
    if (!last) {
        r->check.parts++;
        return 0;
    }
    int64_t parts = json_integer_value(json_object_get(r->result.manifest, "parts"));
    if (!r->only_manifest && parts != r->check.parts)
        return err_set(e, EX_DATAERR, "%s: speaks of %lld earlier parts, %d are there", x->path,
                       (long long)parts, r->check.parts);
    return 0;
}

static const char *type_of(const struct archive_entry *n) {
    if (archive_entry_hardlink((struct archive_entry *)(uintptr_t)n))
        return "hardlink";
    switch (archive_entry_filetype((struct archive_entry *)(uintptr_t)n)) {
    case AE_IFREG:
        return "file";
    case AE_IFDIR:
        return "dir";
    case AE_IFLNK:
        return "symlink";
    default:
        return "other";
    }
}

static int on_content(struct reading *r, struct reader_entry *x, struct err *e) {
    struct manifest_entry m = {.path = x->path, .type = type_of(x->entry), .size = x->size};
    char sha[TAR_SHA_TEXT];
    if (x->kind == READER_DUMP)
        r->result.has_dump = true;
    else if (end_dump(r, e) < 0)
        return -1;
    if (r->calls && r->calls->begin && r->calls->begin(r->arg, x, e) < 0)
        return -1;
    if (strcmp(m.type, "file") == 0) {
        if (read_content(r, x, e) < 0)
            return -1;
        digest_end(r->digest, sha);
        m.sha256 = sha;
    } else if (strcmp(m.type, "symlink") == 0) {
        m.link = archive_entry_symlink(x->entry);
    } else if (strcmp(m.type, "hardlink") == 0) {
        m.link = archive_entry_hardlink(x->entry);
    }
    if (check_entry(&r->check, &m, e) < 0)
        return -1;
    return r->calls && r->calls->end ? r->calls->end(r->arg, x, e) : 0;
}

// A path as tar holds it: libarchive gives folders a slash at their end.
static int path_of(struct archive_entry *n, char **ret, struct err *e) {
    const char *raw = archive_entry_pathname(n);
    char *path = strdup(raw ? raw : "");
    if (!path)
        return err_set(e, EX_OSERR, "out of memory");
    size_t len = strlen(path);
    if (len > 1 && path[len - 1] == '/')
        path[len - 1] = 0;
    *ret = path;
    return 0;
}

static int on_entry(struct reading *r, struct archive_entry *n, struct err *e) {
    autofree char *path = NULL;
    if (path_of(n, &path, e) < 0)
        return -1;
    struct reader_entry x = {.path = path, .kind = kind_of(path), .entry = n};
    if (archive_entry_filetype(n) == AE_IFREG && !archive_entry_hardlink(n))
        x.size = archive_entry_size(n);
    if (x.kind == READER_MANIFEST)
        return on_manifest(r, &x, e);
    if (x.kind == READER_OTHER)
        return err_set(e, EX_DATAERR, "%s: an entry that does not belong there", path);
    if (r->result.manifest)
        return err_set(e, EX_DATAERR, "%s: stands after the manifest", path);
    return on_content(r, &x, e);
}

// tar ends with zeros; the compressed data must end too, with its checksum.
static int drain(struct reading *r, struct err *e) {
    const void *data;
    for (ssize_t n; (n = inflow_next(r->in, &data, e)) != 0;) {
        if (n < 0)
            return -1;
        for (const char *p = data; p < (const char *)data + n; p++)
            if (*p)
                return err_set(e, EX_DATAERR, "something follows the end of the archive");
    }
    return 0;
}

static int read_all(struct reading *r, struct err *e) {
    struct archive_entry *n;
    for (int rc; (rc = archive_read_next_header(r->tar, &n)) != ARCHIVE_EOF;) {
        if (rc < ARCHIVE_WARN)
            return broken(r, e);
        if (on_entry(r, n, e) < 0)
            return -1;
        if (r->only_manifest && (r->result.manifest || r->check.parts))
            return 0;
    }
    if (r->failure.code)
        return broken(r, e);
    if (end_dump(r, e) < 0)
        return -1;
    if (!r->result.manifest)
        return err_set(e, EX_DATAERR,
                       "has no %s: it was never finished, or is not an archive of "
                       "civinit-backup",
                       MANIFEST_NAME);
    return r->only_manifest ? 0 : drain(r, e);
}

static int open_tar(struct reading *r, struct store *s, enum inflow_kind kind, struct err *e) {
    r->tar = archive_read_new();
    r->digest = digest_new();
    r->zeros = calloc(1, ZEROS);
    if (!r->tar || !r->digest || !r->zeros)
        return err_set(e, EX_OSERR, "out of memory");
    if (inflow_start(s, kind, &r->in, e) < 0)
        return -1;
    archive_read_support_format_tar(r->tar);
    return archive_read_open(r->tar, r, NULL, take, NULL) == ARCHIVE_OK ? 0 : broken(r, e);
}

static int run(struct reading *r, struct store *s, const char *name, enum inflow_kind kind,
               uint64_t offset, struct reader_result *ret, struct err *e) {
    if (s->ops->open(s, name, offset, &r->total, e) < 0)
        return -1;
    int rc = open_tar(r, s, kind, e);
    if (rc == 0)
        rc = read_all(r, e);
    if (rc < 0)
        err_wrap(e, "%s", name);
    r->result.entries = r->check.entries;
    if (r->in)
        r->result.compressed_bytes = inflow_read_bytes(r->in);
    if (r->tar)
        archive_read_free(r->tar);
    inflow_free(r->in);
    s->ops->close_read(s);
    digest_free(r->digest);
    free(r->zeros);
    check_free(&r->check);
    if (ret && rc == 0)
        *ret = r->result;
    else
        reader_result_free(&r->result);
    return rc;
}

int reader_run(struct store *s, const char *name, const struct reader_calls *calls, void *arg,
               struct reader_result *ret, struct err *e) {
    struct reading r = {.calls = calls, .arg = arg};
    return run(&r, s, name, INFLOW_AUTO, 0, ret, e);
}

// Who listens, in several readings until it has had enough.
struct listener {
    int (*each)(void *arg, json_t *entry);
    void *arg;
    int stopped;
};

static int hear(void *arg, json_t *entry) {
    struct listener *l = arg;
    l->stopped = l->stopped ? l->stopped : l->each(l->arg, entry);
    return l->stopped;
}

// One manifest, or one part, that begins at the offset.
static int list_from(struct store *s, const char *name, enum inflow_kind kind, uint64_t offset,
                     struct listener *l, struct reader_result *ret, struct err *e) {
    struct reading r = {.only_manifest = true};
    if (l && l->each)
        r.check = (struct check){.each = hear, .arg = l};
    return run(&r, s, name, kind, offset, ret, e);
}

// The earlier parts, as the manifest says where they are.
static int list_parts(struct store *s, const char *name, enum inflow_kind kind, json_t *manifest,
                      struct listener *l, struct err *e) {
    size_t i;
    json_t *offset, *offsets = json_object_get(manifest, MANIFEST_OFFSETS);
    if ((json_int_t)json_array_size(offsets) !=
        json_integer_value(json_object_get(manifest, "parts")))
        return err_set(e, EX_DATAERR,
                       "%s: is damaged: its manifest does not say where its parts are", name);
    json_array_foreach(offsets, i, offset) {
        json_int_t at = json_integer_value(offset);
        if (l->stopped || list_from(s, name, kind, (uint64_t)at, l, NULL, e) < 0)
            return l->stopped ? 0 : -1;
    }
    return 0;
}

int reader_list(struct store *s, const char *name, int (*each)(void *arg, json_t *entry), void *arg,
                struct reader_result *ret, struct err *e) {
    struct listener l = {each, arg, 0};
    struct reader_result last = {0};
    struct tail t;
    if (!s->can_seek || tail_find(s, name, &t) < 0) {
        struct reading r = {.check = {.each = each, .arg = arg}};
        return run(&r, s, name, INFLOW_AUTO, 0, ret, e);
    }
    if (t.alone || !each)
        return list_from(s, name, t.kind, t.offset, &l, ret, e);
    int rc = list_from(s, name, t.kind, t.offset, NULL, &last, e);
    if (rc == 0)
        rc = list_parts(s, name, t.kind, last.manifest, &l, e);
    reader_result_free(&last);
    return rc < 0 ? -1 : list_from(s, name, t.kind, t.offset, &l, ret, e);
}

void reader_result_free(struct reader_result *r) {
    json_decref(r->manifest);
    r->manifest = NULL;
}
