// The processes below one: found in /proc by parent, so that leaving the session or the group
// does not hide them. The root should be a child subreaper: then nothing below it can escape.
#ifndef CRON_TREE_H
#define CRON_TREE_H

#include <stddef.h>
#include <sys/types.h>

// Processes that are not touched, nor what is below them.
struct tree_spare {
    const pid_t *pids;
    size_t n;
};

// Sends the signal to every living process below root. How many there were; -1: no /proc.
int tree_signal(pid_t root, struct tree_spare spare, int signal);

// Ends every process below root: stops them first, again and again until no new one appears (one
// that is stopped cannot fork), then SIGKILL. How many there were; -1: no /proc. They still have
// to be reaped.
int tree_kill(pid_t root, struct tree_spare spare);

#endif
