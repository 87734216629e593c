#include "forward/account.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"

#include <string.h>
#include <unistd.h>

enum {
    PAUSE_MS = 2000
};

void account_init(struct account *a, const char *run_dir) {
    *a = (struct account){.run_dir = run_dir};
}

static void number(struct buf *b, const char *name, uint64_t value) {
    buf_printf(b, ",\"%s\":%llu", name, (unsigned long long)value);
}

static void describe(const struct queue *q, const struct peer *p, struct buf *b) {
    buf_printf(b, "\"pid\":%d,\"server\":", (int)getpid());
    buf_json(b, peer_server(p));
    buf_printf(b, ",\"connected\":%s", p->state == PEER_READY ? "true" : "false");
    number(b, "delivered", q->delivered);
    number(b, "dropped", q->dropped);
    number(b, "resent", q->resent);
    number(b, "waiting", q->records);
    number(b, "unacknowledged", queue_unacknowledged(q));
    number(b, "bytes", q->bytes);
    number(b, "limit", q->max);
    number(b, "connections", p->connections);
    buf_str(b, ",\"problem\":");
    buf_json(b, p->problem);
}

static void replace(struct account *a) {
    autobuf struct buf path = {0}, text = {0};
    struct err e;
    buf_printf(&path, "%s/forward.json", a->run_dir);
    buf_printf(&text, "{\"updated\":%lld,%s}\n", (long long)clock_wall_ms(), a->told.data);
    if (path.failed || text.failed || access(a->run_dir, F_OK) < 0)
        return;
    bool failed = file_replace(path.data, text.data, text.len, 0644, 0, &e) < 0;
    if (failed && !a->failed)
        log_warning("the figures are not told: %s", e.text);
    a->failed = failed;
}

void account_tell(struct account *a, const struct queue *q, const struct peer *p, int64_t now_ms,
                  bool last) {
    struct buf now = {0};
    a->waits = now_ms < a->next_ms && !last;
    if (a->waits)
        return;
    describe(q, p, &now);
    if (now.failed || (a->told.data && strcmp(now.data, a->told.data) == 0)) {
        buf_free(&now);
        return;
    }
    buf_free(&a->told);
    a->told = now;
    a->next_ms = now_ms + PAUSE_MS;
    replace(a);
}

int64_t account_deadline_ms(const struct account *a) {
    return a->waits ? a->next_ms : -1;
}

void account_free(struct account *a) {
    buf_free(&a->told);
}
