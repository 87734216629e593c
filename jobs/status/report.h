// Advice on requests and limits, from the history and the container's figures.
#ifndef STATUS_REPORT_H
#define STATUS_REPORT_H

#include "base/text.h"
#include "status/history.h"
#include "status/view.h"

// What a pod spec should say. Bytes and thousandths of a core; -1: nothing to advise.
struct advice {
    int64_t memory_request, memory_limit, cpu_request;
    bool trusted; // the history covers a whole day
};

// From the container's series (and, where they know more, the kernel's own figures).
void report_advice(const struct history *h, const struct figures *f, struct advice *ret);

// For people, and as JSON.
void report_text(const struct history *h, const struct view *v, struct buf *out);
void report_json(const struct history *h, const struct view *v, struct buf *out);

#endif
