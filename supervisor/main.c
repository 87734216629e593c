#include "exec/exec.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
    if (exec_is_alias(argv[0]))
        return exec_main(argc, argv);
    if (argc > 1 && strcmp(argv[1], "exec") == 0)
        return exec_main(argc - 1, argv + 1);
    fputs("civinit: not yet\n", stderr);
    return 64;
}
