#include "base/log.h"
#include "base/statusfile.h"
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>
#include <sysexits.h>

static int take_options(int argc, char **argv, const char **ret_run_dir) {
    static const char *const options[] = {"--run-dir", NULL};
    *ret_run_dir = statusfile_run_dir();
    for (int i = 1; i < argc; i++) {
        int got = cli_value(argv[0], "--run-dir", argc, argv, &i, ret_run_dir);
        if (got <= 0)
            return got < 0 ? EX_USAGE : cli_usage(argv[0], argv[i], options);
    }
    return 0;
}

int cli_ready(int argc, char **argv) {
    const char *run_dir;
    struct statusfile f;
    struct err e;
    int rc = take_options(argc, argv, &run_dir);
    if (rc)
        return rc;
    if (statusfile_read(run_dir, &f, &e) < 0) {
        log_error("%s", e.text);
        return 1;
    }
    bool ready = strcmp(f.state, "ready") == 0;
    printf("%s%s%s\n", f.state, *f.reason ? ": " : "", f.reason);
    statusfile_free(&f);
    return ready ? 0 : 1;
}

// Alive is who answers: also while it drains and stops.
int cli_live(int argc, char **argv) {
    const char *run_dir;
    char text[1024];
    int rc = take_options(argc, argv, &run_dir);
    if (rc)
        return rc;
    rc = cli_ask(run_dir, "ping", text, sizeof text);
    // A probe that may not talk to it has at least been answered.
    if (rc == 0 || rc == EX_NOPERM) {
        puts("live");
        return 0;
    }
    log_error("%s", text);
    return 1;
}
