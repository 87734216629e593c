#include "base/log.h"
#include "base/spawn.h"
#include "cli/cli.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

// The history is civinit-statusd's, and so is what follows from it.
int cli_report(int argc, char **argv) {
    char path[PATH_MAX];
    char **words = calloc((size_t)argc + 2, sizeof *words);
    if (!words) {
        log_error("out of memory");
        return EX_OSERR;
    }
    words[0] = (char *)"civinit-statusd";
    memcpy(words + 1, argv, (size_t)argc * sizeof *argv);
    execvp(spawn_sibling("civinit-statusd", path, sizeof path), words);
    log_error("civinit-statusd: %s", strerror(errno));
    free(words);
    return EX_UNAVAILABLE;
}
