// What lines of the programs of a container say of themselves.
#include "log/level.h"

#include <criterion/criterion.h>
#include <string.h>

static const struct {
    const char *line;
    enum level level;
    bool head;
} rows[] = {
    // Apache
    {"[Sat Nov 28 12:00:00.123456 2026] [core:error] [pid 17:tid 140] [client 10.0.0.1:5] AH00128: "
     "no",
     LEVEL_ERROR, false},
    {"[Sat Nov 28 12:00:00.123456 2026] [mpm_prefork:notice] [pid 17] AH00163: resuming",
     LEVEL_NOTICE, false},
    {"[Sat Nov 28 12:00:00 2026] [crit] old style", LEVEL_CRITICAL, false},
    {"[Sat Nov 28 12:00:00 2026] [ssl:trace3] x", LEVEL_DEBUG, false},
    {"[Sat Nov 28 12:00:00.1 2026] [php:warn] [pid 3] PHP Warning:  Undefined variable",
     LEVEL_WARNING, false},
    {"10.0.0.1 - - [28/Nov/2026:12:00:00 +0000] \"GET /error: HTTP/1.1\" 200 12", LEVEL_NONE,
     false},
    // mysqlrouter
    {"2026-11-28 12:00:00 routing INFO [7f2110] [routing:rw] started: listening", LEVEL_INFO,
     false},
    {"2026-11-28 12:00:00 metadata_cache WARNING [7f2110] no", LEVEL_WARNING, false},
    {"2026-11-28 12:00:00 main SYSTEM [7f2110] Starting", LEVEL_INFO, false},
    {"2026-11-28 12:00:00.123456 io ERROR [7f2110] x", LEVEL_ERROR, false},
    {"2026-11-28 12:00:00 main FATAL [7f2110] x", LEVEL_CRITICAL, false},
    // MySQL, MariaDB
    {"2026-11-28T12:00:00.123456Z 0 [Warning] [MY-010068] [Server] CA", LEVEL_WARNING, false},
    {"2026-11-28 12:00:00 0 [Note] InnoDB: started", LEVEL_INFO, false},
    {"2026-11-28T12:00:00.123456Z 12 [ERROR] [MY-010119] [Server] Aborting", LEVEL_ERROR, false},
    // PHP and php-fpm
    {"PHP Fatal error:  Uncaught Exception: no in /x.php:3", LEVEL_ERROR, true},
    {"PHP Parse error:  syntax error", LEVEL_ERROR, true},
    {"PHP Warning:  Undefined variable $x in /x.php on line 3", LEVEL_WARNING, true},
    {"PHP Deprecated:  Creation of dynamic property", LEVEL_NOTICE, true},
    {"PHP Notice:  x", LEVEL_NOTICE, true},
    {"[28-Nov-2026 12:00:00 UTC] PHP Warning:  x", LEVEL_WARNING, true},
    {"[28-Nov-2026 12:00:00 Europe/Paris] PHP Fatal error:  x", LEVEL_ERROR, true},
    {"Fatal error: Uncaught Error: x in /x.php:3", LEVEL_ERROR, true},
    {"[28-Nov-2026 12:00:00] NOTICE: fpm is running, pid 1", LEVEL_NOTICE, false},
    {"[28-Nov-2026 12:00:00] WARNING: [pool www] server reached pm.max_children", LEVEL_WARNING,
     false},
    {"[28-Nov-2026 12:00:00] ALERT: oops", LEVEL_CRITICAL, false},
    {"NOTICE: PHP message: PHP Warning:  x", LEVEL_WARNING, true},
    // CiviCRM, cv, drush
    {"Nov 28 12:00:00  [info] SystemStatus", LEVEL_INFO, true},
    {"Nov 28 12:00:00  [alert] x", LEVEL_CRITICAL, true},
    {"2026-11-28 12:00:00+0100  [error] $Fatal Error Details = Array", LEVEL_ERROR, true},
    {"[cron:error] Finished execution of X with result: Failure, Error message: no", LEVEL_ERROR,
     true},
    {"[error] x", LEVEL_ERROR, true},
    {" [warning] drush says", LEVEL_WARNING, false},
    {"CRM_Core_Exception: no", LEVEL_ERROR, true},
    {"\\Civi\\API\\Exception\\NotImplementedException: no", LEVEL_ERROR, true},
    {"TypeError: no", LEVEL_ERROR, true},
    // Ours and others
    {"civinit: warning: service apache: backoff 4s", LEVEL_WARNING, false},
    {"civinit-jobs: error: x", LEVEL_ERROR, false},
    {"mysqldump: [Warning] Using a password", LEVEL_WARNING, false},
    {"mysqldump: Error 2013: Lost connection", LEVEL_ERROR, false},
    {"mysqldump: Got error: 1045", LEVEL_ERROR, false},
    {"ERROR: x", LEVEL_ERROR, false},
    {"Warning: x", LEVEL_WARNING, true},
    // None
    {"", LEVEL_NONE, false},
    {"x", LEVEL_NONE, false},
    {"hello world", LEVEL_NONE, false},
    {"error", LEVEL_NONE, false},
    {"an error: this is not the first word", LEVEL_NONE, false},
    {"see: error is a word here", LEVEL_NONE, false},
    {"[", LEVEL_NONE, false},
    {"[28-Nov-2026 12:00:00]", LEVEL_NONE, false},
    {"[28-Nov-2026 12:00:00] ", LEVEL_NONE, false},
    {"[Sat Nov 28 12:00:00 2026] [", LEVEL_NONE, false},
    {"2026-11-28 12:00:00", LEVEL_NONE, false},
    {"2026-11-28 12:00:00      ", LEVEL_NONE, false},
    {"2026-11-28 12:00:00 a b c d e f", LEVEL_NONE, false},
    {"http://example.org/ error:", LEVEL_NONE, false},
};

Test(level, table) {
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct level_found f = level_of(rows[i].line, strlen(rows[i].line));
        cr_expect(f.level == rows[i].level && f.head == rows[i].head, "%s: %s, head %d",
                  rows[i].line, level_name(f.level), f.head);
    }
}

// Every beginning of every line, in memory of just its size (the sanitizers watch the edges).
Test(level, beginnings) {
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        for (size_t n = 0; n <= strlen(rows[i].line); n++) {
            char *exact = malloc(n ? n : 1);
            memcpy(exact, rows[i].line, n);
            level_of(exact, n);
            free(exact);
        }
    }
    cr_assert(1);
}
