// Memory that is freed as a whole: what a configuration and the plan made of it live in.
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stddef.h>

struct arena_block;
struct arena {
    struct arena_block *blocks; // zero-initialised: empty
};

// Zeroed, aligned memory that lives as long as the arena. NULL when there is none.
void *arena_alloc(struct arena *a, size_t size);

// A copy of text (of its first len bytes).
char *arena_text(struct arena *a, const char *text);
char *arena_textn(struct arena *a, const char *text, size_t len);

// printf into the arena.
__attribute__((format(printf, 2, 3))) char *arena_printf(struct arena *a, const char *fmt, ...);

void arena_free(struct arena *a);

#endif
