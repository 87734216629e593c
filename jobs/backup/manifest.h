// MANIFEST.json, the last entry of an archive: what is in it, how it was made, and the proof.
//
// One JSON object. Its entries stand one per line, so that neither writing nor reading needs them
// all in memory:
//
//     {"format": "civinit-backup 1",
//      "program": "civinit-backup 0.1.0", "instance": "…", "started": "RFC 3339", "ended": "…",
//      "compression": "…", "changed_policy": "warn",
//      "databases": [{"name", "tables", "views", "triggers", "routines", "events"}],
//      "dump": {"program", "version", "server", "options": [], "size", "sha256", "pieces",
//               "structure_only": [], "missing_grants": [], "attempts"},
//      "roots": [{"name", "path", "entries", "bytes"}],
//      "excludes": [], "skipped": n, "excluded": n, "warnings": [{"path", "what"}], "parts": n,
//      "entries": [
//      {"path": "database.sql", "type": "file", "size": 1, "sha256": "…"},
//      …
//     ]}
//
// A path that is not UTF-8 is given lossily and again as "path_hex". An archive of very many
// entries has earlier parts, .MANIFEST.00000.json and so on, each {"entries": [ … ]}; the
// entries of all parts and of the last are in the archive's order.
#ifndef BACKUP_MANIFEST_H
#define BACKUP_MANIFEST_H

#include "base/err.h"
#include "base/text.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MANIFEST_NAME    "MANIFEST.json"
#define MANIFEST_PART    ".MANIFEST."   // then five digits and .json
#define MANIFEST_OFFSETS "part_offsets" // where each part's block begins in the archive
#define DUMP_NAME        "database.sql" // pieces: database.sql.00000 …
#define FILES_PREFIX     "files/"

enum {
    MANIFEST_PART_BYTES = 2 << 20, // longer lists begin a new part
    MANIFEST_LINE_MAX = 64 << 10,
};

// One entry, as both sides know it.
struct manifest_entry {
    const char *path; // any bytes
    const char *type; // "file" "dir" "symlink" "hardlink"
    int64_t size;
    const char *sha256; // 64 hex digits, for files; else NULL
    const char *link;   // target, for links; else NULL
};

// Adds an entry's line to the list's text.
void manifest_add(struct buf *list, const struct manifest_entry *x);

// A fingerprint of an entry, to compare what was read with what the manifest says.
uint64_t manifest_print(const struct manifest_entry *x);

// The text of a manifest around its list: what stands before (head is an object; its values are
// kept) and after it.
void manifest_text(struct buf *before, json_t *head);
#define MANIFEST_END "\n]}\n"

// Reads a manifest or a part, line by line: each() gets every entry in order (x lives during the
// call). *ret_head is everything else (the caller's), may be NULL.
int manifest_parse(char *text, size_t len, json_t **ret_head,
                   int (*each)(void *arg, const struct manifest_entry *x, json_t *object,
                               struct err *e),
                   void *arg, struct err *e);

#endif
