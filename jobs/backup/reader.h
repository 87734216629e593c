// Reads an archive as a verified stream of its entries: what verify, list, restore and drill
// stand on. Decompression runs in a thread of its own, beside the caller's work; memory is a
// constant. Only regular tar entries reach the caller; checksums, the manifest, the closing line of
// the dump and missing or extra entries are looked after here.
#ifndef BACKUP_READER_H
#define BACKUP_READER_H

#include "backup/store.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct archive_entry; // libarchive's
struct json_t;        // jansson's

enum reader_kind {
    READER_DUMP,     // database.sql, or one of its pieces database.sql.00000 …, in order
    READER_FILE,     // files/ROOT/…
    READER_MANIFEST, // MANIFEST.json, and its earlier parts
    READER_OTHER,    // not written by us; verify calls it an extra entry
};

struct reader_entry {
    const char *path; // as in the archive, any bytes; not checked for "..": that is restore's task
    enum reader_kind kind;
    int64_t size; // bytes of a regular file, 0 for everything else
    struct archive_entry
        *entry; // all of libarchive's knowledge; hardlinks, ACLs, xattrs, sparse map
};

// What the caller wants to see; any may be NULL. They return 0, or -1 with e: reading stops and
// fails with it. The data of an entry comes in order; offsets jump over the holes of a sparse file.
// Data is given before the archive as a whole is known to be good: only reader_run's 0 says so.
struct reader_calls {
    int (*begin)(void *arg, const struct reader_entry *x, struct err *e);
    int (*data)(void *arg, const struct reader_entry *x, const void *data, size_t len,
                int64_t offset, struct err *e);
    int (*end)(void *arg, const struct reader_entry *x, struct err *e);
    // Now and then: compressed bytes read so far, of total (-1: not known).
    void (*progress)(void *arg, int64_t read_bytes, int64_t total_bytes);
};

struct reader_result {
    int64_t entries;          // without the manifest
    int64_t compressed_bytes; // of the archive (after decryption)
    int64_t raw_bytes;        // of the tar stream
    int64_t dump_bytes;       // of the dump
    bool has_dump;
    struct json_t
        *manifest; // the head of MANIFEST.json: everything but its entries; see manifest.h
};

// Reads all of archive `name` in store s. EX_DATAERR with what is wrong (and in which entry) when
// it does not verify, EX_NOINPUT when it is not there. ret (may be NULL) is for reader_result_free.
int reader_run(struct store *s, const char *name, const struct reader_calls *calls, void *arg,
               struct reader_result *ret, struct err *e);

// The entry listing without reading the whole archive, from the manifest at its end, where the
// store can seek and the archive allows it; else as reader_run. each() gets one JSON object per
// entry {"path","type","size","sha256","link"…}; anything but 0 ends it. NULL: ret is all that is
// wanted.
int reader_list(struct store *s, const char *name, int (*each)(void *arg, struct json_t *entry),
                void *arg, struct reader_result *ret, struct err *e);

void reader_result_free(struct reader_result *r);

#endif
