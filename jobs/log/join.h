// Which lines belong to the line before: the stack traces and dumps that PHP and CiviCRM write on
// several lines. Pure; a stream keeps one state.
#ifndef LOG_JOIN_H
#define LOG_JOIN_H

#include <stdbool.h>
#include <stddef.h>

enum join {
    JOIN_NONE,    // the next line is a record of its own
    JOIN_HEAD,    // a trace or a dump may follow
    JOIN_MESSAGE, // in the message of an exception that has several lines
    JOIN_TRACE,   // in a trace or a dump
};

// The state after a line that level_of calls a head.
enum join join_start(const char *line, size_t len);

// Whether a line belongs to the lines before it; advances the state (to JOIN_NONE when it does
// not, or when it is known to be the last).
bool join_next(enum join *state, const char *line, size_t len);

#endif
