// What a command of civinit-backup was asked to do: [backup] and [database] of the configuration,
// then the command line over it.
#ifndef BACKUP_OPTIONS_H
#define BACKUP_OPTIONS_H

#include "base/err.h"
#include "conf/conf.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum compression {
    COMPRESS_DEFAULT, // gzip: libdeflate; what does not shrink is stored
    COMPRESS_FAST,    // gzip: ISA-L 2; what does not shrink is stored
    COMPRESS_ZSTD,    // .tar.zst
    COMPRESS_NONE,    // .tar
};

// How many archives `prune` keeps of each kind; 0: none on that ground.
struct keep_rules {
    int last, daily, weekly, monthly, yearly;
};

// A root of the file tree: "/app/web/sites" is archived as files/sites, "x=/app" as files/x.
struct root {
    const char *name, *path;
};

struct options {
    struct conf conf;      // owns every text below
    const char *config;    // path of the configuration, or NULL: there is none
    const char *instance;  // begins the names of the archives
    char **databases;      // NULL-terminated, as all lists here
    struct root *roots;    // ended by one without a name
    char **exclude;        // globs
    char **structure_only; // globs of db.table or table
    const char *destination; // "/folder", "-", "s3://…", "sftp://…", "https://…"; NULL: none given
    enum compression compression;
    int threads; // 0: as many as there are cores, at most 3
    char **encrypt_to;
    const char *identity_file; // NULL: none
    bool changed_fail;         // a file that changed while read fails the run
    bool allow_incomplete;     // missing grants are recorded instead of refused
    bool verify;               // read back after writing
    bool verify_remote;        // …, when the destination is a server: not said otherwise
    const char *dump_program;  // NULL: found in PATH
    const char *lock;          // name of the jobs' lock to take, or NULL
    int64_t lock_wait_ms;
    struct keep_rules keep;
    const char *ping, *on_failure, *state_dir;
    const atomic_bool *stop; // NULL, or true once what is long shall end
    bool quiet;              // no progress
    bool dry_run;            // prune, create: say only
};

// Reads the configuration at path (NULL: /etc/civinit/backup.ini, which may be missing) into o,
// which is zero-initialised. EX_CONFIG with what is wrong.
int options_load(struct options *o, const char *path, struct err *e);

// A whitespace separated list as on the command line → o's arena. NULL when out of memory.
char **options_words(struct options *o, const char *text);

// Replaces o->roots by those of a list of PATH or NAME=PATH; two of one name are an error.
int options_roots(struct options *o, char **list, struct err *e);

// "default", "fast", "zstd", "none"; -1: none of them.
int options_compression(const char *name);

void options_free(struct options *o);

#endif
