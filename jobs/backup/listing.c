#include "backup/listing.h"

#include "base/clock.h"

#include <stdio.h>
#include <sysexits.h>

int listing_new(struct listing *l, struct err *e) {
    *l = (struct listing){.warnings = json_array(), .offsets = json_array()};
    return l->warnings && l->offsets ? 0 : err_set(e, EX_OSERR, "out of memory");
}

static int write_text(struct tar *t, const char *name, json_t *head, struct listing *l,
                      int64_t now_ms, struct err *e) {
    autobuf struct buf before = {0};
    manifest_text(&before, head);
    if (before.failed || l->entries.failed)
        return err_set(e, EX_OSERR, "out of memory");
    struct tar_text pieces[] = {{before.data, before.len},
                                {l->entries.len ? l->entries.data : "", l->entries.len},
                                {MANIFEST_END, sizeof MANIFEST_END - 1},
                                {NULL, 0}};
    char sha[TAR_SHA_TEXT];
    return tar_memory(t, name, pieces, now_ms, sha, e);
}

static int write_part(struct listing *l, struct tar *t, struct err *e) {
    char name[64];
    uint64_t offset;
    if (tar_mark(t, &offset, e) < 0)
        return -1;
    json_array_append_new(l->offsets, json_integer((json_int_t)offset));
    snprintf(name, sizeof name, "%s%05d.json", MANIFEST_PART, l->parts++);
    json_t *head = json_pack("{s:i}", "part", l->parts);
    int rc = write_text(t, name, head, l, clock_wall_ms(), e);
    json_decref(head);
    l->entries.len = 0;
    return rc;
}

int listing_add(struct listing *l, struct tar *t, const struct manifest_entry *x, struct err *e) {
    manifest_add(&l->entries, x);
    l->count++;
    if (l->entries.failed)
        return err_set(e, EX_OSERR, "out of memory");
    return l->entries.len > MANIFEST_PART_BYTES ? write_part(l, t, e) : 0;
}

void listing_warn(struct listing *l, const char *path, const char *what) {
    if (l->nwarnings++ >= LISTING_WARNINGS)
        return;
    json_t *name = json_string(path); // NULL when it is not UTF-8
    json_array_append_new(
        l->warnings,
        json_pack("{s:o,s:s}", "path", name ? name : json_string("(not UTF-8)"), "what", what));
}

int listing_write(struct listing *l, struct tar *t, json_t *head, int64_t now_ms, struct err *e) {
    json_object_set_new(head, "count", json_integer(l->count));
    json_object_set_new(head, "warning_count", json_integer(l->nwarnings));
    json_object_set(head, "warnings", l->warnings);
    json_object_set_new(head, "parts", json_integer(l->parts));
    if (l->parts)
        json_object_set(head, MANIFEST_OFFSETS, l->offsets);
    return write_text(t, MANIFEST_NAME, head, l, now_ms, e);
}

void listing_free(struct listing *l) {
    buf_free(&l->entries);
    json_decref(l->warnings);
    json_decref(l->offsets);
    l->warnings = l->offsets = NULL;
}
