#include "backup/tail.h"

#include "backup/manifest.h"
#include "base/cleanup.h"

#include <stdlib.h>
#include <string.h>

enum {
    FIRST_LOOK = 64 << 10, // bytes from the end; then eight times as many
    LAST_LOOK = 4 << 20,
    TAR_HEADER = 512,
};

// Reads len bytes from offset on.
static int read_at(struct store *s, const char *name, uint64_t offset, void *data, size_t len) {
    int64_t size;
    size_t n = 0;
    if (s->ops->open(s, name, offset, &size, NULL) < 0)
        return -1;
    for (ssize_t got = 1; n < len && got > 0; n += got > 0 ? (size_t)got : 0)
        got = s->ops->read(s, (char *)data + n, len - n, NULL);
    s->ops->close_read(s);
    return n == len ? 0 : -1;
}

static bool holds(const char *text, size_t len, const char *what) {
    return memmem(text, len, what, strlen(what)) != NULL;
}

// Whether a tar stream begins here with the manifest of an archive, and its parts can be found.
static bool is_manifest(const char *tar, size_t len, bool *ret_alone) {
    if (len <= TAR_HEADER || strcmp(tar, MANIFEST_NAME) != 0 || memcmp(tar + 257, "ustar", 5) != 0)
        return false;
    *ret_alone = holds(tar + TAR_HEADER, len - TAR_HEADER, "\"parts\": 0,");
    return *ret_alone || holds(tar + TAR_HEADER, len - TAR_HEADER, "\"" MANIFEST_OFFSETS "\": [");
}

// Where the next piece that may be the manifest's begins, at or after p; NULL: none.
static const char *next_start(enum inflow_kind kind, const char *p, const char *end) {
    if (kind == INFLOW_PLAIN)
        return memmem(p, end - p, MANIFEST_NAME, sizeof MANIFEST_NAME);
    if (kind == INFLOW_ZSTD)
        return memmem(p, end - p, "\x28\xb5\x2f\xfd", 4);
    const char *mark = memmem(p, end - p, "\0\0\xff\xff", 4); // an empty stored block
    return mark ? mark + 4 : NULL;
}

static const char *search(enum inflow_kind kind, const char *data, size_t len, bool *ret_alone) {
    enum {
        HEAD = 64 << 10 // the manifest's head: options, databases, roots, warnings
    };
    autofree char *out = malloc(HEAD);
    const char *end = data + len;
    for (const char *p = data; out && (p = next_start(kind, p, end)) && p < end;) {
        ssize_t n = end - p < HEAD ? end - p : HEAD;
        if (kind == INFLOW_PLAIN)
            memcpy(out, p, (size_t)n);
        else
            n = inflow_peek(kind, p, end - p, out, HEAD);
        if (n > 0 && is_manifest(out, (size_t)n, ret_alone))
            return p;
        if (kind != INFLOW_DEFLATE)
            p++;
    }
    return NULL;
}

int tail_find(struct store *s, const char *name, struct tail *ret) {
    int64_t size;
    unsigned char magic[4];
    if (s->ops->open(s, name, 0, &size, NULL) < 0)
        return -1;
    s->ops->close_read(s);
    if (size < TAR_HEADER || read_at(s, name, 0, magic, sizeof magic) < 0)
        return -1;
    enum inflow_kind kind = magic[0] == 0x1f && magic[1] == 0x8b        ? INFLOW_DEFLATE
                            : memcmp(magic, "\x28\xb5\x2f\xfd", 4) == 0 ? INFLOW_ZSTD
                                                                        : INFLOW_PLAIN;
    for (int64_t look = FIRST_LOOK;; look *= 8) {
        if (look > size)
            look = size;
        if (look > LAST_LOOK)
            return -1;
        autofree char *data = malloc((size_t)look);
        if (!data || read_at(s, name, (uint64_t)(size - look), data, (size_t)look) < 0)
            return -1;
        const char *found = search(kind, data, (size_t)look, &ret->alone);
        if (found) {
            ret->kind = kind;
            ret->offset = (uint64_t)(size - look + (found - data));
            return 0;
        }
        if (look == size)
            return -1;
    }
}
