// Name look-up in a thread of its own, so that a silent name server holds up no record.
#ifndef FORWARD_LOOKUP_H
#define FORWARD_LOOKUP_H

#include "base/err.h"

#include <netdb.h>

struct lookup;

// Begins; NULL with e. `fd` becomes readable when the answer is there.
struct lookup *lookup_start(const char *host, const char *port, int *ret_fd, struct err *e);

// The answer (freeaddrinfo), and the end of l. NULL with e.
struct addrinfo *lookup_end(struct lookup *l, struct err *e);

// Nobody waits any more: the thread cleans up when its answer comes.
void lookup_drop(struct lookup *l);

#endif
