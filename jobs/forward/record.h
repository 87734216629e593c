// A JSON record of civinit-log as an entry of the forward protocol: [time, {key: value}].
#ifndef FORWARD_RECORD_H
#define FORWARD_RECORD_H

#include "base/text.h"

#include <stddef.h>
#include <stdint.h>

// Adds the entry to b. The record's "time" becomes the entry's time, its other keys the map, to
// which the `extra` pairs (encoded, extra_n of them) are added. A line that is not a flat JSON
// object becomes {"message": line}, with now_ms as its time.
void record_pack(struct buf *b, const char *line, size_t len, const struct buf *extra,
                 unsigned extra_n, int64_t now_ms);

// "2026-03-01T12:00:00.123Z" → milliseconds since the epoch; -1: no such time.
int64_t record_time(const char *text, size_t len);

#endif
