// civinit: process 1 of a container.
//
//     main      argv → one of the below; the only place that process 1 returns from
//     exec/     a plain init for one command; tini and dumb-init
//     cli/      the subcommands: run, check, status, ready, live, start|stop|restart|reload
//     conf/     files, environment and secrets → a checked, frozen plan
//     core/     what follows from what: the state table, order, backoff, verdicts (pure)
//     run/      the supervisor around it: processes, signals, timers, sockets
//     base/     small things that any program may link
#include "base/log.h"
#include "base/text.h"
#include "cli/cli.h"
#include "exec/exec.h"

#include <stdio.h>
#include <string.h>
#include <sysexits.h>

static const char help[] =
    "usage: civinit ROLE [--once] [--config FILE] [-- WORDS…]   run a role: /etc/civinit/ROLE.ini\n"
    "       civinit exec [options] -- COMMAND…                  plain init for one command\n"
    "       civinit check [--print] [--build] [ROLE|FILE …]     find every error; --print: show "
    "it\n"
    "       civinit status [--json] [--watch] [NAME …]          what runs, since when, and why "
    "not\n"
    "       civinit ready | live                                exit 0 or 1, for probes\n"
    "       civinit start | stop | restart | reload NAME        control a service\n"
    "       civinit reload                                      read the configuration again\n"
    "       civinit report [--json]                             what the pod should request, and "
    "why\n"
    "       civinit --help | --version\n"
    "\n"
    "  --once            the main service runs once (CIVINIT_ONCE=1 for the configuration)\n"
    "  --build           what only the container will know is told, and no error\n"
    "  --config FILE     instead of /etc/civinit/ROLE.ini\n"
    "  -- WORDS          appended to the main service's command\n"
    "  --run-dir DIR     of the civinit that is asked (CIVINIT_RUN_DIR, /run/civinit)\n"
    "  --no-wait         do not wait until the service is started, stopped or restarted\n"
    "\n"
    "Called as tini or dumb-init it takes their options. See civinit(8), civinit.ini(5).\n";

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} commands[] = {{"exec", exec_main},   {"check", cli_check},     {"status", cli_status},
                {"ready", cli_ready},  {"live", cli_live},       {"start", cli_control},
                {"stop", cli_control}, {"restart", cli_control}, {"reload", cli_control},
                {"report", cli_report}};

static int is_one_of(const char *word, const char *const *list) {
    for (; *list; list++)
        if (strcmp(word, *list) == 0)
            return 1;
    return 0;
}

int main(int argc, char **argv) {
    static const char *const ask_help[] = {"--help", "-h", "help", NULL};
    static const char *const ask_version[] = {"--version", "-V", "version", NULL};
    static const char *const options[] = {"--help", "--version", NULL};
    if (exec_is_alias(argv[0]))
        return exec_main(argc, argv);
    log_init("civinit");
    if (argc < 2) {
        log_error("which role? for example: civinit web; see civinit --help");
        return EX_USAGE;
    }
    bool own_help = strcmp(argv[1], "exec") == 0;
    if (is_one_of(argv[1], ask_help) || (argc > 2 && !own_help && is_one_of(argv[2], ask_help)))
        return fputs(help, stdout) < 0 || fflush(stdout) ? EX_IOERR : 0;
    if (is_one_of(argv[1], ask_version))
        return printf("civinit %s\n", CIVINIT_VERSION) < 0 || fflush(stdout) ? EX_IOERR : 0;
    for (unsigned i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    if (argv[1][0] == '-')
        return cli_usage("civinit", argv[1], options);
    return cli_run(argc - 1, argv + 1);
}
