// One stream of one service: bytes in, records out to the sinks.
#ifndef LOG_STREAM_H
#define LOG_STREAM_H

#include "base/text.h"
#include "log/join.h"
#include "log/render.h"
#include "log/sink.h"

#include <stdint.h>

// What all streams share.
struct outlet {
    struct sink *out;     // NULL: no standard output
    struct sink *records; // JSON for the forwarder, or NULL
    size_t max;           // bytes of a message at most
    char *input;          // where bytes are read to: max + OUTLET_READ
    struct stamp now;
};

enum {
    OUTLET_READ = 256 << 10, // bytes read at once
    STREAM_HOLD_MS = 50,     // how long a record waits for the rest of its trace
};

struct stream {
    char *service;
    const char *kind; // "stdout", "stderr"
    int fd;           // -1: ended
    int pid;          // whom lines are tagged with, 0: not known
    enum format format;
    struct prefix prefix[FORMATS];
    struct buf partial; // a line whose end has not come yet, at most max bytes
    size_t cut;         // bytes of that line beyond max
    enum join join;
    bool holding; // `held` is a record (JSON, logfmt) that waits for its trace
    struct buf held;
    struct stamp held_at;
    enum level held_level;
    size_t held_cut;
    int64_t held_until; // monotonic ms
};

// New prefixes with this pid. -1: out of memory.
int stream_pid(struct stream *s, int pid);

// Reads once and hands on whole lines. 1: there was something; 0: nothing now; -1: the end, after
// which fd is -1 and nothing is kept back.
int stream_read(struct stream *s, struct outlet *o);

// Hands on a record that was kept back for its trace.
void stream_release(struct stream *s, struct outlet *o);

// Hands on everything, also a line without its end.
void stream_finish(struct stream *s, struct outlet *o);

void stream_free(struct stream *s);

#endif
