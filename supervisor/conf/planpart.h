// The plan of one service or task; only plan.c uses it.
#ifndef CONF_PLANPART_H
#define CONF_PLANPART_H

#include "conf/plan.h"

// Where the plan is being made: of which section.
struct planpart {
    struct plan *p;
    struct conf *c;
    const struct plan_options *o;
    const char *section, *name;
};

// Fills in all of s but name, task, main, after and depth. -1: out of memory.
int planpart_service(struct planpart *w, struct plan_service *s);

// Adds a problem at the section's key, or at the section when it has no such key.
void planpart_problem(struct planpart *w, const char *key, const char *text);

// Goes on hashing with a text (FNV-1a).
#define PLANPART_SEED 0xcbf29ce484222325u
uint64_t planpart_hash(uint64_t hash, const char *text);

#endif
