// Where records go: a buffer of whole records and the descriptor it is written to.
//
// A write blocks while the reader stalls: then the pipes of the services fill, and they wait. A
// write that was cut short is continued, so that no record is torn. A reader that has gone, or a
// full disk, costs records, which are counted, but stops nobody.
#ifndef LOG_SINK_H
#define LOG_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sink {
    int fd;           // -1: not used
    const char *name; // for messages
    char *data;
    size_t len, cap;
    uint64_t lost; // bytes that could not be written
    int problem;   // errno of the last failed write, 0 after a good one
    bool gone;     // the reader has closed its end
};

// Makes the buffer; cap must hold the longest record. -1: out of memory.
int sink_open(struct sink *s, int fd, const char *name, size_t cap);

// A place for need bytes (need <= cap); writes what is there first when it is short of room. The
// caller sets s->len to the end of what it put there.
char *sink_room(struct sink *s, size_t need);

// Writes all.
void sink_flush(struct sink *s);

void sink_close(struct sink *s);

#endif
