// The view as metrics: OpenMetrics 1.0, or Prometheus' older text format 0.0.4 (for textfiles and
// push gateways).
#ifndef STATUS_METRICS_H
#define STATUS_METRICS_H

#include "base/text.h"
#include "status/view.h"

#include <stdbool.h>

#define METRICS_OPEN_TYPE "application/openmetrics-text; version=1.0.0; charset=utf-8"
#define METRICS_TEXT_TYPE "text/plain; version=0.0.4; charset=utf-8"

// All of it, for a scrape.
void metrics_write(const struct view *v, bool openmetrics, struct buf *out);

// What jobs and backups leave behind when the container ends, in the text format: no plans, and
// nothing for "never", which a container that began with an empty state folder cannot know. role
// becomes a label of every sample; NULL: the place where they are left says it.
void metrics_left(const struct view *v, const char *role, struct buf *out);

#endif
