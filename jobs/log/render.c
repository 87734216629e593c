#include "log/render.h"

#include "base/text.h"
#include "log/escape.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int render_format(const char *name) {
    static const char *const names[] = {"text", "json", "logfmt"};
    for (int i = 0; i < FORMATS; i++)
        if (strcmp(name, names[i]) == 0)
            return i;
    return -1;
}

static const char no_time[STAMP_LEN + 1] = "0000-00-00T00:00:00.000Z";

// TIME SERVICE STREAM PID_
static void text_prefix(struct buf *b, const char *service, const char *stream, const char *pid) {
    buf_printf(b, "%s %s %s %s ", no_time, service, stream, *pid ? pid : "-");
}

static void json_prefix(struct buf *b, const char *service, const char *stream, const char *pid) {
    buf_printf(b, "{\"time\":\"%s\",\"service\":", no_time);
    buf_json(b, service);
    buf_str(b, ",\"stream\":");
    buf_json(b, stream);
    buf_printf(b, "%s%s", *pid ? ",\"pid\":" : "", pid);
}

static void logfmt_prefix(struct buf *b, const char *service, const char *stream, const char *pid) {
    buf_printf(b, "time=%s service=%s stream=%s%s%s", no_time, service, stream, *pid ? " pid=" : "",
               pid);
}

int prefix_make(struct prefix *p, enum format format, const char *service, const char *stream,
                int pid) {
    static void (*const make[])(struct buf *, const char *, const char *,
                                const char *) = {text_prefix, json_prefix, logfmt_prefix};
    char number[16] = "";
    struct buf b = {0};
    if (pid > 0)
        snprintf(number, sizeof number, "%d", pid);
    make[format](&b, service, stream, number);
    if (b.failed)
        return -1;
    prefix_free(p);
    *p = (struct prefix){.text = b.data, .len = b.len};
    p->time_at = (size_t)(strstr(b.data, no_time) - b.data);
    return 0;
}

void prefix_free(struct prefix *p) {
    free(p->text);
    *p = (struct prefix){0};
}

size_t render_room(const struct prefix *p, enum format format, size_t len) {
    return p->len + RENDER_EXTRA + (format == FORMAT_TEXT ? len : ESCAPE_WORST * len);
}

static char *put(char *out, const char *text, size_t len) {
    memcpy(out, text, len);
    return out + len;
}

static char *put_text(char *out, const char *text) {
    return put(out, text, strlen(text));
}

// " …[1234 bytes cut]"
static char *put_cut(char *out, size_t cut) {
    return cut ? out + sprintf(out, " \xe2\x80\xa6[%zu bytes cut]", cut) : out;
}

static char *render_text(char *out, const struct record *r) {
    const char *level = r->continued ? "|" : r->level == LEVEL_NONE ? "-" : level_name(r->level);
    out = put_text(out, level);
    *out++ = ' ';
    out = put(out, r->message, r->len);
    return put_cut(out, r->cut);
}

static char *render_json(char *out, const struct record *r) {
    if (r->level != LEVEL_NONE) {
        out = put_text(out, ",\"level\":\"");
        out = put_text(out, level_name(r->level));
        *out++ = '"';
    }
    out = put_text(out, ",\"message\":\"");
    out = escape_json(out, r->message, r->len);
    out = put_cut(out, r->cut);
    return put_text(out, r->cut ? "\",\"cut\":true}" : "\"}");
}

static char *render_logfmt(char *out, const struct record *r) {
    if (r->level != LEVEL_NONE) {
        out = put_text(out, " level=");
        out = put_text(out, level_name(r->level));
    }
    out = put_text(out, " message=\"");
    out = escape_json(out, r->message, r->len);
    out = put_cut(out, r->cut);
    return put_text(out, r->cut ? "\" cut=true" : "\"");
}

char *render(char *out, enum format format, struct prefix *p, const struct stamp *at,
             const struct record *r) {
    static char *(*const body[])(char *, const struct record *) = {render_text, render_json,
                                                                   render_logfmt};
    if (p->ms != at->ms) {
        memcpy(p->text + p->time_at, at->text, STAMP_LEN);
        p->ms = at->ms;
    }
    out = body[format](put(out, p->text, p->len), r);
    *out++ = '\n';
    return out;
}
