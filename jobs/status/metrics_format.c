#include "status/metrics_format.h"

#include <inttypes.h>
#include <stdio.h>

void format_family(struct format *f, const char *name, enum format_type type, const char *unit,
                   const char *help) {
    static const char *const suffixes[] = {"", "_total", "_info"};
    f->name = name;
    f->unit = unit;
    f->help = help;
    f->type = type;
    snprintf(f->sample, sizeof f->sample, "%s%s", name, suffixes[type]);
}

static void head(struct format *f) {
    static const char *const open_types[] = {"gauge", "counter", "info"};
    static const char *const text_types[] = {"gauge", "counter", "gauge"};
    const char *family = f->openmetrics ? f->name : f->sample;
    if (!f->help)
        return;
    buf_printf(f->out, "# HELP %s %s\n# TYPE %s %s\n", family, f->help, family,
               (f->openmetrics ? open_types : text_types)[f->type]);
    if (f->openmetrics && *f->unit)
        buf_printf(f->out, "# UNIT %s %s\n", family, f->unit);
    f->help = NULL;
}

static void escaped(struct buf *b, const char *text) {
    for (const char *p = text; *p; p++) {
        if (*p == '\n')
            buf_str(b, "\\n");
        else if (*p == '"' || *p == '\\')
            buf_printf(b, "\\%c", *p);
        else
            buf_add(b, p, 1);
    }
}

static const char *add_labels(struct buf *out, const char *separator, const char *const *labels) {
    for (; labels && *labels; labels += 2) {
        buf_printf(out, "%s%s=\"", separator, labels[0]);
        escaped(out, labels[1]);
        buf_str(out, "\"");
        separator = ",";
    }
    return separator;
}

static void begin(struct format *f, const char *const *labels) {
    head(f);
    buf_str(f->out, f->sample);
    const char *separator = add_labels(f->out, add_labels(f->out, "{", labels), f->common);
    buf_str(f->out, *separator == ',' ? "} " : " ");
}

static void fraction(struct format *f, int64_t value, int64_t unit, int digits) {
    buf_printf(f->out, "%s%" PRId64, value < 0 ? "-" : "", (value < 0 ? -value : value) / unit);
    if (value % unit)
        buf_printf(f->out, ".%0*" PRId64, digits, (value < 0 ? -value : value) % unit);
    buf_str(f->out, "\n");
}

void format_sample(struct format *f, int64_t value, const char *const *labels) {
    begin(f, labels);
    buf_printf(f->out, "%" PRId64 "\n", value);
}

void format_ms(struct format *f, int64_t value_ms, const char *const *labels) {
    begin(f, labels);
    fraction(f, value_ms, 1000, 3);
}

void format_us(struct format *f, int64_t value_us, const char *const *labels) {
    begin(f, labels);
    fraction(f, value_us, 1000000, 6);
}

const char *format_index(struct format *f, size_t n) {
    snprintf(f->index, sizeof f->index, "%zu", n);
    return f->index;
}

void format_end(struct format *f) {
    if (f->openmetrics)
        buf_str(f->out, "# EOF\n");
}
