// A role's configuration: FILE and then FILE's folder of drop-ins (web.ini → web.d/*.ini, in name
// order; later values replace earlier ones), checked against the schema, with ${…} filled in.
//
// All problems are collected, each "file:line: [section] key: problem", so that one run of
// `civinit check` shows them all.
#ifndef CONF_CONF_H
#define CONF_CONF_H

#include "base/arena.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct conf_entry {
    const char *section; // "service"
    const char *name;    // "apache", or ""
    const char *key;     // "command"
    const char *value;   // filled in; several lines are joined by newlines
    const char *raw;     // as written
    const char *file;
    int line;
    bool secret; // value came through ${file:…}: never to be shown
    bool unsure; // value lacks what is not there (at_build): nothing follows from it
};

struct conf {
    struct arena arena;
    struct conf_entry *entries; // in the order of first appearance
    size_t n, cap;
    char **problems;
    size_t nproblems, problems_cap;
    struct { // sections, in the order of first appearance, also empty ones
        const char *section, *name, *file;
        int line;
    } * sections;
    size_t nsections, sections_cap;
    const char *path; // as conf_load got it
    // Set by who has not the container's environment, an image's build: variables and files that
    // are not there are then no problems but told in `absent`, like problems.
    bool at_build;
    char **absent;
    size_t nabsent, absent_cap;
};

// Reads path and its drop-ins into c (zero-initialised). `used` names the section types whose
// values are filled in, so that a program needs no secret of another's ({NULL}-terminated; NULL:
// all). -1 with e when path cannot be read at all; problems in the text are in c->problems.
int conf_load(struct conf *c, const char *path, const char *const *used, struct err *e);

// conf_load, then everything as one error: EX_CONFIG with the first problem and the number of
// further ones; each problem is logged. What programs other than `civinit check` call.
int conf_load_strict(struct conf *c, const char *path, const char *const *used, struct err *e);

// Adds a problem at an entry (or, with entry NULL, at a section): a later stage found it.
// At an entry that is unsure it is none.
__attribute__((format(printf, 3, 4))) void conf_problem(struct conf *c, const struct conf_entry *at,
                                                        const char *fmt, ...);

// Tells (at_build) that an entry's value is not there, and why.
void conf_absent(struct conf *c, const struct conf_entry *at, const char *why);

// The entry, or NULL. name is "" for sections without one.
const struct conf_entry *conf_find(const struct conf *c, const char *section, const char *name,
                                   const char *key);

// Its value, or fallback. Values have passed the schema: the typed ones below cannot fail.
const char *conf_text(const struct conf *c, const char *section, const char *name, const char *key,
                      const char *fallback);
int64_t conf_ms(const struct conf *c, const char *section, const char *name, const char *key,
                int64_t fallback_ms);
int64_t conf_size(const struct conf *c, const char *section, const char *name, const char *key,
                  int64_t fallback_bytes);
int64_t conf_int(const struct conf *c, const char *section, const char *name, const char *key,
                 int64_t fallback);
bool conf_bool(const struct conf *c, const char *section, const char *name, const char *key,
               bool fallback);

// The words of a list value, NULL-terminated, in the arena (never NULL unless out of memory).
// Quotes group words, as in a command.
char **conf_list(struct conf *c, const char *section, const char *name, const char *key);

// The path of a role: "web" → /etc/civinit/web.ini; a text with a '/' or ending in ".ini" is a
// path already. CIVINIT_CONFIG_DIR replaces /etc/civinit. In the arena.
const char *conf_path(struct conf *c, const char *role);

void conf_free(struct conf *c);

#endif
