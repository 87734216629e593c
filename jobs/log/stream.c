#include "log/stream.h"

#include "base/clock.h"
#include "base/log.h"
#include "log/escape.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int stream_pid(struct stream *s, int pid) {
    s->pid = pid;
    for (int f = 0; f < FORMATS; f++)
        if (prefix_make(&s->prefix[f], (enum format)f, s->service, s->kind, pid) < 0)
            return -1;
    return 0;
}

static void write_record(struct stream *s, struct sink *sink, enum format format,
                         const struct stamp *at, const struct record *r) {
    struct prefix *p = &s->prefix[format];
    char *room = sink_room(sink, render_room(p, format, r->len));
    sink->len = (size_t)(render(room, format, p, at, r) - sink->data);
}

// To the sinks whose format keeps a trace together in one record.
static void write_joined(struct stream *s, struct outlet *o, const struct stamp *at,
                         const struct record *r) {
    if (o->out && s->format != FORMAT_TEXT)
        write_record(s, o->out, s->format, at, r);
    if (o->records)
        write_record(s, o->records, FORMAT_JSON, at, r);
}

static bool joins(const struct stream *s, const struct outlet *o) {
    return o->records || (o->out && s->format != FORMAT_TEXT);
}

void stream_release(struct stream *s, struct outlet *o) {
    if (!s->holding)
        return;
    s->holding = false;
    while (s->held.len && s->held.data[s->held.len - 1] == '\n')
        s->held.len--; // empty lines after a trace
    struct record r = {s->held.data, s->held.len, s->held_cut, s->held_level, false};
    write_joined(s, o, &s->held_at, &r);
    if (s->held.cap > 8192)
        buf_free(&s->held);
}

static void hold(struct stream *s, struct outlet *o, const struct record *r) {
    s->held.len = 0;
    buf_add(&s->held, r->message, r->len);
    if (s->held.failed) {
        buf_free(&s->held);
        write_joined(s, o, &o->now, r);
        return;
    }
    s->holding = true;
    s->held_at = o->now;
    s->held_level = r->level;
    s->held_cut = r->cut;
    s->held_until = clock_mono_ms() + STREAM_HOLD_MS;
}

static size_t whole_characters(const char *text, size_t len) {
    size_t n = len;
    while (n && len - n < 4 && ((unsigned char)text[n - 1] & 0xc0) == 0x80)
        n--;
    if (n && (unsigned char)text[n - 1] >= 0xc0 && !escape_utf8(text + n - 1, len - n + 1))
        return n - 1;
    return len;
}

static void held_add(struct stream *s, struct outlet *o, const struct record *r) {
    size_t room = o->max > s->held.len ? o->max - s->held.len : 0, len = r->len + 1;
    s->held_until = clock_mono_ms() + STREAM_HOLD_MS;
    if (s->held_cut || room < len) {
        size_t take = s->held_cut || room == 0 ? 0 : whole_characters(r->message, room - 1);
        if (take) {
            buf_add(&s->held, "\n", 1);
            buf_add(&s->held, r->message, take);
        }
        s->held_cut += len - (take ? take + 1 : 0) + r->cut;
        return;
    }
    buf_add(&s->held, "\n", 1);
    buf_add(&s->held, r->message, r->len);
    s->held_cut += r->cut;
    if (s->held.failed)
        s->held_cut += len;
}

// One line, without its newline.
static void take_line(struct stream *s, struct outlet *o, const char *line, size_t len,
                      size_t cut) {
    struct record r = {line, len, cut, LEVEL_NONE, join_next(&s->join, line, len)};
    if (cut) {
        r.len = whole_characters(line, len);
        r.cut += len - r.len;
    }
    if (!r.continued) {
        stream_release(s, o);
        struct level_found found = level_of(line, len);
        r.level = found.level;
        s->join = found.head ? join_start(line, len) : JOIN_NONE;
    }
    if (o->out && s->format == FORMAT_TEXT)
        write_record(s, o->out, FORMAT_TEXT, &o->now, &r);
    if (!joins(s, o))
        return;
    if (r.continued && s->holding)
        held_add(s, o, &r);
    else if (s->join != JOIN_NONE)
        hold(s, o, &r);
    else
        write_joined(s, o, &o->now, &r);
    if (s->join == JOIN_NONE)
        stream_release(s, o);
}

// A line longer than `max` that goes on: counts what is left out; returns where the next begins.
static const char *skip_rest(struct stream *s, struct outlet *o, const char *p, const char *end) {
    const char *newline = memchr(p, '\n', (size_t)(end - p));
    s->cut += (size_t)((newline ? newline : end) - p);
    if (!newline)
        return end;
    take_line(s, o, s->partial.data, s->partial.len, s->cut);
    s->cut = 0;
    s->partial.len = 0;
    return newline + 1;
}

static void keep_partial(struct stream *s, struct outlet *o, const char *p, size_t len) {
    size_t keep = len > o->max ? o->max : len;
    s->partial.len = 0;
    if (keep == 0 && s->partial.cap > 8192)
        buf_free(&s->partial);
    if (keep == 0)
        return;
    buf_add(&s->partial, p, keep);
    if (s->partial.failed) {
        buf_free(&s->partial);
        take_line(s, o, p, keep, len - keep);
        return;
    }
    s->cut = len - keep;
}

static void take_bytes(struct stream *s, struct outlet *o, const char *p, const char *scan,
                       const char *end) {
    const char *newline;
    while ((newline = memchr(scan, '\n', (size_t)(end - scan)))) {
        size_t len = (size_t)(newline - p);
        take_line(s, o, p, len > o->max ? o->max : len, len > o->max ? len - o->max : 0);
        p = scan = newline + 1;
    }
    keep_partial(s, o, p, (size_t)(end - p));
}

int stream_read(struct stream *s, struct outlet *o) {
    size_t before = s->cut ? 0 : s->partial.len; // joined with what comes
    ssize_t n = read(s->fd, o->input + before, OUTLET_READ);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n < 0)
        log_error("cannot read %s of %s: %s", s->kind, s->service, strerror(errno));
    if (n <= 0) {
        stream_finish(s, o);
        close(s->fd);
        s->fd = -1;
        return -1;
    }
    const char *p = o->input, *end = o->input + before + n;
    if (before)
        memcpy(o->input, s->partial.data, before);
    else if (s->cut && (p = skip_rest(s, o, p, end)) == end)
        return 1;
    take_bytes(s, o, p, p + before, end);
    return 1;
}

void stream_finish(struct stream *s, struct outlet *o) {
    if (s->partial.len)
        take_line(s, o, s->partial.data, s->partial.len, s->cut);
    s->partial.len = s->cut = 0;
    stream_release(s, o);
    s->join = JOIN_NONE;
}

void stream_free(struct stream *s) {
    for (int f = 0; f < FORMATS; f++)
        prefix_free(&s->prefix[f]);
    buf_free(&s->partial);
    buf_free(&s->held);
    if (s->fd >= 0)
        close(s->fd);
    free(s->service);
}
