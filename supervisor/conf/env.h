// An environment that is put together of several sources; later values replace earlier ones.
#ifndef CONF_ENV_H
#define CONF_ENV_H

#include "base/arena.h"
#include "base/err.h"

#include <stddef.h>

struct env {
    struct arena *arena;
    char **list; // NULL-terminated "NAME=value"
    size_t n, cap;
    int failed; // out of memory
};

// Begins with a copy of environ.
void env_init(struct env *v, struct arena *arena, char *const *environ_);

// Sets NAME to value (NULL: removes it).
void env_set(struct env *v, const char *name, const char *value);

// Reads a file of lines NAME=value: "#" begins a comment line, "export " is skipped, a value may
// stand in quotes. EX_CONFIG with the line that is none.
int env_file(struct env *v, const char *path, struct err *e);

#endif
