// Reading the configuration again: starts, stops and restarts what has changed, and only that.
#ifndef RUN_RELOAD_H
#define RUN_RELOAD_H

#include "run/sup.h"

// Makes a second plan and swaps, or keeps the one that is and says why. text: the answer.
void reload(struct sup *s, char *text, size_t size);

// A service that is down takes its new definition.
void reload_become_next(struct sup *s, struct svc *v);

// Drops what was removed, and the old plan when nobody needs it any more.
void reload_settle(struct sup *s);

#endif
