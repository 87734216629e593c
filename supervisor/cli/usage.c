#include "base/log.h"
#include "base/text.h"
#include "cli/cli.h"

#include <string.h>
#include <sysexits.h>

int cli_usage(const char *command, const char *argument, const char *const *options) {
    const char *near = text_nearest(argument, options);
    log_error(near ? "%s: unknown argument \"%s\"; did you mean \"%s\"?"
                   : "%s: unknown argument \"%s\"; see civinit --help",
              command, argument, near);
    return EX_USAGE;
}

int cli_value(const char *command, const char *name, int argc, char **argv, int *i,
              const char **ret) {
    size_t n = strlen(name);
    if (strncmp(argv[*i], name, n) != 0 || (argv[*i][n] && argv[*i][n] != '='))
        return 0;
    if (argv[*i][n] == '=') {
        *ret = argv[*i] + n + 1;
        return 1;
    }
    if (*i + 1 >= argc) {
        log_error("%s: %s needs a value", command, name);
        return -1;
    }
    *ret = argv[++*i];
    return 1;
}
