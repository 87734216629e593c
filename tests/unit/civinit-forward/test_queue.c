// The bounded buffer: what is kept, what is dropped, what is sent again.
#include "forward/msgpack.h"
#include "forward/queue.h"

#include <criterion/criterion.h>
#include <string.h>

enum {
    RECORD = 100
};

// Adds a record that consists of its number, again and again.
static bool add(struct queue *q, unsigned number) {
    struct buf *b = queue_begin(q, RECORD);
    char bytes[RECORD];
    if (!b)
        return false;
    size_t before = b->len;
    for (unsigned i = 0; i < RECORD; i += 4)
        mp_put32(bytes + i, number);
    buf_add(b, bytes, RECORD);
    queue_end(q, before);
    return true;
}

// Checks a chunk's message and adds its records' numbers to the list.
static void check(const struct chunk *c, const char *tag, unsigned *list, unsigned *n) {
    struct mp_reader r = {c->bytes.data, c->bytes.data + c->bytes.len};
    struct mp_item item, entries;
    cr_assert(mp_next(&r, &item) == 0 && item.type == MP_ARRAY && item.n == 3);
    cr_assert(mp_next(&r, &item) == 0 && mp_is(&item, tag));
    cr_assert(mp_next(&r, &entries) == 0 && entries.type == MP_TEXT &&
              entries.n == c->records * RECORD);
    for (unsigned i = 0; i < c->records; i++) {
        const unsigned char *p = (const unsigned char *)entries.text + (size_t)i * RECORD;
        list[(*n)++] = (unsigned)p[0] << 24 | (unsigned)p[1] << 16 | (unsigned)p[2] << 8 | p[3];
    }
    cr_assert(mp_next(&r, &item) == 0 && item.type == MP_MAP && item.n == 2);
    cr_assert(mp_next(&r, &item) == 0 && mp_is(&item, "size") && mp_skip(&r) == 0);
    cr_assert(mp_next(&r, &item) == 0 && mp_is(&item, "chunk"));
    cr_assert(mp_next(&r, &item) == 0 && mp_is(&item, c->id) && r.p == r.end);
}

// Sends and acknowledges all; the numbers that came out.
static unsigned drain(struct queue *q, unsigned *list) {
    unsigned n = 0;
    for (struct chunk *c; (c = queue_next(q));) {
        check(c, q->tag, list, &n);
        c->sent = true;
        char id[QUEUE_ID + 1];
        strcpy(id, c->id);
        cr_assert(!queue_ack(q, "somebody else's id......", QUEUE_ID));
        cr_assert(queue_ack(q, id, QUEUE_ID));
    }
    cr_expect(q->first == NULL && q->last == NULL && q->bytes == 0 && q->records == 0);
    return n;
}

Test(queue, all_come_out_in_order) {
    static const char *const tags[] = {"t", "a tag of exactly 31 characters.",
                                       "a tag of 32 characters, no less!",
                                       "a.much.longer.tag.of.more.than.thirty-one.characters"};
    static unsigned list[5000];
    for (int i = 0; i < 4; i++) {
        struct queue q = {.tag = tags[i], .max = 1 << 20};
        for (unsigned k = 0; k < 5000; k++)
            cr_assert(add(&q, k));
        cr_assert_eq(q.records, 5000);
        cr_assert_eq(drain(&q, list), 5000);
        for (unsigned k = 0; k < 5000; k++)
            cr_assert_eq(list[k], k);
        cr_expect(q.delivered == 5000 && q.dropped == 0);
    }
}

Test(queue, drop_oldest_keeps_the_newest_and_what_is_on_its_way) {
    static unsigned list[5000];
    struct queue q = {.tag = "t", .max = 64 << 10, .overflow = OVERFLOW_DROP_OLDEST};
    for (unsigned k = 0; k < 10; k++)
        add(&q, k);
    struct chunk *on_its_way = queue_next(&q);
    on_its_way->sent = true;
    for (unsigned k = 10; k < 5000; k++) {
        cr_assert(add(&q, k));
        cr_assert(q.bytes <= q.max + 200);
    }
    cr_expect_eq(queue_in_flight(&q), 1);
    cr_expect_eq(queue_unacknowledged(&q), 10);
    cr_expect_eq(q.first, on_its_way);
    cr_expect_eq(q.dropped + q.records, 5000);
    queue_rewind(&q);
    cr_expect(q.resent == 10 && queue_unacknowledged(&q) == 0);
    unsigned n = drain(&q, list);
    cr_expect(n > 300 && n + q.dropped == 5000, "%u", n);
    for (unsigned k = 0; k < n; k++)
        cr_assert_eq(list[k], k < 10 ? k : 5000 - n + k);
}

Test(queue, drop_newest_keeps_the_oldest) {
    static unsigned list[5000];
    struct queue q = {.tag = "t", .max = 64 << 10, .overflow = OVERFLOW_DROP_NEWEST};
    for (unsigned k = 0; k < 5000; k++)
        add(&q, k);
    unsigned n = drain(&q, list);
    cr_expect(n > 300 && n + q.dropped == 5000);
    for (unsigned k = 0; k < n; k++)
        cr_assert_eq(list[k], k);
}

Test(queue, block_drops_nothing) {
    static unsigned list[5000];
    struct queue q = {.tag = "t", .max = 64 << 10, .overflow = OVERFLOW_BLOCK};
    unsigned k = 0;
    while (add(&q, k))
        k++;
    cr_expect(k > 300 && q.dropped == 0);
    cr_expect_eq(drain(&q, list), k);
    cr_expect(add(&q, k));
    queue_free(&q);
    cr_expect(q.bytes == 0);
}

Test(queue, acknowledgements_in_any_order) {
    struct queue q = {.tag = "t", .max = 1 << 20};
    char ids[3][QUEUE_ID + 1];
    for (unsigned i = 0; i < 3; i++) {
        add(&q, i);
        struct chunk *c = queue_next(&q);
        c->sent = true;
        strcpy(ids[i], c->id);
    }
    cr_expect_eq(queue_in_flight(&q), 3);
    cr_expect(queue_ack(&q, ids[1], QUEUE_ID) && !queue_ack(&q, ids[1], QUEUE_ID));
    cr_expect(queue_ack(&q, ids[2], QUEUE_ID));
    cr_expect(!queue_ack(&q, ids[0], 3));
    add(&q, 3); // after the last was removed
    queue_rewind(&q);
    unsigned list[4];
    cr_expect_eq(drain(&q, list), 2);
    cr_expect(list[0] == 0 && list[1] == 3);
}
