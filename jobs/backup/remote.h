// What the stores behind a network share: logins from [backup], the little XML they answer with,
// names that may be listed.
#ifndef BACKUP_REMOTE_H
#define BACKUP_REMOTE_H

#include "backup/options.h"
#include "backup/wire.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    REMOTE_STALE_S = 24 * 3600, // an unfinished upload older than this belongs to a dead run
};

// A key of [backup], NULL when absent or empty.
const char *remote_text(const struct options *o, const char *key);

// The secret in the file that [backup] key names, NULL when there is none. The caller's to free.
int remote_secret(const struct options *o, const char *key, char **ret, struct err *e);

// Overwrites and frees a secret.
void remote_forget(char **secret);

// The text of the first element called tag (any namespace prefix) between p and end, decoded, the
// caller's to free; NULL: none. *ret_end (unless NULL) is where the element ends.
char *remote_xml(const char *p, const char *end, const char *tag, const char **ret_end);

// The next element called tag: *ret_from … *ret_to is its inside. false: no more.
bool remote_xml_next(const char **p, const char *end, const char *tag, const char **ret_from,
                     const char **ret_to);

// "2026-03-01T12:00:00.000Z" or "Sun, 01 Mar 2026 12:00:00 GMT" → milliseconds; 0: neither.
int64_t remote_time(const char *text);

// Percent-decodes text in place.
void remote_decode(char *text);

// NAME → ".NAME.part", the name while it is being written. Into buf; -1: too long.
int remote_part(const char *name, char *buf, size_t size, struct err *e);
bool remote_is_part(const char *name);

#endif
