// Variables in configuration values:
//
//     ${NAME}              of the environment; not set: an error
//     ${NAME:-text}        text when NAME is not set or empty
//     ${NAME:+text}        text when NAME is set and not empty, else nothing
//     ${file:PATH}         what the file holds, without newlines at its end: a secret
//     ${fit:COST[,RESERVED[,MIN[,MAX]]]}
//                          how many times COST fits into the container's memory limit (or the
//                          machine's memory) without RESERVED; sizes like 48MiB
//     $$                   a dollar sign
//
// text, PATH and the sizes may hold variables themselves.
#ifndef CONF_EXPAND_H
#define CONF_EXPAND_H

#include "base/arena.h"
#include "base/err.h"

#include <stdbool.h>

// Fills raw's variables in, into the arena. *ret_secret becomes true when a file was read. A
// variable that is not set and has no default, a file that cannot be read and an unclosed "${"
// are errors; a lone "$" stays as it is, so that shell commands need no escapes for $1 or $(…).
int expand(const char *raw, struct arena *arena, char **ret, bool *ret_secret, struct err *e);

// As expand, but variables that are not set and files that do not exist are nothing: *ret_absent
// says which, or is NULL. For who has not the container's environment.
int expand_known(const char *raw, struct arena *arena, char **ret, bool *ret_secret,
                 char **ret_absent, struct err *e);

#endif
