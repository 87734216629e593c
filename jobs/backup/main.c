// civinit-backup: the database and the files of an instance in one archive, and back.
//
//   create   dump + tree → tar → blocks on threads → store   create.c dump.c tree.c tar.c stage.c
//   verify   store → inflate → tar → digests ↔ manifest      reader.c verify.c
//   list     archives of a destination, entries of one       list.c
//   prune    which archives stay                             keep.c prune.c
//   restore  reader → statements → server, files → folders   restore.c load.c sql*.c extract.c
//            and --drill, which compares                     target.c drill.c
//
// Where archives live: store.c and store_*.c. Each library has its adapter: libarchive tar.c and
// reader.c, libdeflate, ISA-L and zstd codec.c and inflate.c, jansson manifest.c.
#include "backup/command.h"
#include "base/log.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>
#include <sysexits.h>

static const struct command {
    const char *name;
    int (*main)(int argc, char **argv);
    const char *arguments, *what;
} commands[] = {
    {"create", create_main, "[--to DESTINATION] [OPTION…]", "databases and files into one archive"},
    {"verify", verify_main, "ARCHIVE…", "whether archives are whole"},
    {"list", list_main, "[ARCHIVE]", "the archives, or what one holds"},
    {"prune", prune_main, "[--dry-run]", "removes what no rule keeps"},
    {"restore", restore_main, "[OPTION…] ARCHIVE",
     "puts an archive back, or proves that it can be"},
    {NULL, NULL, NULL, NULL},
};

static void usage(FILE *f) {
    fprintf(f, "usage: civinit-backup COMMAND [--config FILE] …\n\n");
    for (const struct command *c = commands; c->name; c++)
        fprintf(f, "  %-8s %-44s %s\n", c->name, c->arguments, c->what);
    fprintf(f, "\nEach command has --help. See civinit-backup(1).\n");
}

static int unknown(const char *word) {
    const char *names[sizeof commands / sizeof *commands];
    size_t n = 0;
    for (; commands[n].name; n++)
        names[n] = commands[n].name;
    names[n] = NULL;
    const char *near = text_nearest(word, names);
    log_error("no command \"%s\"%s%s%s; see --help", word, near ? ": did you mean \"" : "",
              near ? near : "", near ? "\"?" : "");
    return EX_USAGE;
}

int main(int argc, char **argv) {
    log_init("civinit-backup");
    if (argc < 2) {
        usage(stderr);
        return EX_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        usage(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts("civinit-backup " CIVINIT_VERSION);
        return 0;
    }
    for (const struct command *c = commands; c->name; c++)
        if (strcmp(argv[1], c->name) == 0)
            return c->main(argc - 1, argv + 1);
    return unknown(argv[1]);
}
