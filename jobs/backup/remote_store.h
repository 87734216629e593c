// What the stores behind a network have in common: a folder with a URL, one connection that writes
// and one that reads, the temporary name of an archive that is being written. A kind's own struct
// begins with struct remote_store; its table of operations names the functions below where they do.
#ifndef BACKUP_REMOTE_STORE_H
#define BACKUP_REMOTE_STORE_H

#include "backup/store.h"
#include "backup/wire.h"
#include "base/err.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct remote_store {
    struct store store;
    char *base; // the folder's URL; ends in '/'
    struct wire *wire, *reading;
    char name[256], part[256];      // of the archive being written; what it is called until then
    const char *const *get_headers; // of a download; NULL: none
    char read_name[256];            // of the archive being read
    uint64_t read_at;               // what comes next of it
    int64_t read_size;              // -1: not known
    // A signal may find a thread in write() while another calls abort(): they exclude each other,
    // and what is being sent ends by itself once *stop is true.
    const atomic_bool *stop;
    bool last_words; // requests go on regardless of stop: what publishes, what cleans up
    pthread_mutex_t busy;
    bool closed; // nothing more is taken: aborted
    // Calls each for every file of the folder, temporary ones too: what list and sweep look at.
    int (*walk)(struct store *s, store_each *each, void *arg, struct err *e);
};

// Sets r up, but for what the kind knows. Before anything else; remote_close undoes it.
void remote_init(struct remote_store *r, const struct options *o, const struct store_ops *ops);
int remote_connect(struct remote_store *r, const struct wire_login *login, struct err *e);

// For wire_request.stop.
const atomic_bool *remote_stop(const struct remote_store *r);

// The URL of a file of the folder; the caller's to free, NULL: no memory.
char *remote_url(const struct remote_store *r, const char *name);

// An answer that is not the wanted one, as an error: -1.
int remote_refused(struct remote_store *r, const struct wire_answer *a, const char *what,
                   struct err *e);

// A new archive: sets name and part. EX_CANTCREAT: too long.
int remote_begin(struct remote_store *r, const char *name, struct err *e);

// Around what write and patch do with the archive. EX_TEMPFAIL: it was aborted meanwhile.
int remote_enter(struct remote_store *r, struct err *e);
void remote_leave(struct remote_store *r);
// At the beginning of abort: waits until nobody is at work, and keeps everybody out.
void remote_end(struct remote_store *r);

// Operations. write goes into the upload that wire_put began.
int remote_write(struct store *s, const void *data, size_t len, struct err *e);
int remote_open(struct store *s, const char *name, uint64_t offset, int64_t *ret_size,
                struct err *e);
// A connection that breaks is made again, where it was: some times in a row without a byte.
ssize_t remote_read(struct store *s, void *data, size_t size, struct err *e);
void remote_close_read(struct store *s);
int remote_list(struct store *s, store_each *each, void *arg, struct err *e);
// Removes temporary files of a day ago and older: no lock could tell whether a run still lives.
int remote_sweep(struct store *s, int *ret_removed, struct err *e);
// Nothing is locked: names hold the second and nothing is ever replaced, two at once do no harm.
int remote_lock(struct store *s, struct err *e);
int64_t remote_space(struct store *s); // not known

// Frees what is named above, not r itself.
void remote_close(struct remote_store *r);

#endif
