// Which lines are joined to the one before.
#include "log/join.h"
#include "log/level.h"

#include <criterion/criterion.h>
#include <string.h>

// Lines with "+" before those that belong to the line before, "-" before the others.
static const char *const cases[][14] = {
    {"-PHP Fatal error:  Uncaught Exception: no in /x.php:3", "+Stack trace:", "+#0 /x.php(9): f()",
     "+#1 {main}", "+  thrown in /x.php on line 3", "-#2 by itself"},
    {"-PHP Fatal error:  Uncaught Exception: first in /x.php:3", "+Stack trace:", "+#0 {main}", "+",
     "+Next RuntimeException: second in /x.php:5", "+Stack trace:", "+#0 {main}",
     "+  thrown in /x.php on line 5", "-  indented"},
    {"-PHP Fatal error:  Uncaught PDOException: a message", "+of three", "+lines in /x.php:3",
     "+Stack trace:", "+#0 {main}", "-hello"},
    {"-PHP Fatal error:  Uncaught E: inner in /x.php:2", "+Stack trace:", "+#0 {main}", "+",
     "+Next RuntimeException: first line", "+second line in /x.php:2",
     "+Stack trace:", "+#0 {main}", "+  thrown in /x.php on line 2", "-#1 by itself"},
    {"-PHP Fatal error:  Uncaught PDOException: a message", "-PHP Warning:  another on line 3",
     "-x"},
    {"-PHP Warning:  x on line 3", "+PHP Stack trace:", "+PHP   1. {main}() /x.php:0",
     "-PHP Warning:  y on line 3", "-10.0.0.1 - - [x]"},
    {"-Nov 28 12:00:00  [info] $x = Array", "+(", "+    [a] => 1", "+    [b] => Array",
     "+        (", "+        )", "+", "+)", "+", "-Nov 28 12:00:01  [info] y", "+", "-z"},
    {"-2026-11-28 12:00:00+0000  [error] $backTrace = #0 /x(1): f()", "+#1 {main}", "-#x", "-#1 y"},
    {"-CRM_Core_Exception: no", "+#0 /x(1): f()", "- [error] drush"},
    {"-hello", "-#0 is no trace here", "-  nor this", "-", "-Stack trace:", "-)"},
    {"-PHP Notice:  x on line 1", "+\ttabbed", "-#", "-x"},
};

Test(join, table) {
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum join state = JOIN_NONE;
        for (unsigned k = 0; k < 14 && cases[i][k]; k++) {
            const char *line = cases[i][k] + 1;
            size_t n = strlen(line);
            bool joined = join_next(&state, line, n);
            cr_expect(joined == (cases[i][k][0] == '+'), "case %u line %u: %s", i, k, line);
            if (!joined)
                state = level_of(line, n).head ? join_start(line, n) : JOIN_NONE;
        }
    }
}
