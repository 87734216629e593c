// A bucket and a folder in it, asked by signed requests: what store_s3.c builds its uploads on.
#ifndef BACKUP_S3_H
#define BACKUP_S3_H

#include "backup/options.h"
#include "backup/remote_store.h"
#include "backup/wire.h"
#include "base/err.h"

#include <stddef.h>

struct s3 {
    struct remote_store remote; // base: ENDPOINT/BUCKET/PREFIX
    char *where;                // s3://BUCKET/PREFIX
    char *bucket;               // ENDPOINT/BUCKET
    char *prefix;               // ends in '/', or is empty
};

// Fills s from "s3://BUCKET/PREFIX" and [backup] endpoint, region, ca,
// access_key_file, secret_key_file. To be closed by s3_close, also after an error.
int s3_set(struct s3 *s, const struct options *o, const char *destination,
           const struct store_ops *ops, struct err *e);
void s3_close(struct s3 *s);

// One signed request, tried several times, about an object (NULL: the bucket), with a query that is
// encoded and sorted already (NULL: none).
int s3_request(struct s3 *s, const char *method, const char *name, const char *query,
               const void *body, size_t len, struct wire_answer *a, struct err *e);

// 1: the object is there, 0: it is not.
int s3_exists(struct s3 *s, const char *name, struct err *e);

// Calls each for the objects of the folder.
int s3_walk(struct store *s, store_each *each, void *arg, struct err *e);

// "<prefix>uploadId=<id>", encoded; the caller's to free.
char *s3_upload_query(const char *prefix, const char *id);

// Aborts an upload: nothing is left of it.
void s3_drop_upload(struct s3 *s, const char *name, const char *id);

// Aborts the uploads of archives that began REMOTE_STALE_S ago or earlier.
int s3_sweep(struct store *s, int *ret_removed, struct err *e);

#endif
