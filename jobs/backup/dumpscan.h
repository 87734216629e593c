// Looks at a dump while it passes: which objects of which database it holds, and whether it ends
// with its closing line. Knows the texts of mysqldump and mariadb-dump. Pure.
#ifndef BACKUP_DUMPSCAN_H
#define BACKUP_DUMPSCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    DUMPSCAN_DATABASES = 64,
    DUMPSCAN_LINE = 512, // of a line that is looked at
    DUMPSCAN_DELIMITER = 16,
};

struct object_counts {
    int64_t tables, views, triggers, routines, events;
};

struct dump_database {
    char name[65 * 4];
    struct object_counts counts;
};

struct dumpscan {
    struct dump_database databases[DUMPSCAN_DATABASES]; // in the dump's order
    int n;
    bool completed; // the last line so far that is not empty is the closing one
    // private
    int current;
    char line[DUMPSCAN_LINE]; // the line being read, as far as it fits
    size_t len;
    char end[DUMPSCAN_DELIMITER]; // its last bytes
    size_t nend;
    char delimiter[DUMPSCAN_DELIMITER]; // of DELIMITER
    enum {
        SCAN_PLAIN,
        SCAN_FIRST, // between two delimiters other than ; a statement begins
        SCAN_BODY,  // its other lines are the routine's own text
    } where;
};

// Takes the next bytes; zero-initialise before the first. Statements before the first "Current
// Database" belong to a database called "".
void dumpscan_add(struct dumpscan *s, const void *data, size_t len);

// A new dump follows the one before.
void dumpscan_restart(struct dumpscan *s);

// The counts of a database, or NULL.
const struct object_counts *dumpscan_find(const struct dumpscan *s, const char *name);

#endif
