// Removes the archives that no rule keeps.
#ifndef BACKUP_PRUNE_H
#define BACKUP_PRUNE_H

#include "backup/options.h"
#include "backup/store.h"
#include "base/err.h"

// Of o->instance's archives in s. each (may be NULL: it is logged) hears of every archive whether
// it stays and why, or goes (why NULL); with o->dry_run nothing is removed.
int prune(const struct options *o, struct store *s, void (*each)(const char *name, const char *why),
          struct err *e);

#endif
