// Records that wait for their acknowledgement: a bounded list of chunks, each one message of the
// forward protocol's PackedForward mode, [tag, entries, {size, chunk}].
#ifndef FORWARD_QUEUE_H
#define FORWARD_QUEUE_H

#include "base/text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    QUEUE_ID = 24, // base64 of 16 random bytes, as Fluentd's own clients make them
};

struct chunk {
    struct chunk *next;
    struct buf bytes; // once closed: the whole message
    unsigned records;
    bool closed, sent;
    char id[QUEUE_ID + 1];
};

enum overflow {
    OVERFLOW_DROP_OLDEST,
    OVERFLOW_DROP_NEWEST,
    OVERFLOW_BLOCK,
};

struct queue {
    const char *tag;
    enum overflow overflow;
    size_t max;          // bytes
    size_t bytes;        // of all chunks
    struct chunk *first; // the oldest; those that were sent come before those that were not
    struct chunk *last;  // may be open
    uint64_t records, dropped, delivered;
    uint64_t resent; // sent, and to be sent again: may come twice
};

// Room for a record that takes about `need` bytes, making it by the overflow policy. The buffer to
// add exactly one entry to, or NULL: the record is to be dropped (counted already) or, with
// OVERFLOW_BLOCK, kept until there is room.
struct buf *queue_begin(struct queue *q, size_t need);

// The entry has been added; `before` is the buffer's length before it.
void queue_end(struct queue *q, size_t before);

// The oldest chunk that was not sent, closed now; NULL: none. The caller sets ->sent.
struct chunk *queue_next(struct queue *q);

// The chunk with this id has arrived. false: there is none.
bool queue_ack(struct queue *q, const char *id, size_t len);

// The number of chunks that were sent and not acknowledged.
unsigned queue_in_flight(const struct queue *q);

// Records that were sent and not acknowledged.
uint64_t queue_unacknowledged(const struct queue *q);

// The connection is lost: all are to be sent again.
void queue_rewind(struct queue *q);

void queue_free(struct queue *q);

#endif
