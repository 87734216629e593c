// civinit-jobs: the job loop, --once, and what an administrator types.
//
//     config  ini → job (checked)                                             job account
//     when    expression · zone → next due → heap                             expr zone next sched
//     run     loop → one runner process per run → command, helper programs    loop runner watch
//     tree tell    outcome → log line, jobs.json, hooks                            state
//
// Everything that needs MySQL, HTTP or JSON is asked of civinit-jobs-helper, one process per
// question: this one stays small.
#include "base/log.h"
#include "cron/command.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

static const char help[] =
    "usage: civinit-jobs [--config FILE] COMMAND\n"
    "  run [JOB...]           run the jobs at their times until SIGTERM\n"
    "  run --once [JOB...]    run each once, one after the other; the worst one's exit code\n"
    "  run-job NAME           run one job now\n"
    "  list [--json]          jobs, when they are due, how they last ended\n"
    "  next [--from T] [--until T] [JOB...]   due times\n"
    "  lock NAME [--wait D] -- CMD...         run CMD while holding a lock of the database\n"
    "  check                  check the configuration\n"
    "FILE is $CIVINIT_CONFIG or /etc/civinit/cron.ini unless given. See civinit-jobs(1).\n";

static const struct {
    const char *name;
    int (*run)(const char *config, int argc, char **argv);
} commands[] = {
    {"run", command_run},   {"run-job", command_run_job}, {"list", command_list},
    {"next", command_next}, {"lock", command_lock},       {"check", command_check},
};

int command_usage(const char *fmt, ...) {
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    log_error("%s (see --help)", text);
    return EX_USAGE;
}

// Takes --config out of argv, wherever it stands before "--".
static int take_config(int *argc, char **argv, const char **config) {
    int n = 0, i = 0;
    for (; i < *argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--config") == 0) {
            if (++i == *argc)
                return command_usage("--config needs a file");
            *config = argv[i];
        } else if (strncmp(argv[i], "--config=", 9) == 0)
            *config = argv[i] + 9;
        else
            argv[n++] = argv[i];
    while (i < *argc)
        argv[n++] = argv[i++];
    argv[n] = NULL;
    *argc = n;
    return 0;
}

int main(int argc, char **argv) {
    log_init("civinit-jobs");
    const char *config = getenv("CIVINIT_CONFIG");
    if (!config || !*config)
        config = "/etc/civinit/cron.ini";
    int rc = take_config(&argc, argv, &config);
    if (rc)
        return rc;
    const char *name = argc > 1 ? argv[1] : "";
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        fputs(help, stdout);
        return EX_OK;
    }
    if (strcmp(name, "--version") == 0) {
        puts("civinit-jobs " CIVINIT_VERSION);
        return EX_OK;
    }
    for (unsigned i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strcmp(commands[i].name, name) == 0)
            return commands[i].run(config, argc - 1, argv + 1);
    return *name ? command_usage("unknown command \"%s\"", name) : command_usage("which command?");
}
