// HTTP that jobs need: a job that is a URL, and hooks.
#ifndef CIVICRM_REQUEST_H
#define CIVICRM_REQUEST_H

#include "helper.h"

// Does the request of [job NAME] (url, method, header, body or body_file, timeout) and prints the
// answer's body. 0 when the status is 2xx and failure_text (an extended regular expression) is not
// in the body; 1 with e: the server says no; else e's code: no answer.
int request_job(struct helper *h, const char *name, struct err *e);

// Where a hook goes: a URL as it is, or "job:NAME" / "jobs": the `key` of [job NAME], else of
// [jobs], so that a secret in a URL is in no argument list. NULL with e: none there, or a command.
const char *request_target(struct helper *h, const char *target, const char *key, struct err *e);

// POSTs stdin (JSON) to url.
int request_hook(const char *url, struct err *e);

// Tells a service of healthchecks.io's kind: state is "start" (URL/start), "success" (URL) or
// "fail" (URL/fail); stdin (may be empty) goes along as text.
int request_ping(const char *url, const char *state, struct err *e);

#endif
