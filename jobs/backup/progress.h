// What a person sees of a long run: a line that is rewritten on a terminal, nothing otherwise.
#ifndef BACKUP_PROGRESS_H
#define BACKUP_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    bool shown;          // stderr is a terminal, and nobody said --quiet
    const char *phase;   // "database", "files", …
    int64_t done, total; // bytes; total <= 0: not known
    int64_t began_ms, drawn_ms;
};

void progress_start(struct progress *p, bool quiet, int64_t total_bytes);
void progress_phase(struct progress *p, const char *phase);
// Bytes were done; draws at most ten times a second.
void progress_add(struct progress *p, int64_t bytes);
// Removes the line, so that other output can follow.
void progress_clear(struct progress *p);

#endif
