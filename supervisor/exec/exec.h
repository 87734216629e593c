// `civinit exec`: a plain init for one command, and a drop-in for tini and dumb-init when called
// by one of their names. It starts the command, passes signals on, reaps, and exits with the
// command's code. It never wakes up without a reason and allocates nothing.
#ifndef EXEC_EXEC_H
#define EXEC_EXEC_H

#include <stdbool.h>
#include <stdint.h>

enum {
    EXEC_SIGNALS = 65
}; // signals 1 … 64

struct exec_options {
    const char *name;      // what messages begin with
    char **argv;           // the command, NULL-terminated
    bool group;            // signals go to the command's whole process group
    bool own_group;        // the command leads a process group of its own, in front of the terminal
    bool session;          // … or a session of its own
    bool subreaper;        // adopt orphans although we are not process 1
    bool end_rest;         // SIGTERM to the command's group when the command has ended
    bool job_control;      // stop ourselves as well when the command is stopped from the terminal
    bool tell_reaped;      // a warning for each process reaped that is not the command
    int verbosity;         // 0 silent, 1 errors and warnings, 2 info, 3 debug
    int parent_death;      // signal we get when our parent ends, or 0
    int64_t kill_after_ms; // SIGKILL this long after the first passed-on SIGTERM, or 0: never
    bool faults;           // SIGABRT, SIGSEGV and the like are passed on, too, when they are sent
    int not_found, not_executable, not_started; // exit codes when the command cannot be started
    bool success[256];                          // exit codes that become 0
    int rewrite[EXEC_SIGNALS]; // the signal to pass on instead; 0: none, −1: as it came
};

// Sets what is common to all dialects.
void exec_defaults(struct exec_options *o);

// Runs the command to its end and returns the exit code. Blocks all signals first.
int exec_run(const struct exec_options *o);

// argv of `civinit exec …`, or of a program called tini, dumb-init (also by a path, and
// docker-init, tini-static). Returns the exit code.
int exec_main(int argc, char **argv);

// Whether a program name is one of those that exec_main takes the place of.
bool exec_is_alias(const char *argv0);

#endif
