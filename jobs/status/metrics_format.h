// Writes families of metrics and their samples in one of the two text formats.
//
// OpenMetrics (https://prometheus.io/docs/specs/om/open_metrics_spec/) names a counter's family
// without "_total" and an info's without "_info", and ends with "# EOF"; format 0.0.4 names the
// family as its samples.
#ifndef STATUS_METRICS_FORMAT_H
#define STATUS_METRICS_FORMAT_H

#include "base/text.h"

#include <stdbool.h>
#include <stdint.h>

enum format_type {
    FORMAT_GAUGE,
    FORMAT_COUNTER, // samples get "_total"
    FORMAT_INFO,    // samples get "_info"
};

struct format {
    struct buf *out;
    bool openmetrics;
    char sample[128]; // the name of the family's samples
    char index[16];   // of format_index
    // Labels of every sample behind its own, as LABELS makes them; may be NULL.
    const char *const *common;
    // A family is written with its first sample: one without any is left out.
    const char *name, *unit, *help;
    enum format_type type;
};

// Begins a family. name has neither "_total" nor "_info"; unit ("" for none) is its last word.
void format_family(struct format *f, const char *name, enum format_type type, const char *unit,
                   const char *help);

// A sample of it. labels: pairs of label and value, ended by NULL (LABELS), or NULL. format_ms and
// format_us write thousandths and millionths as such.
#define LABELS(...) ((const char *const[]){__VA_ARGS__, NULL})
void format_sample(struct format *f, int64_t value, const char *const *labels);
void format_ms(struct format *f, int64_t value_ms, const char *const *labels);
void format_us(struct format *f, int64_t value_us, const char *const *labels);

// A number as a label's value; valid until the next call.
const char *format_index(struct format *f, size_t n);

void format_end(struct format *f);

#endif
