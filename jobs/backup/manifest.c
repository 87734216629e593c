#include "backup/manifest.h"

#include "base/cleanup.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#define ENTRIES_LINE "\"entries\": ["

// Whether text is valid UTF-8 (RFC 3629) without control characters that JSON would escape anyway.
static bool is_utf8(const char *text) {
    json_t *j = json_string(text);
    json_decref(j);
    return j != NULL;
}

static void add_path(struct buf *list, const char *key, const char *text) {
    buf_printf(list, "\"%s\": ", key);
    buf_json(list, text);
    if (is_utf8(text))
        return;
    buf_printf(list, ", \"%s_hex\": \"", key);
    for (const char *p = text; *p; p++)
        buf_printf(list, "%02x", (unsigned char)*p);
    buf_str(list, "\"");
}

void manifest_add(struct buf *list, const struct manifest_entry *x) {
    buf_str(list, list->len ? ",\n{" : "{");
    add_path(list, "path", x->path);
    buf_printf(list, ", \"type\": \"%s\"", x->type);
    if (x->sha256)
        buf_printf(list, ", \"size\": %lld, \"sha256\": \"%s\"", (long long)x->size, x->sha256);
    if (x->link) {
        buf_str(list, ", ");
        add_path(list, "link", x->link);
    }
    buf_str(list, "}");
}

// FNV-1a, 64 bits: against accidents; what guards against malice is encryption.
static uint64_t fnv(uint64_t h, const void *data, size_t len) {
    for (const unsigned char *p = data; len--; p++)
        h = (h ^ *p) * UINT64_C(1099511628211);
    return h;
}

uint64_t manifest_print(const struct manifest_entry *x) {
    uint64_t h = UINT64_C(14695981039346656037);
    const char *parts[] = {x->path, x->type, x->sha256 ? x->sha256 : "", x->link ? x->link : ""};
    for (int i = 0; i < 4; i++)
        h = fnv(h, parts[i], strlen(parts[i]) + 1);
    return fnv(h, &x->size, sizeof x->size);
}

void manifest_text(struct buf *before, json_t *head) {
    const char *key;
    json_t *value;
    buf_str(before, "{");
    json_object_foreach(head, key, value) {
        autofree char *text = json_dumps(value, JSON_ENCODE_ANY);
        if (!text)
            before->failed = true;
        buf_printf(before, "\"%s\": %s,\n ", key, text ? text : "");
    }
    buf_str(before, ENTRIES_LINE "\n");
}

// "c3a9" → the two bytes; the caller's to free.
static char *from_hex(const char *hex) {
    size_t n = strlen(hex) / 2;
    char *out = malloc(n + 1);
    for (size_t i = 0; out && i < n; i++) {
        char digits[3] = {hex[2 * i], hex[2 * i + 1], 0};
        out[i] = (char)strtol(digits, NULL, 16);
    }
    if (out)
        out[n] = 0;
    return out;
}

static const char *text_of(json_t *o, const char *key) {
    return json_string_value(json_object_get(o, key));
}

static int parse_entry(json_t *o,
                       int (*each)(void *arg, const struct manifest_entry *x, json_t *object,
                                   struct err *e),
                       void *arg, struct err *e) {
    const char *path_hex = text_of(o, "path_hex"), *link_hex = text_of(o, "link_hex");
    autofree char *path = path_hex ? from_hex(path_hex) : NULL;
    autofree char *link = link_hex ? from_hex(link_hex) : NULL;
    struct manifest_entry x = {
        .path = path ? path : text_of(o, "path"),
        .type = text_of(o, "type"),
        .size = json_integer_value(json_object_get(o, "size")),
        .sha256 = text_of(o, "sha256"),
        .link = link ? link : text_of(o, "link"),
    };
    if (!x.path || !x.type)
        return err_set(e, EX_DATAERR, "%s: an entry lacks its path or type", MANIFEST_NAME);
    return each(arg, &x, o, e);
}

static int parse_line(char *line,
                      int (*each)(void *arg, const struct manifest_entry *x, json_t *object,
                                  struct err *e),
                      void *arg, struct err *e) {
    size_t n = strlen(line);
    if (n && line[n - 1] == ',')
        line[--n] = 0;
    if (n == 0)
        return 0;
    json_error_t why;
    json_t *o = json_loadb(line, n, 0, &why);
    if (!json_is_object(o)) {
        json_decref(o);
        return err_set(e, EX_DATAERR, "%s: a line of its entries is not JSON: %s", MANIFEST_NAME,
                       why.text);
    }
    int rc = parse_entry(o, each, arg, e);
    json_decref(o);
    return rc;
}

int manifest_parse(char *text, size_t len, json_t **ret_head,
                   int (*each)(void *arg, const struct manifest_entry *x, json_t *object,
                               struct err *e),
                   void *arg, struct err *e) {
    char *list = strstr(text, ENTRIES_LINE "\n"), *line, *next;
    if (strlen(text) != len || !list)
        return err_set(e, EX_DATAERR, "%s: is not a manifest", MANIFEST_NAME);
    for (line = list + strlen(ENTRIES_LINE "\n"); *line != ']'; line = next) {
        next = strchr(line, '\n');
        if (!next)
            return err_set(e, EX_DATAERR, "%s: ends too early", MANIFEST_NAME);
        *next++ = 0;
        if (parse_line(line, each, arg, e) < 0)
            return -1;
    }
    if (!ret_head)
        return 0;
    // The head alone: the list is cut to "[]".
    memmove(list + strlen(ENTRIES_LINE), line, strlen(line) + 1);
    json_error_t why;
    json_t *head = json_loads(text, 0, &why);
    if (!json_is_object(head)) {
        json_decref(head);
        return err_set(e, EX_DATAERR, "%s: is not JSON: line %d: %s", MANIFEST_NAME, why.line,
                       why.text);
    }
    json_object_del(head, "entries");
    *ret_head = head;
    return 0;
}
