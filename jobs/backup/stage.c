#include "backup/stage.h"

#include "base/cleanup.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

enum slot_state {
    SLOT_FREE,
    SLOT_READY, // filled, waits for a worker
    SLOT_BUSY,
    SLOT_DONE, // compressed, waits for the writer
};

struct slot {
    enum slot_state state;
    uint8_t *in, *out;
    size_t len, out_len;
    uint32_t crc;
};

enum {
    THREADS_MAX = 16,
    HEAD_MAX = 4096,
    // Compression does what is left to do: who reads the dump or the files is on the way of all.
    NICE = 10,
};

struct stage {
    struct store *store;
    enum compression kind;
    int threads, nslots;
    size_t block, out_cap, head_len, patch;
    struct slot *slots;
    struct codec *codecs[THREADS_MAX];
    pthread_t workers[THREADS_MAX], writer;
    int started; // workers
    bool writing, closing, cancelled;
    const atomic_bool *stop;

    pthread_mutex_t mutex;
    pthread_cond_t ready, done, freed; // to workers, to the writer, to the producer
    uint64_t filled, taken, written;   // blocks, counted
    struct err failure;                // the first; code 0: none

    uint32_t crc; // of what came after the head, as far as written
    uint64_t crc_len;
    atomic_uint_fast64_t raw, out_bytes;
};

static struct slot *slot_of(struct stage *g, uint64_t n) {
    return &g->slots[n % g->nslots];
}

// With the mutex held.
static void fail(struct stage *g, const struct err *e) {
    if (!g->failure.code)
        g->failure = *e;
    pthread_cond_broadcast(&g->ready);
    pthread_cond_broadcast(&g->done);
    pthread_cond_broadcast(&g->freed);
}

static bool over(const struct stage *g) {
    return g->failure.code || g->cancelled;
}

struct worker_arg {
    struct stage *g;
    struct codec *codec;
};

static void compress_slot(struct stage *g, struct codec *c, struct slot *s) {
    struct err e = {0};
    s->crc = codec_crc(0, s->in, s->len);
    int rc = codec_block(c, s->in, s->len, s->out, g->out_cap, &s->out_len, &e);
    pthread_mutex_lock(&g->mutex);
    if (rc < 0)
        fail(g, &e);
    s->state = SLOT_DONE;
    pthread_cond_signal(&g->done);
}

static void *work(void *arg) {
    struct worker_arg *a = arg;
    struct stage *g = a->g;
    struct codec *c = a->codec;
    free(a);
    (void)!nice(NICE); // on Linux: this thread alone
    pthread_mutex_lock(&g->mutex);
    for (;;) {
        while (g->taken == g->filled && !g->closing && !over(g))
            pthread_cond_wait(&g->ready, &g->mutex);
        if (over(g) || g->taken == g->filled)
            break;
        struct slot *s = slot_of(g, g->taken++);
        s->state = SLOT_BUSY;
        pthread_mutex_unlock(&g->mutex);
        compress_slot(g, c, s); // returns with the mutex
    }
    pthread_mutex_unlock(&g->mutex);
    return NULL;
}

static void write_slot(struct stage *g, struct slot *s) {
    struct err e = {0};
    int rc = g->store->ops->write(g->store, s->out, s->out_len, &e);
    g->crc = codec_crc_join(g->crc, s->crc, s->len);
    g->crc_len += s->len;
    g->out_bytes += s->out_len;
    pthread_mutex_lock(&g->mutex);
    if (rc < 0)
        fail(g, &e);
    s->state = SLOT_FREE;
    g->written++;
    pthread_cond_signal(&g->freed);
}

static void *write_out(void *arg) {
    struct stage *g = arg;
    pthread_mutex_lock(&g->mutex);
    for (;;) {
        struct slot *s = slot_of(g, g->written);
        while (s->state != SLOT_DONE && !over(g) && !(g->closing && g->written == g->filled))
            pthread_cond_wait(&g->done, &g->mutex);
        if (over(g) || s->state != SLOT_DONE)
            break;
        pthread_mutex_unlock(&g->mutex);
        write_slot(g, s); // returns with the mutex
    }
    pthread_mutex_unlock(&g->mutex);
    return NULL;
}

// With the mutex held: until the next slot is free, or all is written. Looks at *stop meanwhile,
// for a store may hang.
static int wait_freed(struct stage *g, bool all, struct err *e) {
    for (;;) {
        if (g->failure.code) {
            *e = g->failure;
            return -1;
        }
        if (g->stop && *g->stop)
            return err_set(e, EX_TEMPFAIL, "told to stop");
        if (all ? g->written == g->filled : slot_of(g, g->filled)->state == SLOT_FREE)
            return 0;
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 200 * 1000000;
        if (until.tv_nsec >= 1000000000) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000;
        }
        pthread_cond_timedwait(&g->freed, &g->mutex, &until);
    }
}

static int hand_over(struct stage *g, struct err *e) {
    pthread_mutex_lock(&g->mutex);
    slot_of(g, g->filled)->state = SLOT_READY;
    g->filled++;
    pthread_cond_signal(&g->ready);
    int rc = wait_freed(g, false, e);
    pthread_mutex_unlock(&g->mutex);
    if (rc == 0)
        slot_of(g, g->filled)->len = 0;
    return rc;
}

int stage_write(struct stage *g, const void *data, size_t len, struct err *e) {
    const uint8_t *p = data;
    g->raw += len;
    while (len) {
        struct slot *s = slot_of(g, g->filled);
        size_t n = g->block - s->len < len ? g->block - s->len : len;
        memcpy(s->in + s->len, p, n);
        s->len += n;
        p += n;
        len -= n;
        if (s->len == g->block && hand_over(g, e) < 0)
            return -1;
    }
    return 0;
}

