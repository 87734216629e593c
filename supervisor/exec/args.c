#include "base/err.h"
#include "base/text.h"
#include "conf/schema.h"
#include "exec/exec.h"

#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

// Why the options end the program here, if they do.
struct verdict {
    bool done;
    int code;
};

static struct verdict stop_with(int code) {
    return (struct verdict){.done = true, .code = code};
}

__attribute__((format(printf, 2, 3))) static struct verdict bad(const struct exec_options *o,
                                                                const char *fmt, ...) {
    fprintf(stderr, "%s: ", o->name);
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    return stop_with(strcmp(o->name, "civinit exec") == 0 ? EX_USAGE : 1);
}

// "15:3", "TERM:QUIT": the first becomes the second. As with dumb-init, 0 means: not passed on.
static bool rewrite(struct exec_options *o, const char *text) {
    char from[32];
    const char *colon = strchr(text, ':');
    if (!colon || colon == text || colon - text >= (long)sizeof from)
        return false;
    memcpy(from, text, colon - text);
    from[colon - text] = 0;
    int a = schema_signal(from), b = strcmp(colon + 1, "0") == 0 ? 0 : schema_signal(colon + 1);
    if (a < 1 || a > 31 || b < 0 || b > 31)
        return false;
    o->rewrite[a] = b;
    return true;
}

static bool success_code(struct exec_options *o, const char *text) {
    int64_t code;
    if (text_int(text, 0, 255, &code, NULL) < 0)
        return false;
    o->success[code] = true;
    return true;
}

static void plain_help(void) {
    puts("Usage: civinit exec [OPTION…] [--] COMMAND [ARGUMENT…]\n"
         "\n"
         "Runs one command as a container's process 1 should: signals are passed on, every\n"
         "orphan is reaped, and the command's exit code (128+N: signal N) is ours.\n"
         "\n"
         "  -g            signals go to the command's whole process group\n"
         "  -s SIGNAL     SIGTERM reaches the command as SIGNAL\n"
         "  -r FROM:TO    a signal reaches the command as another; TO = 0: not at all\n"
         "  -k DURATION   SIGKILL everything this long after SIGTERM (10s, 1m)\n"
         "  -e CODE       this exit code of the command counts as success\n"
         "  -p SIGNAL     the signal we get when our own parent ends\n"
         "  -w            a warning for each orphan that is reaped\n"
         "  -v            say what happens; twice: every signal\n"
         "\n"
         "Called as tini or dumb-init (through a link of that name) it takes their options.");
}

static struct verdict plain_options(struct exec_options *o, int argc, char **argv) {
    int c, sig;
    o->subreaper = true;
    static const struct option longs[] = {{"help", no_argument, NULL, 'h'}, {0}};
    while ((c = getopt_long(argc, argv, "+:gs:r:k:e:p:wvh", longs, NULL)) >= 0) {
        switch (c) {
        case 'g':
            o->group = true;
            break;
        case 's':
            sig = schema_signal(optarg);
            if (sig < 1)
                return bad(o, "-s %s: no such signal", optarg);
            o->rewrite[SIGTERM] = sig;
            break;
        case 'r':
            if (!rewrite(o, optarg))
                return bad(o, "-r %s: write it as FROM:TO, with signals' names or numbers", optarg);
            break;
        case 'k':
            if (text_duration(optarg, &o->kill_after_ms, NULL) < 0)
                return bad(o, "-k %s: no duration: write it as 10s or 1m", optarg);
            break;
        case 'e':
            if (!success_code(o, optarg))
                return bad(o, "-e %s: an exit code is a number from 0 to 255", optarg);
            break;
        case 'p':
            o->parent_death = schema_signal(optarg);
            if (o->parent_death < 1)
                return bad(o, "-p %s: no such signal", optarg);
            break;
        case 'w':
            o->tell_reaped = true;
            break;
        case 'v':
            o->verbosity++;
            break;
        case 'h':
            plain_help();
            return stop_with(0);
        default:
            return bad(o,
                       c == ':' ? "%s: a value is missing"
                                : "%s: no such option (see civinit exec --help)",
                       argv[optind - 1]);
        }
    }
    return (struct verdict){0};
}

// tini(1), version 0.19: the options and variables its own help lists.
static void tini_help(FILE *to) {
    fputs("Usage: tini [OPTIONS] PROGRAM -- [ARGS] | --version   (civinit, as tini)\n\n"
          "  --version  show the version\n"
          "  -h         show this help\n"
          "  -s         adopt orphans although not process 1\n"
          "  -p SIGNAL  signal to get when the parent ends\n"
          "  -v         say more; up to three times\n"
          "  -w         warn when processes are reaped\n"
          "  -g         send signals to the child's process group\n"
          "  -e CODE    this exit code becomes 0\n"
          "  -l         show the licence\n\n"
          "Environment: TINI_SUBREAPER, TINI_VERBOSITY, TINI_KILL_PROCESS_GROUP\n",
          to);
}

static void tini_environment(struct exec_options *o) {
    const char *verbosity = getenv("TINI_VERBOSITY");
    if (verbosity) // also what is no number: 0, as there
        o->verbosity = (int)strtol(verbosity, NULL, 10);
    o->subreaper = getenv("TINI_SUBREAPER") != NULL;
    o->group = getenv("TINI_KILL_PROCESS_GROUP") != NULL;
}

// "PROGRAM -- ARGS", as its usage says: the "--" is not the program's.
static void drop_dashes(int argc, char **argv) {
    if (strcmp(argv[optind - 1], "--") == 0)
        return;
    for (int i = optind; i < argc && (*argv[i] != '-' || strcmp(argv[i], "--") == 0); i++) {
        if (*argv[i] != '-')
            continue;
        memmove(argv + i, argv + i + 1, (argc - i) * sizeof *argv);
        return;
    }
}

