// A record as text, JSON or logfmt: one line, or for text one line for each line that came in.
#ifndef LOG_RENDER_H
#define LOG_RENDER_H

#include "log/level.h"
#include "log/stamp.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum format {
    FORMAT_TEXT,
    FORMAT_JSON,
    FORMAT_LOGFMT,
    FORMATS,
};

enum {
    RENDER_EXTRA = 128 // bytes a record takes at most beside its prefix and its escaped message
};

// What all records of one stream begin with, in one format; made anew when the pid changes.
struct prefix {
    char *text; // NULL: not made yet
    size_t len, time_at;
    int64_t ms; // the time that is in it
};

struct record {
    const char *message;
    size_t len;
    size_t cut; // bytes of the message that were left out at its end
    enum level level;
    bool continued; // text: belongs to the stream's line before
};

// "text" → FORMAT_TEXT; -1: none of them.
int render_format(const char *name);

// Makes the prefix of a service's stream; pid 0: not known. -1: out of memory.
int prefix_make(struct prefix *p, enum format format, const char *service, const char *stream,
                int pid);
void prefix_free(struct prefix *p);

// The bytes a record may take.
size_t render_room(const struct prefix *p, enum format format, size_t len);

// Writes the record and its newline to out, which has render_room; returns the end.
char *render(char *out, enum format format, struct prefix *p, const struct stamp *at,
             const struct record *r);

#endif
