// Which sections and keys a configuration may have, and what their values look like.
// The one table that `civinit check`, every program and the manual civinit.ini(5) follow.
#ifndef CONF_SCHEMA_H
#define CONF_SCHEMA_H

#include "base/err.h"

enum schema_type {
    SCHEMA_TEXT,     // anything
    SCHEMA_WORD,     // one word, not empty
    SCHEMA_COMMAND,  // words, quoted as in a shell, not empty
    SCHEMA_DURATION, // 250ms 10s 5m 2h
    SCHEMA_STOP,     // a duration, or "grace": all of it
    SCHEMA_SIZE,     // 64KiB 512MiB
    SCHEMA_INT,      // a whole number >= 0
    SCHEMA_BOOL,     // yes no
    SCHEMA_CHOICE,   // one of .choices
    SCHEMA_LIST,     // words, over several lines; given again, they add up
    SCHEMA_SIGNAL,   // TERM, SIGTERM, WINCH, 15
    SCHEMA_CHECK,    // the language of ready and health
    SCHEMA_LISTEN,   // HOST:PORT, :PORT
};

struct schema_key {
    const char *section; // "service"
    const char *key;     // "ready"; with a final ".": a prefix ("env.")
    enum schema_type type;
    const char *choices; // "never|on-failure|always"
};

// All keys, ended by one whose section is NULL.
extern const struct schema_key schema_keys[];

// Whether sections of this type have a name ("[service apache]"): 1, 0, or -1: no such section.
int schema_named(const char *section);

// The key's row, or NULL.
const struct schema_key *schema_find(const char *section, const char *key);

// Checks a value; e says what would be right.
int schema_check(const struct schema_key *key, const char *value, struct err *e);

// The nearest known section or key, or NULL.
const char *schema_nearest_section(const char *section);
const char *schema_nearest_key(const char *section, const char *key);

// A signal's number from "TERM", "SIGTERM" or "15"; -1: none of them.
int schema_signal(const char *name);

#endif
