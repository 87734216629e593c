// Questions to civinit-jobs-helper, one process each: what needs a database, HTTP or JSON.
#ifndef CRON_HELPER_H
#define CRON_HELPER_H

#include "base/text.h"
#include "cron/job.h"
#include "cron/watch.h"

#include <stdint.h>

enum {
    HELPER_TIMEOUT_MS = 60000
};

// Runs `civinit-jobs-helper --config FILE ARG…` (args NULL-terminated) with in_fd as its standard
// input (-1: none), its output into out (may be NULL). Its exit code; 128 + N when a signal ended
// it, EX_UNAVAILABLE when it could not start or took longer than timeout_ms. Unless 0, one line of
// what it said goes into why (size bytes).
int helper_call(struct watcher *w, const struct jobs *j, const char *const *args, int in_fd,
                int64_t timeout_ms, struct buf *out, char *why, size_t size);

// Only starts it, into x (zeroed); its output goes to ours. watch_wait and watch_end follow.
int helper_start(struct watcher *w, const struct jobs *j, const char *const *args, int in_fd,
                 struct watch *x, struct err *e);

// A memory file that holds text, at its beginning: for a helper's standard input. -1: none.
int helper_input(const char *text);

// The members that `backlog` adds to jobs.json, without the braces, into out. When the database
// cannot be asked: "\"backlog_error\":…".
void helper_backlog(const struct jobs *j, struct watcher *w, struct buf *out);

#endif
