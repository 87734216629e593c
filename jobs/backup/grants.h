// What an account may do, from the lines of SHOW GRANTS: a dump silently lacks what its account
// may not see (triggers without TRIGGER, routines without SHOW_ROUTINE), and information_schema
// hides the same, so that only the grants themselves can tell. Pure.
#ifndef BACKUP_GRANTS_H
#define BACKUP_GRANTS_H

#include "base/text.h"

#include <stdbool.h>
#include <stddef.h>

enum {
    GRANT_SELECT = 1,
    GRANT_SHOW_VIEW = 2,
    GRANT_TRIGGER = 4,
    GRANT_EVENT = 8,
    // Routines are seen: SHOW_ROUTINE, SHOW CREATE ROUTINE, SELECT everywhere or on mysql.proc;
    // or the names are (EXECUTE, CREATE ROUTINE, ALTER ROUTINE), and the dump then fails itself
    // for those whose text it may not read.
    GRANT_ROUTINES = 16,
    GRANT_ALL = 31,
};

// What the lines allow in one database. Role and proxy lines are passed over.
unsigned grants_for(const char *const *lines, size_t n, const char *database);

// Adds "TRIGGER on civicrm, SHOW_ROUTINE" for what have lacks; nothing when nothing is missing.
void grants_missing(struct buf *out, unsigned have, const char *database, bool mariadb);

#endif
