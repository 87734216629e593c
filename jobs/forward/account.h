// RUN_DIR/forward.json: what became of the records, for civinit-statusd. Replaced by rename, at
// most every two seconds and only when something has changed.
//
//     {"updated":ms, "pid":…, "server":"host:port", "connected":true, "delivered":…, "dropped":…,
//      "resent":…, "waiting":…, "unacknowledged":…, "bytes":…, "limit":…, "connections":…,
//      "problem":"…"}
#ifndef FORWARD_ACCOUNT_H
#define FORWARD_ACCOUNT_H

#include "base/text.h"
#include "forward/peer.h"
#include "forward/queue.h"

#include <stdbool.h>
#include <stdint.h>

struct account {
    const char *run_dir;
    struct buf told;    // what the file says, without its time
    int64_t next_ms;    // monotonic: before this nothing is written
    bool waits, failed; // there may be something to write then; a failure was logged
};

// run_dir outlives it.
void account_init(struct account *a, const char *run_dir);

// Writes what has changed, if it may now or must (last: it is the last time). A folder that is not
// there is no failure: civinit-forward runs without a civinit then.
void account_tell(struct account *a, const struct queue *q, const struct peer *p, int64_t now_ms,
                  bool last);

// When account_tell has something to write; -1: nothing to be waited for.
int64_t account_deadline_ms(const struct account *a);

void account_free(struct account *a);

#endif
