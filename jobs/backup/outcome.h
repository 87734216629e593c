// What others learn of a run: backup.json for status and metrics, pings and a failure hook.
#ifndef BACKUP_OUTCOME_H
#define BACKUP_OUTCOME_H

#include "backup/options.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct outcome {
    int64_t started_ms, ended_ms;
    const char *file; // name of the archive, "" before it has one
    int64_t bytes, raw_bytes, entries, warnings;
    bool verified;
    struct err error; // code 0: success
};

// Tells the ping URL (healthchecks.io's convention) that a run begins. Failing is a warning only.
void outcome_begin(const struct options *o);

// Writes backup.json (its last_success stays after a failure), pings, and on failure runs
// on_failure: an http(s) URL gets a JSON object by POST, anything else is a command line that gets
// it on its standard input.
void outcome_end(const struct options *o, const struct outcome *x);

#endif
