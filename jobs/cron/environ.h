// The environment of a job's command: ours, the user's, env_file, env.*, and which run it is.
#ifndef CRON_ENVIRON_H
#define CRON_ENVIRON_H

#include "base/arena.h"
#include "cron/job.h"

struct environ {
    struct arena arena;
    char **v; // NULL-terminated
    size_t n, cap;
};

// Makes it. e: env_file cannot be read, or a line of it is no NAME=value.
int environ_make(struct environ *v, const struct job *job, const char *run, struct err *e);

void environ_free(struct environ *v);

#endif