int stage_flush(struct stage *g, struct err *e) {
    return slot_of(g, g->filled)->len ? hand_over(g, e) : 0;
}

int stage_mark(struct stage *g, uint64_t *ret_offset, struct err *e) {
    if (stage_flush(g, e) < 0)
        return -1;
    pthread_mutex_lock(&g->mutex);
    int rc = wait_freed(g, true, e);
    pthread_mutex_unlock(&g->mutex);
    *ret_offset = g->out_bytes;
    return rc;
}

static bool make_slots(struct stage *g) {
    g->block = g->store->holds ? CODEC_BLOCK / 2 : codec_block_bytes(g->kind);
    // One being filled, one being written; of small blocks more for the same memory.
    g->nslots = g->threads + 2 + (g->store->holds ? 0 : 2 * (int)(CODEC_BLOCK / g->block));
    g->out_cap = codec_bound(g->kind, g->block);
    g->slots = calloc(g->nslots, sizeof *g->slots);
    for (int i = 0; g->slots && i < g->nslots; i++) {
        g->slots[i].in = malloc(g->block);
        g->slots[i].out = malloc(g->out_cap);
        if (!g->slots[i].in || !g->slots[i].out)
            return false;
    }
    return g->slots != NULL;
}

// Signals are the main thread's.
static int start_threads(struct stage *g, struct err *e) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = 0;
    for (int i = 0; rc == 0 && i < g->threads; i++) {
        struct worker_arg *a = malloc(sizeof *a);
        if (!a || pthread_create(&g->workers[i], NULL, work,
                                 (*a = (struct worker_arg){g, g->codecs[i]}, a)) != 0) {
            free(a);
            rc = err_set(e, EX_OSERR, "cannot start a thread");
        } else
            g->started++;
    }
    if (rc == 0 && pthread_create(&g->writer, NULL, write_out, g) != 0)
        rc = err_set(e, EX_OSERR, "cannot start a thread");
    g->writing = rc == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

static int write_head(struct stage *g, struct err *e) {
    uint8_t begin[CODEC_HEAD_MAX + HEAD_MAX], zeros[HEAD_MAX];
    // Not a tar header, and not the zeros of an archive's end either.
    memset(zeros, 0xff, sizeof zeros);
    size_t n = codec_begin(g->kind, zeros, g->head_len, begin, &g->patch);
    g->raw = g->head_len;
    g->out_bytes = n;
    return n ? g->store->ops->write(g->store, begin, n, e) : 0;
}

int stage_start(struct store *s, enum compression kind, int threads, size_t head_len,
                const atomic_bool *stop, struct stage **ret, struct err *e) {
    struct stage *g = calloc(1, sizeof *g);
    if (!g || head_len > HEAD_MAX) {
        free(g);
        return err_set(e, EX_OSERR, "out of memory");
    }
    g->store = s;
    g->kind = kind;
    g->threads = threads < 1 ? 1 : threads > THREADS_MAX ? THREADS_MAX : threads;
    g->head_len = head_len;
    g->stop = stop;
    pthread_mutex_init(&g->mutex, NULL);
    pthread_cond_init(&g->ready, NULL);
    pthread_cond_init(&g->done, NULL);
    pthread_cond_init(&g->freed, NULL);
    int rc = make_slots(g) ? 0 : err_set(e, EX_OSERR, "out of memory");
    for (int i = 0; rc == 0 && i < g->threads; i++)
        rc = codec_new(kind, &g->codecs[i], e);
    if (rc == 0)
        rc = write_head(g, e);
    if (rc == 0)
        rc = start_threads(g, e);
    if (rc < 0) {
        stage_free(g);
        return -1;
    }
    *ret = g;
    return 0;
}

int stage_finish(struct stage *g, const void *head, struct err *e) {
    if (stage_flush(g, e) < 0)
        return -1;
    pthread_mutex_lock(&g->mutex);
    g->closing = true;
    pthread_cond_broadcast(&g->ready);
    pthread_cond_broadcast(&g->done);
    int rc = wait_freed(g, true, e);
    pthread_mutex_unlock(&g->mutex);
    if (rc < 0)
        return -1;
    uint32_t crc = g->crc;
    uint8_t end[CODEC_TAIL_MAX];
    if (g->head_len)
        crc = codec_crc_join(codec_crc(0, head, g->head_len), crc, g->crc_len);
    size_t n = codec_end(g->kind, crc, g->raw, end);
    g->out_bytes += n;
    if (n && g->store->ops->write(g->store, end, n, e) < 0)
        return -1;
    return g->head_len ? g->store->ops->patch(g->store, g->patch, head, g->head_len, e) : 0;
}

void stage_free(struct stage *g) {
    if (!g)
        return;
    pthread_mutex_lock(&g->mutex);
    g->cancelled = true;
    pthread_cond_broadcast(&g->ready);
    pthread_cond_broadcast(&g->done);
    pthread_mutex_unlock(&g->mutex);
    for (int i = 0; i < g->started; i++)
        pthread_join(g->workers[i], NULL);
    if (g->writing)
        pthread_join(g->writer, NULL);
    for (int i = 0; i < g->threads; i++)
        codec_free(g->codecs[i]);
    for (int i = 0; g->slots && i < g->nslots; i++) {
        free(g->slots[i].in);
        free(g->slots[i].out);
    }
    free(g->slots);
    pthread_cond_destroy(&g->ready);
    pthread_cond_destroy(&g->done);
    pthread_cond_destroy(&g->freed);
    pthread_mutex_destroy(&g->mutex);
    free(g);
}

uint64_t stage_raw_bytes(const struct stage *g) {
    return g->raw;
}

uint64_t stage_written_bytes(const struct stage *g) {
    return g->out_bytes;
}
