// Figures of a container that will be gone: left in a file for node exporter's textfile
// collector, or pushed to a Pushgateway-compatible URL.
#ifndef STATUS_PUSH_H
#define STATUS_PUSH_H

#include "base/err.h"
#include "status/view.h"

// Replaces path (FOLDER/*.prom) by the figures of jobs and backups. A folder gets the file
// "civinit-INSTANCE-ROLE.prom", so that many instances and roles share it.
int push_textfile(const struct view *v, const char *path, struct err *e);

// POSTs them, so that what this container cannot tell stays as it was. A URL without
// "/metrics/job" gets "/metrics/job/civinit/instance/NAME/role/ROLE" appended: each instance and
// role has a group of its own. e never shows the URL's path.
int push_url(const struct view *v, const char *url, struct err *e);

#endif
