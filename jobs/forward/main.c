// civinit-forward: takes civinit-log's JSON records from standard input to a Fluentd or Fluent Bit,
// by the forward protocol with acknowledgements.
//
//     settings  [forward] of the configuration      loop    standard input, signals, the end
//     record    a line's JSON → MessagePack         queue   the bounded buffer of chunks
//     peer      a server's connection               login   shared key and user
//     lookup    names    tls  OpenSSL               msgpack the encoding
//     account   figures for civinit-statusd
#include "base/log.h"
#include "forward/loop.h"
#include "forward/settings.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

static const char help[] = "usage: civinit-forward --config FILE [--check]\n"
                           "\n"
                           "Sends JSON records from standard input to the servers of [forward].\n"
                           "\n"
                           "  --config FILE   the role's configuration (a name or a path)\n"
                           "  --check         only say whether the configuration is right\n"
                           "  --help, --version\n";

// 1: --help or --version has been printed.
static int options(int argc, char **argv, const char **config, bool *check, struct err *e) {
    static const struct option longs[] = {{"config", 1, NULL, 'c'},
                                          {"check", 0, NULL, 'k'},
                                          {"help", 0, NULL, 'h'},
                                          {"version", 0, NULL, 'v'},
                                          {NULL, 0, NULL, 0}};
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) >= 0;) {
        switch (c) {
        case 'c':
            *config = optarg;
            break;
        case 'k':
            *check = true;
            break;
        case 'h':
            fputs(help, stdout);
            return 1;
        case 'v':
            puts("civinit-forward " CIVINIT_VERSION);
            return 1;
        default:
            return err_set(e, EX_USAGE, "see civinit-forward --help");
        }
    }
    if (optind < argc)
        return err_set(e, EX_USAGE, "\"%s\" is one argument too many", argv[optind]);
    return *config ? 0 : err_set(e, EX_USAGE, "--config is missing");
}

int main(int argc, char **argv) {
    const char *config = NULL;
    bool check = false;
    struct settings s = {0};
    struct err e = {0};
    log_init("civinit-forward");
    int rc = options(argc, argv, &config, &check, &e);
    if (rc > 0)
        return 0;
    if (rc == 0)
        rc = settings_read(&s, config, &e);
    if (rc == 0 && !check)
        rc = loop_run(&s, &e);
    if (rc < 0) {
        log_error("%s", e.text);
        rc = e.code;
    }
    settings_free(&s);
    return rc;
}
