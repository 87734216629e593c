// The commands of civinit-backup: each reads its own arguments and returns an exit code.
#ifndef BACKUP_COMMAND_H
#define BACKUP_COMMAND_H

int create_main(int argc, char **argv);
int verify_main(int argc, char **argv);
int list_main(int argc, char **argv);
int prune_main(int argc, char **argv);
int restore_main(int argc, char **argv);

#endif
