// Figures of a container that will be gone: left in a file for node exporter's textfile
// collector, or pushed to a Pushgateway-compatible URL.
#ifndef STATUS_PUSH_H
#define STATUS_PUSH_H

#include "base/err.h"
#include "status/view.h"

// Replaces path (FOLDER/*.prom) by the figures of jobs and backups.
int push_textfile(const struct view *v, const char *path, struct err *e);

// PUTs them. A URL without "/metrics/job/" gets "/metrics/job/civinit/instance/NAME" appended, so
// that each instance has a group of its own. e never shows the URL's path.
int push_url(const struct view *v, const char *url, struct err *e);

#endif
