// Which archives stay. Pure.
#ifndef BACKUP_KEEP_H
#define BACKUP_KEEP_H

#include "backup/options.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kept {
    int64_t time; // seconds since the epoch, UTC
    bool keep;
    const char *why; // "last", "daily" …; "newest"; NULL: goes
};

// Marks what stays. a is sorted, newest first. Of each day (ISO week, month, year) of UTC the
// newest archive counts; without any rule all stay; the newest always stays.
void keep_choose(const struct keep_rules *rules, struct kept *a, size_t n);

bool keep_any(const struct keep_rules *rules); // whether there is a rule

#endif