static struct verdict tini_options(struct exec_options *o, int argc, char **argv) {
    tini_environment(o);
    o->not_started = 1;
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts("tini version 0.19.0 (civinit " CIVINIT_VERSION ")");
        return stop_with(0);
    }
    int c;
    while ((c = getopt(argc, argv, "+:hvwgle:sp:")) >= 0) {
        switch (c) {
        case 'h':
            tini_help(stdout);
            return stop_with(0);
        case 's':
            o->subreaper = true;
            break;
        case 'p': // only full names, as there
            o->parent_death = strncmp(optarg, "SIG", 3) == 0 ? schema_signal(optarg) : -1;
            if (o->parent_death < 1)
                return bad(o, "Not a valid option for -p: %s", optarg);
            break;
        case 'v':
            o->verbosity++;
            break;
        case 'w':
            o->tell_reaped = true;
            break;
        case 'g':
            o->group = true;
            break;
        case 'e':
            if (!success_code(o, optarg))
                return bad(o, "Not a valid option for -e: %s", optarg);
            break;
        case 'l':
            puts("MIT; see the LICENSE of civinit");
            return stop_with(0);
        default:
            tini_help(stderr);
            return stop_with(1);
        }
    }
    if (optind == argc) {
        tini_help(stderr);
        return stop_with(1);
    }
    drop_dashes(argc, argv);
    if (getpid() != 1 && !o->subreaper && o->verbosity >= 1)
        fprintf(stderr,
                "%s: warning: neither process 1 nor a subreaper (-s): orphans are not reaped\n",
                o->name);
    return (struct verdict){0};
}

// dumb-init(1), version 1.2.5.
static void dumb_init_help(void) {
    fputs("Usage: dumb-init [option] command [[arg] ...]   (civinit, as dumb-init)\n\n"
          "   -c, --single-child   pass signals to the direct child only\n"
          "   -r, --rewrite s:r    pass signal s on as r; r = 0: not at all\n"
          "   -v, --verbose        say what happens\n"
          "   -h, --help           show this help\n"
          "   -V, --version        show the version\n\n"
          "Environment: DUMB_INIT_DEBUG, DUMB_INIT_SETSID\n",
          stderr);
}

static bool variable_is(const char *name, const char *value) {
    const char *v = getenv(name);
    return v && strcmp(v, value) == 0;
}

static struct verdict dumb_init_options(struct exec_options *o, int argc, char **argv) {
    static const struct option longs[] = {
        {"single-child", no_argument, NULL, 'c'}, {"rewrite", required_argument, NULL, 'r'},
        {"verbose", no_argument, NULL, 'v'},      {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},      {0}};
    o->session = o->group = o->end_rest = o->job_control = !variable_is("DUMB_INIT_SETSID", "0");
    o->own_group = false;
    o->not_found = o->not_executable = o->not_started = 2;
    o->faults = true;
    if (variable_is("DUMB_INIT_DEBUG", "1"))
        o->verbosity = 3;
    int c;
    while ((c = getopt_long(argc, argv, "+hvVcr:", longs, NULL)) >= 0) {
        switch (c) {
        case 'h':
            dumb_init_help();
            return stop_with(0);
        case 'V':
            fputs("dumb-init v1.2.5 (civinit " CIVINIT_VERSION ")\n", stderr);
            return stop_with(0);
        case 'v':
            o->verbosity = 3;
            break;
        case 'c':
            o->session = o->group = o->end_rest = o->job_control = false;
            break;
        case 'r':
            if (!rewrite(o, optarg))
                return bad(o, "-r %s: write it as <signum>:<signum>, each between 1 and 31",
                           optarg);
            break;
        default:
            return stop_with(1);
        }
    }
    if (optind == argc) {
        fputs("Usage: dumb-init [option] program [args]\nTry dumb-init --help for full usage.\n",
              stderr);
        return stop_with(1);
    }
    // In a session of its own nobody could continue the command after a stop from the terminal.
    static const int stops[] = {SIGTSTP, SIGTTIN, SIGTTOU};
    for (int i = 0; o->job_control && i < 3; i++)
        if (o->rewrite[stops[i]] < 0)
            o->rewrite[stops[i]] = SIGSTOP;
    return (struct verdict){0};
}

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static const struct alias {
    const char *name, *label;
    struct verdict (*options)(struct exec_options *, int, char **);
} aliases[] = {
    {"tini", "tini", tini_options},
    {"tini-static", "tini", tini_options},
    {"docker-init", "tini", tini_options},
    {"dumb-init", "dumb-init", dumb_init_options},
};

static const struct alias *find_alias(const char *argv0) {
    for (unsigned i = 0; argv0 && i < sizeof aliases / sizeof *aliases; i++)
        if (strcmp(base_name(argv0), aliases[i].name) == 0)
            return &aliases[i];
    return NULL;
}

bool exec_is_alias(const char *argv0) {
    return find_alias(argv0) != NULL;
}

int exec_main(int argc, char **argv) {
    const struct alias *as = find_alias(argv[0]);
    struct exec_options o;
    exec_defaults(&o);
    o.name = as ? as->label : "civinit exec";
    opterr = as != NULL;
    struct verdict v = as ? as->options(&o, argc, argv) : plain_options(&o, argc, argv);
    if (v.done)
        return v.code;
    if (optind == argc) {
        fputs("civinit exec: no command given (see civinit exec --help)\n", stderr);
        return EX_USAGE;
    }
    o.argv = argv + optind;
    return exec_run(&o);
}
