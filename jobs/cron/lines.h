// A job's output, line by line: every line gets the job's tag and goes out with one write of at
// most PIPE_BUF bytes, which a pipe takes whole, so that lines of several jobs never mix. Longer
// lines are cut into several. The target does not block: a reader that stalls makes the job wait,
// not the one who watches over it.
#ifndef CRON_LINES_H
#define CRON_LINES_H

#include <regex.h>
#include <stdbool.h>
#include <stddef.h>

enum {
    LINES_ROOM = 8192
};

// What to look for in lines, and the first one in which it was found.
struct lines_search {
    regex_t pattern; // REG_NOSUB
    bool found;
    char line[400]; // as much of it as fits
};

struct lines {
    int target;                  // the descriptor lines go to
    const char *tag;             // "civicrm[5f3a01c2]: ", kept, not copied; at most 300 bytes
    struct lines_search *search; // kept, not copied; or NULL
    bool blocked; // the target takes nothing now: poll it for POLLOUT, then call lines_push
    size_t len;
    char data[LINES_ROOM]; // what has not gone out yet
};

// Where to read into, and how much: 0 while blocked and full.
size_t lines_room(struct lines *l, char **ret_where);

// n bytes have been read there: writes the lines that are complete.
void lines_push(struct lines *l, size_t n);

// The end: what is left goes out as a line, unless the target is blocked.
void lines_end(struct lines *l);

// The descriptor (1 or 2) once more, as one that does not block, where that does not change it for
// others; else a plain copy. -1: it is closed.
int lines_target(int fd);

#endif
