// A process that watches over children: one poll over its signals, their output and a lock.
//
// The watcher is a child subreaper: whatever leaves its session or loses its parent comes back
// to it, and nothing of a run outlives the run.
#ifndef CRON_WATCH_H
#define CRON_WATCH_H

#include "base/spawn.h"
#include "base/text.h"
#include "cron/lines.h"
#include "cron/lock.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>

struct watcher;

// A child and its standard output [0] and error [1].
struct watch {
    struct watcher *watcher;
    struct watch *next;
    pid_t pid;
    bool exited;
    bool helper; // not part of the job: not ended with it
    int status;  // of wait4
    struct rusage usage;
    struct watch_stream {
        int fd; // -1: at its end, or not watched
        struct lines lines;
        struct buf *capture; // instead of lines: at most CAPTURE_MAX bytes, the rest is dropped
    } out[2];
    struct lines_search *search; // in its output; set before it starts
    int copy; // a file that gets the first COPY_MAX bytes of the output too, or -1
    size_t copied;
};

enum {
    WATCH_CAPTURE_MAX = 1 << 20,
    WATCH_COPY_MAX = 64 << 10
};

struct watcher {
    int signals; // signalfd
    struct watch *watches;
    int target[2]; // see lines_target
    char tag[300]; // of lines
    struct lock lock;
    enum lock_event lock_event; // the last one that counts; the caller resets it
    // What signals asked for.
    bool drain;             // SIGTERM, SIGINT: begin nothing new
    bool kill;              // SIGUSR2: end now
    bool lost;              // SIGUSR1: the instance's lock is lost
    int64_t drained_at_ms;  // when drain came (monotonic)
    int64_t grace_ms;       // from then on, until everything has to end; 0: no limit
    int64_t rss_kb, cpu_ms; // of what was reaped that is not a helper
};

// Blocks the signals, becomes subreaper.
int watcher_init(struct watcher *w, const char *tag, struct err *e);

// Starts a child. s->fds is filled in here: stdin from in_fd (-1: /dev/null), output to pipes.
int watch_start(struct watcher *w, struct watch *x, struct spawn *s, int in_fd, struct err *e);

// Waits until something happens or until_ms (monotonic; INT64_MAX: no end), and handles it.
void watcher_step(struct watcher *w, int64_t until_ms);

// Waits until it has ended and its output too. False: not within timeout_ms, or what is left of the
// grace period (at least one second); its group is killed.
bool watch_wait(struct watch *x, int64_t timeout_ms);

// Both outputs are at their end.
bool watch_quiet(const struct watch *x);

// Forgets it; its process, if it lives, is reaped as an orphan.
void watch_end(struct watch *x);

// Signals, or ends, everything below this process but the helpers. watcher_signal: how many.
int watcher_signal(struct watcher *w, int signal);
void watcher_kill(struct watcher *w);

// Whether children are left; reaps those that ended.
bool watcher_children(struct watcher *w);

#endif
