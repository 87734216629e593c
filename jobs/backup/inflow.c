#include "backup/inflow.h"

#include "base/cleanup.h"

#include <isa-l/igzip_lib.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <zstd.h>

enum {
    BUFFERS = 4,
    BUFFER_BYTES = 1 << 20,
    INPUT_BYTES = 256 << 10,
};

struct inflow {
    struct store *store;
    enum inflow_kind kind;
    struct inflate_state *gzip;
    ZSTD_DCtx *zstd;
    uint8_t *input;
    size_t pos, len; // in input
    bool input_ended;
    atomic_int_fast64_t read_bytes;

    pthread_t thread;
    bool running;
    pthread_mutex_t mutex;
    pthread_cond_t filled, freed;
    uint8_t *buffers[BUFFERS];
    size_t lengths[BUFFERS];
    uint64_t made, used; // buffers, counted
    bool holding;        // the consumer has the one before `used`
    bool ended, cancelled;
    struct err failure;
};

// ---- in the thread

static int fill_input(struct inflow *f, struct err *e) {
    ssize_t n = f->store->ops->read(f->store, f->input, INPUT_BYTES, e);
    if (n < 0)
        return -1;
    f->pos = 0;
    f->len = (size_t)n;
    f->input_ended = n == 0;
    f->read_bytes += n;
    return 0;
}

static int cut(struct err *e) {
    return err_set(e, EX_DATAERR, "ends too early: it is cut, or was never finished");
}

static int check_nothing_follows(struct inflow *f, struct err *e) {
    if (f->pos == f->len && fill_input(f, e) < 0)
        return -1;
    return f->pos == f->len
               ? 0
               : err_set(e, EX_DATAERR, "something follows the end of the compressed data");
}

// Each of these puts up to size bytes to out; 0 is the proven end.
static ssize_t gzip_some(struct inflow *f, uint8_t *out, size_t size, struct err *e) {
    struct inflate_state *g = f->gzip;
    g->next_out = out;
    g->avail_out = (uint32_t)size;
    while (g->avail_out && g->block_state != ISAL_BLOCK_FINISH) {
        if (f->pos == f->len && !f->input_ended && fill_input(f, e) < 0)
            return -1;
        uint32_t before = g->avail_out;
        g->next_in = f->input + f->pos;
        g->avail_in = (uint32_t)(f->len - f->pos);
        int rc = isal_inflate(g);
        f->pos = f->len - g->avail_in;
        if (rc == ISAL_INCORRECT_CHECKSUM)
            return err_set(e, EX_DATAERR, "is damaged: its checksum does not fit");
        if (rc < 0)
            return err_set(e, EX_DATAERR, "is damaged: it does not decompress (%d)", rc);
        if (f->input_ended && g->avail_out == before && g->block_state != ISAL_BLOCK_FINISH)
            return cut(e);
    }
    size_t n = size - g->avail_out;
    return n || f->kind == INFLOW_DEFLATE ? (ssize_t)n : check_nothing_follows(f, e);
}

static ssize_t zstd_some(struct inflow *f, uint8_t *out, size_t size, struct err *e) {
    ZSTD_outBuffer o = {out, size, 0};
    static const size_t frame_ended = 0;
    size_t rc = frame_ended;
    while (o.pos < size) {
        if (f->pos == f->len && !f->input_ended && fill_input(f, e) < 0)
            return -1;
        if (f->input_ended)
            break;
        ZSTD_inBuffer i = {f->input, f->len, f->pos};
        rc = ZSTD_decompressStream(f->zstd, &o, &i);
        f->pos = i.pos;
        if (ZSTD_isError(rc))
            return err_set(e, EX_DATAERR, "is damaged: %s", ZSTD_getErrorName(rc));
    }
    return f->input_ended && rc != frame_ended ? cut(e) : (ssize_t)o.pos;
}

static ssize_t plain_some(struct inflow *f, uint8_t *out, size_t size, struct err *e) {
    if (f->pos == f->len && fill_input(f, e) < 0)
        return -1;
    size_t n = f->len - f->pos < size ? f->len - f->pos : size;
    memcpy(out, f->input + f->pos, n);
    f->pos += n;
    return (ssize_t)n;
}

static ssize_t some(struct inflow *f, uint8_t *out, struct err *e) {
    if (f->kind == INFLOW_ZSTD)
        return zstd_some(f, out, BUFFER_BYTES, e);
    if (f->kind == INFLOW_PLAIN)
        return plain_some(f, out, BUFFER_BYTES, e);
    return gzip_some(f, out, BUFFER_BYTES, e);
}

// By the first bytes; at least four must have come.
static int recognise(struct inflow *f, struct err *e) {
    while (f->len < 4 && !f->input_ended) {
        ssize_t n = f->store->ops->read(f->store, f->input + f->len, INPUT_BYTES - f->len, e);
        if (n < 0)
            return -1;
        f->len += (size_t)n;
        f->read_bytes += n;
        f->input_ended = n == 0;
    }
    if (f->len == 0)
        return err_set(e, EX_DATAERR, "is empty");
    if (f->len < 4)
        return cut(e);
    f->kind = f->input[0] == 0x1f && f->input[1] == 0x8b     ? INFLOW_GZIP
              : memcmp(f->input, "\x28\xb5\x2f\xfd", 4) == 0 ? INFLOW_ZSTD
              : memcmp(f->input, "age-", 4) == 0             ? INFLOW_AUTO
                                                             : INFLOW_PLAIN;
    if (f->kind == INFLOW_AUTO)
        return err_set(e, EX_NOPERM, "is encrypted: an identity_file is needed to read it");
    f->gzip->crc_flag = f->kind == INFLOW_GZIP ? ISAL_GZIP : ISAL_DEFLATE;
    return 0;
}

