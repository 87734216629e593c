// The file by which a running civinit tells its state: RUN_DIR/status, replaced by rename.
//
//     civinit 1
//     container role=web state=ready started=1767225600000 pid=1 main=apache reason=
//     service name=apache kind=service state=ready pid=12 since=1767225600120 restarts=0 …
//
// One line per service, `key=value` separated by one blank; blanks, '%', control and non-ASCII
// bytes are percent-encoded. Readers ignore keys and lines they do not know. Times are
// milliseconds since the epoch.
#ifndef BASE_STATUSFILE_H
#define BASE_STATUSFILE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct statusfile_service {
    const char *name;
    const char *kind;     // "service", "task"
    const char *state;    // down starting ready stopping backoff failed done
    int64_t pid;          // 0: no process
    int64_t since_ms;     // when it entered the state
    int64_t restarts;     // since civinit's start
    int64_t ready_ms;     // how long its last start took until ready; -1: never was
    int64_t exit, signal; // of its last end; exit -1: has not ended yet
    int64_t unhealthy;    // health checks failed in a row
    int64_t next_ms;      // in backoff: when it starts again; else 0
    bool oom;             // its last end was an out-of-memory kill
    const char *status;   // the service's own STATUS= text
    const char *reason;   // why it is in this state
};

struct statusfile {
    const char *role, *state; // starting ready draining stopping
    int64_t started_ms;
    int64_t pid;
    const char *main;
    const char *reason;
    const char *config;  // path of the configuration
    int64_t deadline_ms; // while stopping: when what is left is killed; else 0
    int64_t oom_kills;   // in the container, since its start
    struct statusfile_service *services;
    size_t n;
    void *memory; // of statusfile_read and statusfile_parse; else NULL
};

// Formats it into buf. The length, or 0 when size is too small. Allocates nothing.
size_t statusfile_format(const struct statusfile *s, char *buf, size_t size);

// Writes len bytes of text as RUN_DIR/status: a temporary file, then rename. Neither waits for
// the disk nor allocates. e says what failed; the former file is then still there.
int statusfile_write(const char *run_dir, const char *text, size_t len, struct err *e);

// Reads text (which is not kept) or RUN_DIR/status. Texts are never NULL. The caller ends *ret
// with statusfile_free. EX_UNAVAILABLE: there is no such file: no civinit runs there;
// EX_DATAERR: not a status file.
int statusfile_parse(const char *text, struct statusfile *ret, struct err *e);
int statusfile_read(const char *run_dir, struct statusfile *ret, struct err *e);
void statusfile_free(struct statusfile *s);

// The same as members of a JSON object, by the same names ("role":"web","state":…), without braces:
// of the container (not its services), of one service. Texts and times are as here, figures that
// are −1 become null, flags true or false.
struct buf;
void statusfile_json(const struct statusfile *s, struct buf *b);
void statusfile_service_json(const struct statusfile_service *v, struct buf *b);

// The service of that name, or NULL.
const struct statusfile_service *statusfile_find(const struct statusfile *s, const char *name);

// CIVINIT_RUN_DIR of the environment, else /run/civinit.
const char *statusfile_run_dir(void);

#endif
