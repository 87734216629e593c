#include "forward/queue.h"

#include "forward/msgpack.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum {
    CHUNK = 60 << 10, // bytes at which a chunk is full; with its last record 64 KiB
};

// Small buffers still hold several chunks, so that dropping one leaves others.
static size_t chunk_size(const struct queue *q) {
    return q->max / 8 < CHUNK ? q->max / 8 : CHUNK;
}

static void new_id(char *id) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    unsigned char bytes[18] = {0};
    if (getrandom(bytes, 16, 0) != 16)
        abort(); // cannot fail for so few bytes, getrandom(2)
    for (int i = 0; i < 6; i++) {
        unsigned group = (unsigned)bytes[i * 3] << 16 | bytes[i * 3 + 1] << 8 | bytes[i * 3 + 2];
        for (int k = 0; k < 4; k++)
            id[i * 4 + k] = digits[group >> (18 - 6 * k) & 63];
    }
    memcpy(id + 22, "==", 3);
}

// The message's beginning, with a length to be filled in when it is closed.
static void open_message(struct queue *q, struct chunk *c) {
    static const char entries[5] = {(char)0xc6}; // bytes with a 32-bit length
    mp_array(&c->bytes, 3);
    mp_text(&c->bytes, q->tag, strlen(q->tag));
    buf_add(&c->bytes, entries, sizeof entries);
}

static struct chunk *new_chunk(struct queue *q) {
    struct chunk *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    new_id(c->id);
    open_message(q, c);
    if (c->bytes.failed) {
        free(c);
        return NULL;
    }
    if (q->last)
        q->last->next = c;
    else
        q->first = c;
    q->last = c;
    q->bytes += c->bytes.len;
    return c;
}

static void close_chunk(struct queue *q, struct chunk *c) {
    size_t before = c->bytes.len, head = 1 + 1 + strlen(q->tag) + 5;
    if (strlen(q->tag) >= 32)
        head += 2;
    mp_put32(c->bytes.data + head - 4, (uint32_t)(before - head));
    mp_map(&c->bytes, 2);
    mp_text(&c->bytes, "size", 4);
    mp_int(&c->bytes, c->records);
    mp_text(&c->bytes, "chunk", 5);
    mp_text(&c->bytes, c->id, QUEUE_ID);
    c->closed = true;
    q->bytes += c->bytes.len - before;
}

// Takes a chunk out of the list; prev NULL: it is the first.
static void remove_chunk(struct queue *q, struct chunk *prev, struct chunk *c) {
    if (prev)
        prev->next = c->next;
    else
        q->first = c->next;
    if (q->last == c)
        q->last = prev;
    q->bytes -= c->bytes.len;
    q->records -= c->records;
    buf_free(&c->bytes);
    free(c);
}

static bool drop_oldest(struct queue *q) {
    struct chunk *prev = NULL, *c = q->first;
    while (c && c->sent) {
        prev = c;
        c = c->next;
    }
    if (!c)
        return false;
    q->dropped += c->records;
    remove_chunk(q, prev, c);
    return true;
}

struct buf *queue_begin(struct queue *q, size_t need) {
    while (q->bytes + need > q->max) {
        if (q->overflow == OVERFLOW_BLOCK && q->first)
            return NULL;
        if (q->overflow != OVERFLOW_DROP_OLDEST || !drop_oldest(q)) {
            q->dropped++;
            return NULL;
        }
    }
    struct chunk *c = q->last;
    if (c && !c->closed && c->bytes.len >= chunk_size(q))
        close_chunk(q, c);
    if (!c || c->closed)
        c = new_chunk(q);
    if (c)
        return &c->bytes;
    q->dropped++;
    return NULL;
}

void queue_end(struct queue *q, size_t before) {
    struct chunk *c = q->last;
    if (c->bytes.failed) { // out of memory: what was there before is whole
        c->bytes.failed = false;
        c->bytes.len = before;
        q->dropped++;
        return;
    }
    c->records++;
    q->records++;
    q->bytes += c->bytes.len - before;
}

struct chunk *queue_next(struct queue *q) {
    struct chunk *c = q->first;
    while (c && c->sent)
        c = c->next;
    if (!c || c->records == 0)
        return NULL;
    if (!c->closed)
        close_chunk(q, c);
    return c->bytes.failed ? NULL : c;
}

bool queue_ack(struct queue *q, const char *id, size_t len) {
    struct chunk *prev = NULL;
    for (struct chunk *c = q->first; c && c->sent; prev = c, c = c->next) {
        if (len != QUEUE_ID || memcmp(c->id, id, len) != 0)
            continue;
        q->delivered += c->records;
        remove_chunk(q, prev, c);
        return true;
    }
    return false;
}

unsigned queue_in_flight(const struct queue *q) {
    unsigned n = 0;
    for (struct chunk *c = q->first; c && c->sent; c = c->next)
        n++;
    return n;
}

uint64_t queue_unacknowledged(const struct queue *q) {
    uint64_t n = 0;
    for (struct chunk *c = q->first; c && c->sent; c = c->next)
        n += c->records;
    return n;
}

void queue_rewind(struct queue *q) {
    q->resent += queue_unacknowledged(q);
    for (struct chunk *c = q->first; c; c = c->next)
        c->sent = false;
}

void queue_free(struct queue *q) {
    while (q->first)
        remove_chunk(q, NULL, q->first);
}
