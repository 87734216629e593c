// Where archives live: a folder, standard output, or a remote place. Each kind is a row in
// store.c's table and a file store_KIND.c of its own.
//
// Writing is one archive at a time: create, write in order, perhaps patch the beginning, commit.
// Before commit nobody sees the archive under its name; abort, or the death of the process,
// leaves no archive (what is left of it is removed by a later sweep).
#ifndef BACKUP_STORE_H
#define BACKUP_STORE_H

#include "backup/options.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    // The first bytes of an archive that patch() may rewrite. A store that cannot seek but can
    // hold data back (a first part of S3, a first chunk of age) sends these last. Encryption puts
    // its header before them: the kinds allow for STORE_HEAD_MAX more.
    STORE_HEAD_MAX = 64 << 10,
};

struct store;

// One archive of a listing. name is valid during the call only; mtime_ms is 0 when unknown.
// Anything but 0 ends the listing and is returned.
typedef int store_each(void *arg, const char *name, int64_t size_bytes, int64_t mtime_ms);

struct store_ops {
    // Begins an archive that will be called name (no slash).
    int (*create)(struct store *s, const char *name, struct err *e);
    int (*write)(struct store *s, const void *data, size_t len, struct err *e);
    // Rewrites bytes within the first STORE_HEAD_MAX that were written. Only if can_patch.
    int (*patch)(struct store *s, size_t offset, const void *data, size_t len, struct err *e);
    // Makes it durable, then visible under its name. An archive of that name is never replaced:
    // EX_CANTCREAT.
    int (*commit)(struct store *s, struct err *e);
    void (*abort)(struct store *s); // harmless when nothing was begun

    // Opens name for reading from offset on; *ret_size is the whole archive's, -1: not known.
    int (*open)(struct store *s, const char *name, uint64_t offset, int64_t *ret_size,
                struct err *e);
    // 0 at the end, -1 with e.
    ssize_t (*read)(struct store *s, void *data, size_t size, struct err *e);
    void (*close_read)(struct store *s); // harmless when nothing is open

    int (*list)(struct store *s, store_each *each, void *arg, struct err *e);
    int (*remove)(struct store *s, const char *name, struct err *e);
    // Removes what dead runs left behind; called with the lock held. *ret_removed counts.
    int (*sweep)(struct store *s, int *ret_removed, struct err *e);
    // One writer at a time: EX_TEMPFAIL (75) when another holds it. Until the store is freed.
    int (*lock)(struct store *s, struct err *e);
    // Free bytes for new archives, -1: not known.
    int64_t (*space)(struct store *s);
    void (*free)(struct store *s); // and whatever is open
};

// A kind's own struct begins with this one.
struct store {
    const struct store_ops *ops; // no member is NULL but those the kind cannot do
    const char *where;           // for messages, without secrets; the store's own
    bool can_patch;              // known after create
    bool can_seek;               // open() with an offset is cheap
    bool holds;                  // several MB of memory: others shall take less of it
};

// The store of a destination: "/folder", "-", "s3://BUCKET/PREFIX", "sftp://…", "https://…".
// With o->encrypt_to what is written is encrypted, with o->identity_file what is read (and begins
// as age files do) is decrypted. Free with store_free.
int store_open(const struct options *o, const char *destination, struct store **ret, struct err *e);

// The store and the name of one archive: "/folder/x.tar.gz", "x.tar.gz", "s3://bucket/a/x.tar.gz",
// "-" (standard input; name "-"); "latest" is the newest archive of o->destination. *ret_name is
// the caller's to free.
int store_open_archive(const struct options *o, const char *archive, struct store **ret,
                       char **ret_name, struct err *e);

void store_free(struct store *s); // NULL is fine

// Whether a name is one this program gives to archives of the instance (NULL: of any), and when
// it was made (seconds since the epoch): "<instance>-20260301T120000Z.tar.gz" (.tar.zst, .tar,
// each also with .age).
bool store_name_time(const char *name, const char *instance, int64_t *ret_time);

// The kinds. Each: allocates, sets *ret, may not touch the network before it must.
int store_dir_open(const struct options *o, const char *destination, struct store **ret,
                   struct err *e);
int store_pipe_open(const struct options *o, const char *destination, struct store **ret,
                    struct err *e);
int store_s3_open(const struct options *o, const char *destination, struct store **ret,
                  struct err *e);
int store_sftp_open(const struct options *o, const char *destination, struct store **ret,
                    struct err *e);
int store_dav_open(const struct options *o, const char *destination, struct store **ret,
                   struct err *e);

// Encryption around a store, which it takes over when it succeeds.
int store_age_wrap(const struct options *o, struct store *inner, struct store **ret, struct err *e);

// Reads back the encrypted archive that s (of store_open) just wrote as `name` and compares it with
// what was sent: needs no identity. EX_DATAERR: it differs.
int store_age_same(struct store *s, const char *name, struct err *e);

#endif
