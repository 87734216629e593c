// Reads INI syntax, by inih, but without what its package limits: values keep " ;" and any
// length, every problem has its line, and a line that begins with a blank continues the value.
//
//     ; comment        # comment          [section NAME]          key = value
#ifndef CONF_INI_H
#define CONF_INI_H

#include "base/err.h"

#include <stddef.h>

// One `key = value`, or one more line of it (then `more` is 1). section is the text between the
// brackets, "" before the first. The texts live only during the call.
typedef void ini_pair(void *arg, int line, const char *section, const char *key, const char *value,
                      int more);
// A line that is none of what INI knows, or a section that begins (`text` NULL).
typedef void ini_problem(void *arg, int line, const char *text);
typedef void ini_section(void *arg, int line, const char *section);

// Reads text (NUL-terminated) to its end. -1 only when memory runs out.
int ini_read(const char *text, ini_pair *pair, ini_section *section, ini_problem *problem,
             void *arg, struct err *e);

#endif
