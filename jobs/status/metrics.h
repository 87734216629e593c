// The view as metrics: OpenMetrics 1.0, or Prometheus' older text format 0.0.4 (for textfiles and
// push gateways).
#ifndef STATUS_METRICS_H
#define STATUS_METRICS_H

#include "base/text.h"
#include "status/view.h"

#include <stdbool.h>

#define METRICS_OPEN_TYPE "application/openmetrics-text; version=1.0.0; charset=utf-8"
#define METRICS_TEXT_TYPE "text/plain; version=0.0.4; charset=utf-8"

// all: everything; else only what jobs and backups left behind, which outlives the container.
void metrics_write(const struct view *v, bool openmetrics, bool all, struct buf *out);

#endif
