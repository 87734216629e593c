// One line of JSON as our helper writes it: picks single members out. Pure.
#ifndef CRON_JSONLINE_H
#define CRON_JSONLINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The value of a member of the outermost object: a string's text without quotes and escapes, or a
// number's or word's own text. False: there is no such member. What does not fit is cut.
bool jsonline_text(const char *line, const char *key, char *ret, size_t size);

// As jsonline_text for whole numbers; fallback when there is none.
int64_t jsonline_int(const char *line, const char *key, int64_t fallback);

#endif
