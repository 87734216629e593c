// The commands of civinit-jobs. Each takes its own arguments (argv[0] is the command's name,
// NULL-terminated) and returns an exit code of sysexits.h, or what its description says.
#ifndef CRON_COMMAND_H
#define CRON_COMMAND_H

// run [--once] [JOB…]: the loop until a signal ends it; with --once each job (or each that is
// named) once, one after the other: the worst one's exit code.
int command_run(const char *config, int argc, char **argv);
// run-job NAME: one job once, also one that is not enabled.
int command_run_job(const char *config, int argc, char **argv);
// list [--json]: the jobs, when they are next due and how they last ended.
int command_list(const char *config, int argc, char **argv);
// next [--from T] [--until T] [JOB…]: due times, one per line.
int command_next(const char *config, int argc, char **argv);
// lock NAME [--wait D] -- CMD…: runs CMD while holding a lock of the database; its exit code.
int command_lock(const char *config, int argc, char **argv);
// check: all problems of the configuration.
int command_check(const char *config, int argc, char **argv);

// Reports a usage error; EX_USAGE.
__attribute__((format(printf, 1, 2))) int command_usage(const char *fmt, ...);

#endif