// With the mutex held.
static bool wait_free(struct inflow *f) {
    while (f->made - f->used >= BUFFERS - (f->holding ? 1U : 0U) && !f->cancelled)
        pthread_cond_wait(&f->freed, &f->mutex);
    return !f->cancelled;
}

static void *produce(void *arg) {
    struct inflow *f = arg;
    struct err e = {0};
    ssize_t n = f->kind == INFLOW_AUTO && recognise(f, &e) < 0 ? -1 : 1;
    pthread_mutex_lock(&f->mutex);
    while (n > 0 && wait_free(f)) {
        unsigned i = f->made % BUFFERS;
        pthread_mutex_unlock(&f->mutex);
        n = some(f, f->buffers[i], &e);
        pthread_mutex_lock(&f->mutex);
        if (n > 0) {
            f->lengths[i] = (size_t)n;
            f->made++;
            pthread_cond_signal(&f->filled);
        }
    }
    if (n < 0)
        f->failure = e;
    f->ended = true;
    pthread_cond_signal(&f->filled);
    pthread_mutex_unlock(&f->mutex);
    return NULL;
}

// ---- the consumer's side

static int start_thread(struct inflow *f, struct err *e) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&f->thread, NULL, produce, f);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    f->running = rc == 0;
    return rc == 0 ? 0 : err_set(e, EX_OSERR, "cannot start a thread");
}

int inflow_start(struct store *s, enum inflow_kind kind, struct inflow **ret, struct err *e) {
    struct inflow *f = calloc(1, sizeof *f);
    if (!f)
        return err_set(e, EX_OSERR, "out of memory");
    f->store = s;
    f->kind = kind;
    pthread_mutex_init(&f->mutex, NULL);
    pthread_cond_init(&f->filled, NULL);
    pthread_cond_init(&f->freed, NULL);
    f->gzip = malloc(sizeof *f->gzip);
    f->zstd = ZSTD_createDCtx();
    f->input = malloc(INPUT_BYTES);
    bool good = f->gzip && f->zstd && f->input;
    for (int i = 0; i < BUFFERS; i++)
        good &= (f->buffers[i] = malloc(BUFFER_BYTES)) != NULL;
    if (good) {
        isal_inflate_init(f->gzip);
        f->gzip->crc_flag = kind == INFLOW_GZIP ? ISAL_GZIP : ISAL_DEFLATE;
    }
    if ((good ? start_thread(f, e) : err_set(e, EX_OSERR, "out of memory")) < 0) {
        inflow_free(f);
        return -1;
    }
    *ret = f;
    return 0;
}

ssize_t inflow_next(struct inflow *f, const void **ret_data, struct err *e) {
    ssize_t n = 0;
    pthread_mutex_lock(&f->mutex);
    f->holding = false;
    pthread_cond_signal(&f->freed);
    while (f->made == f->used && !f->ended)
        pthread_cond_wait(&f->filled, &f->mutex);
    if (f->made != f->used) {
        unsigned i = f->used++ % BUFFERS;
        f->holding = true;
        *ret_data = f->buffers[i];
        n = (ssize_t)f->lengths[i];
    } else if (f->failure.code) {
        *e = f->failure;
        n = -1;
    }
    pthread_mutex_unlock(&f->mutex);
    return n;
}

int64_t inflow_read_bytes(const struct inflow *f) {
    return f->read_bytes;
}

void inflow_free(struct inflow *f) {
    if (!f)
        return;
    pthread_mutex_lock(&f->mutex);
    f->cancelled = true;
    pthread_cond_signal(&f->freed);
    pthread_mutex_unlock(&f->mutex);
    if (f->running)
        pthread_join(f->thread, NULL);
    pthread_mutex_destroy(&f->mutex);
    pthread_cond_destroy(&f->filled);
    pthread_cond_destroy(&f->freed);
    for (int i = 0; i < BUFFERS; i++)
        free(f->buffers[i]);
    ZSTD_freeDCtx(f->zstd);
    free(f->gzip);
    free(f->input);
    free(f);
}

ssize_t inflow_peek(enum inflow_kind kind, const void *data, size_t len, void *out, size_t size) {
    if (kind == INFLOW_ZSTD) {
        ZSTD_DCtx *z = ZSTD_createDCtx();
        ZSTD_outBuffer o = {out, size, 0};
        ZSTD_inBuffer i = {data, len, 0};
        size_t rc = z ? ZSTD_decompressStream(z, &o, &i) : 0;
        ZSTD_freeDCtx(z);
        return ZSTD_isError(rc) ? -1 : (ssize_t)o.pos;
    }
    struct inflate_state *g = malloc(sizeof *g);
    if (!g)
        return -1;
    isal_inflate_init(g);
    g->next_in = (uint8_t *)(uintptr_t)data;
    g->avail_in = (uint32_t)len;
    g->next_out = out;
    g->avail_out = (uint32_t)size;
    int rc = isal_inflate(g);
    ssize_t n = rc < 0 ? -1 : (ssize_t)(size - g->avail_out);
    free(g);
    return n;
}
