// ${NAME}, ${NAME:-default}, ${file:/run/secrets/x} and $$ in configuration values.
#ifndef CONF_EXPAND_H
#define CONF_EXPAND_H

#include "base/arena.h"
#include "base/err.h"

#include <stdbool.h>

// Fills raw's variables in, into the arena. *ret_secret becomes true when a file was read. A
// variable that is not set and has no default, a file that cannot be read and an unclosed "${"
// are errors; a lone "$" stays as it is, so that shell commands need no escapes for $1 or $(…).
int expand(const char *raw, struct arena *arena, char **ret, bool *ret_secret, struct err *e);

#endif
