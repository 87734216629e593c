// civinit-log: takes every service's standard output and error, tags each line with its service,
// stream, process, time and level, and writes records to standard output or for civinit-forward.
//
//     options  the command line
//     loop     waits for streams, control lines and signals
//     stream   bytes → lines → records, and what belongs together (join)
//     level    what a line says of itself          render, escape, stamp   a record's bytes
//     sink     whole records to a descriptor
#include "base/log.h"
#include "log/loop.h"
#include "log/options.h"

#include <stdlib.h>

int main(int argc, char **argv) {
    struct options o;
    struct err e = {0};
    log_init("civinit-log");
    int rc = options_read(&o, argc, argv, &e);
    if (rc > 0)
        rc = 0;
    else if (rc == 0)
        rc = loop_run(&o, &e);
    if (rc < 0) {
        log_error("%s", e.text);
        rc = e.code;
    }
    for (int i = 0; i < o.nstreams; i++)
        stream_free(&o.streams[i]);
    free(o.streams);
    return rc;
}
