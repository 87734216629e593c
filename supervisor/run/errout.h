// Our own messages on the container's stderr, which must never make process 1 wait for its reader,
// although its descriptor is shared with services that may rely on its being a blocking one.
#ifndef RUN_ERROUT_H
#define RUN_ERROUT_H

struct sup;

// Our log goes to stderr from now on, without ever waiting.
void errout_use(struct sup *s);

#endif
