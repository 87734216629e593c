// The mail gate: whether SMTP or IMAP would let us in now.
#ifndef CIVICRM_GATE_H
#define CIVICRM_GATE_H

#include "helper.h"

// kind: "smtp", "imap" or "mail" (both). Runs civinit-probe for the server that [mail] names, then
// [mail] check with the kind as its last argument: what is configured of the two. 0: open, or
// nothing is; else the exit code, with e: the last line of what they had to say.
int gate(struct helper *h, const char *kind, struct err *e);

#endif
