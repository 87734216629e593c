// A program's own log: one line per message to stderr, written with one write(2).
//
//     civinit: warning: service apache: backoff 4s: exited with 1
//
// civinit-log and other readers recognise the level word. Only mains and run/ log; library code
// returns struct err. With CIVINIT_LOG=debug in the environment debug messages are shown too.
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stddef.h>
#include <sys/types.h>

enum log_level {
    LOG_ERROR,
    LOG_WARNING,
    LOG_NOTICE, // shown as "notice": something an operator wants to know
    LOG_INFO,
    LOG_DEBUG,
};

// Sets the name every line begins with (kept, not copied) and reads CIVINIT_LOG
// (error|warning|notice|info|debug; info when unset).
void log_init(const char *program);

// The descriptor lines go to (2 at first).
void log_to(int fd);

// What lines are written with, for who may not wait (NULL: write(2), as at first). What it does
// not write is lost.
void log_writer(ssize_t (*writer)(int fd, const void *data, size_t len));

// One line; control characters become '?'. A line that cannot be written at once (EAGAIN) is
// dropped rather than waited for when fd is non-blocking. errno is kept.
__attribute__((format(printf, 2, 3))) void log_msg(enum log_level level, const char *fmt, ...);

#define log_error(...)   log_msg(LOG_ERROR, __VA_ARGS__)
#define log_warning(...) log_msg(LOG_WARNING, __VA_ARGS__)
#define log_notice(...)  log_msg(LOG_NOTICE, __VA_ARGS__)
#define log_info(...)    log_msg(LOG_INFO, __VA_ARGS__)
#define log_debug(...)   log_msg(LOG_DEBUG, __VA_ARGS__)

#endif
