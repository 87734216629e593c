#include "log/options.h"

#include "base/text.h"

#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

enum {
    MAX_LINE = 32 << 10,
    MAX_LINE_LEAST = 256,
    MAX_LINE_MOST = 1 << 20,
    MAX_NAME = 64,
};

static const char help[] =
    "usage: civinit-log [--format text|json|logfmt] [--control FD] [--records FD] [--no-stdout]\n"
    "                   [--max-line SIZE] --stream NAME:stdout|stderr:FD[:FORMAT] ...\n"
    "\n"
    "Tags the lines of services and writes them to standard output.\n"
    "\n"
    "  --format F      how (text)\n"
    "  --stream S      read descriptor FD as a stream of service NAME, written in FORMAT\n"
    "  --control FD    read \"pid NAME NUMBER\" lines: whom lines are tagged with\n"
    "  --records FD    also write JSON records there, for civinit-forward\n"
    "  --no-stdout     write nothing to standard output\n"
    "  --max-line N    cut messages that are longer (32KiB)\n"
    "  --help, --version\n";

static int open_fd(const char *text, const char *option, int *ret, struct err *e) {
    int64_t fd;
    if (text_int(text, 0, 65535, &fd, e) < 0) {
        e->code = EX_USAGE;
        return err_wrap(e, "%s", option);
    }
    if (fcntl((int)fd, F_GETFD) < 0)
        return err_errno(e, EX_USAGE, "%s: descriptor %s", option, text);
    *ret = (int)fd;
    return 0;
}

static int read_format(const char *text, enum format *ret, struct err *e) {
    int format = render_format(text);
    if (format < 0)
        return err_set(e, EX_USAGE, "\"%s\" is no format: use text, json or logfmt", text);
    *ret = (enum format)format;
    return 0;
}

// A service's name goes into every line, so it must not look like something else.
static int check_name(const char *name, struct err *e) {
    size_t n = strlen(name);
    if (n == 0 || n > MAX_NAME)
        return err_set(e, EX_USAGE, "--stream: a service's name has 1 to %d characters", MAX_NAME);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)name[i] <= ' ' || strchr("\"=\\\x7f", name[i]))
            return err_set(e, EX_USAGE, "--stream: the name \"%s\" has a blank, quote or \"=\"",
                           name);
    return 0;
}

// NAME:stdout:FD[:FORMAT], cut into its fields.
static int read_stream(struct options *o, char *text, bool *own_format, struct err *e) {
    struct stream s = {.fd = -1};
    char *name = strsep(&text, ":"), *kind = strsep(&text, ":"), *fd = strsep(&text, ":");
    if (!fd || (strcmp(kind, "stdout") != 0 && strcmp(kind, "stderr") != 0))
        return err_set(e, EX_USAGE, "--stream: want NAME:stdout:FD or NAME:stderr:FD");
    if (check_name(name, e) < 0 || open_fd(fd, "--stream", &s.fd, e) < 0)
        return -1;
    *own_format = text != NULL;
    if (text && read_format(text, &s.format, e) < 0)
        return -1;
    s.kind = kind;
    struct stream *more = realloc(o->streams, (size_t)(o->nstreams + 1) * sizeof *more);
    if (!more)
        return err_set(e, EX_OSERR, "out of memory");
    o->streams = more;
    s.service = strdup(name);
    if (!s.service)
        return err_set(e, EX_OSERR, "out of memory");
    o->streams[o->nstreams++] = s;
    return 0;
}

static int read_max(struct options *o, const char *text, struct err *e) {
    int64_t max;
    if (text_size(text, &max, e) < 0) {
        e->code = EX_USAGE;
        return err_wrap(e, "--max-line");
    }
    if (max < MAX_LINE_LEAST || max > MAX_LINE_MOST)
        return err_set(e, EX_USAGE, "--max-line: %s is not between 256 and 1MiB", text);
    o->max = (size_t)max;
    return 0;
}

static int one(struct options *o, int option, struct err *e) {
    bool own;
    switch (option) {
    case 'f':
        return read_format(optarg, &o->format, e);
    case 's':
        if (read_stream(o, optarg, &own, e) < 0)
            return -1;
        if (!own)
            o->streams[o->nstreams - 1].format = FORMATS; // the general one, known at the end
        return 0;
    case 'c':
        return open_fd(optarg, "--control", &o->control, e);
    case 'r':
        return open_fd(optarg, "--records", &o->records, e);
    case 'n':
        o->no_stdout = true;
        return 0;
    case 'm':
        return read_max(o, optarg, e);
    case 'h':
        fputs(help, stdout);
        return 1;
    case 'v':
        puts("civinit-log " CIVINIT_VERSION);
        return 1;
    default:
        return err_set(e, EX_USAGE, "see civinit-log --help");
    }
}

int options_read(struct options *o, int argc, char **argv, struct err *e) {
    static const struct option longs[] = {
        {"format", 1, NULL, 'f'},  {"stream", 1, NULL, 's'},    {"control", 1, NULL, 'c'},
        {"records", 1, NULL, 'r'}, {"no-stdout", 0, NULL, 'n'}, {"max-line", 1, NULL, 'm'},
        {"help", 0, NULL, 'h'},    {"version", 0, NULL, 'v'},   {NULL, 0, NULL, 0},
    };
    *o = (struct options){.control = -1, .records = -1, .max = MAX_LINE};
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) >= 0;) {
        int rc = one(o, c, e);
        if (rc)
            return rc;
    }
    if (optind < argc)
        return err_set(e, EX_USAGE, "\"%s\" is one argument too many", argv[optind]);
    if (o->nstreams == 0)
        return err_set(e, EX_USAGE, "no --stream: there is nothing to read");
    if (o->no_stdout && o->records < 0)
        return err_set(e, EX_USAGE, "--no-stdout without --records: there is nowhere to write");
    for (int i = 0; i < o->nstreams; i++)
        if (o->streams[i].format == FORMATS)
            o->streams[i].format = o->format;
    return 0;
}
