// The subcommands of civinit. Each takes its own argv (argv[0] is its name) and returns the exit
// code; messages go to stderr.
#ifndef CLI_CLI_H
#define CLI_CLI_H

// civinit ROLE [--once] [--config FILE] [-- WORDS…]: becomes the supervisor; argv[0] is the role.
int cli_run(int argc, char **argv);

// civinit check [--print] [--build] [ROLE|FILE …]
int cli_check(int argc, char **argv);

// civinit status [--json] [--watch] [--run-dir DIR] [NAME …]
int cli_status(int argc, char **argv);

// civinit ready | live [--run-dir DIR]
int cli_ready(int argc, char **argv);
int cli_live(int argc, char **argv);

// civinit start | stop | restart | reload [NAME]; argv[0] says which.
int cli_control(int argc, char **argv);

// civinit report [--json] [--config ROLE|FILE]: becomes civinit-statusd report.
int cli_report(int argc, char **argv);

// An argument that is none of the options (NULL-terminated list): one line with the nearest one.
// EX_USAGE.
int cli_usage(const char *command, const char *argument, const char *const *options);

// Takes "--NAME VALUE" or "--NAME=VALUE" at argv[*i]: 1 and *ret, 0: another option, -1: it has no
// value (said).
int cli_value(const char *command, const char *name, int argc, char **argv, int *i,
              const char **ret);

// Sends a line to the civinit of run_dir: its answer without "ok "; the exit code. text also holds
// what went wrong.
int cli_ask(const char *run_dir, const char *line, char *text, int size);

#endif
