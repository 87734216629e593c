// How serious a line says it is, from the formats that the programs of a CiviCRM container write:
// Apache's error log, mysqlrouter, MySQL and MariaDB, PHP and php-fpm, CiviCRM, cv and drush, and
// this project's own "program: level: text". Looks at the beginning of the line only.
#ifndef LOG_LEVEL_H
#define LOG_LEVEL_H

#include <stdbool.h>
#include <stddef.h>

enum level {
    LEVEL_NONE, // the line shows none
    LEVEL_DEBUG,
    LEVEL_INFO,
    LEVEL_NOTICE,
    LEVEL_WARNING,
    LEVEL_ERROR,
    LEVEL_CRITICAL,
};

struct level_found {
    enum level level;
    bool head; // a stack trace or a dump may follow on lines of its own (PHP, CiviCRM)
};

// The level of a line (without its newline).
struct level_found level_of(const char *line, size_t len);

// "error"; "" for LEVEL_NONE.
const char *level_name(enum level level);

#endif
