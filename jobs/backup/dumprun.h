// Runs the dump program.
#ifndef BACKUP_DUMPRUN_H
#define BACKUP_DUMPRUN_H

#include "base/err.h"

// Its standard output for args (without argv[0]; NULL-terminated), at most 256 KiB; the caller's
// to free. For --version and --help.
int dump_ask(const char *program, const char *const *args, char **ret, struct err *e);

// What is put before the program so that it writes more than 4 KB at a time: stdbuf(1)'s option.
#define DUMP_STDBUF_OPTION "-o64K"

#endif
