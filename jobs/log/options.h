// The command line of civinit-log.
#ifndef LOG_OPTIONS_H
#define LOG_OPTIONS_H

#include "base/err.h"
#include "log/stream.h"

#include <stdbool.h>

struct options {
    enum format format;
    int control, records; // descriptors, -1: none
    bool no_stdout;
    size_t max; // bytes of a message at most
    struct stream *streams;
    int nstreams;
};

// Reads argv into o, whose streams are the caller's to free. 1: --help or --version has been
// printed; -1 with e (EX_USAGE).
int options_read(struct options *o, int argc, char **argv, struct err *e);

#endif
