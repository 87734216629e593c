// libFuzzer target: any bytes from a service, in any pieces, as text, JSON and logfmt.
// links: civinit-log
#include "log/escape.h"
#include "log/stream.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    MOST = 8 << 10,
    CAP = 2 << 20
};

static void must(int good) {
    if (!good)
        abort();
}

// Reads what a sink has written, and empties it for the next run.
static size_t take(int fd, char *text) {
    off_t n = lseek(fd, 0, SEEK_CUR);
    must(n >= 0 && n < CAP && pread(fd, text, (size_t)n, 0) == n);
    must(ftruncate(fd, 0) == 0 && lseek(fd, 0, SEEK_SET) == 0);
    return (size_t)n;
}

// Each line is an object, or a text of ours, of valid characters without control ones.
static void check_lines(const char *text, size_t len, const char *begin, const char *end) {
    for (const char *p = text, *stop = text + len; p < stop;) {
        const char *newline = memchr(p, '\n', (size_t)(stop - p));
        must(newline != NULL);
        size_t n = (size_t)(newline - p);
        must(n > strlen(begin) + strlen(end) && memcmp(p, begin, strlen(begin)) == 0);
        must(memcmp(newline - strlen(end), end, strlen(end)) == 0);
        for (size_t i = 0, step; i < n; i += step) {
            step = escape_utf8(p + i, n - i);
            must(step > 0 && (unsigned char)p[i] >= 0x20);
        }
        p = newline + 1;
    }
}

static void feed(struct stream *s, struct outlet *o, int fd, const uint8_t *data, size_t size) {
    size_t piece = size ? data[0] + 1u : 1;
    for (size_t at = 0; at < size;) {
        size_t n = size - at < piece ? size - at : piece;
        must(write(fd, data + at, n) == (ssize_t)n);
        must(stream_read(s, o) == 1);
        at += n;
        piece = piece * 3 % 1021 + 1;
        if (piece % 7 == 0) // as after a pause
            stream_release(s, o);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static char text[CAP];
    static int out = -1, records;
    if (out < 0) {
        out = memfd_create("out", MFD_CLOEXEC);
        records = memfd_create("records", MFD_CLOEXEC);
    }
    int fds[2];
    if (size > MOST || size < 2 || pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
        return 0;
    struct sink sinks[2];
    enum format format = data[1] % FORMATS;
    size_t max = 16 + data[0];
    struct outlet o = {
        &sinks[0], &sinks[1], max, malloc(max + OUTLET_READ), {1, "2026-03-01T12:00:00.000Z"}};
    struct stream s = {.service = strdup("a"), .kind = "stderr", .fd = fds[0], .format = format};
    must(o.input && sink_open(&sinks[0], out, "out", 4096) == 0);
    must(sink_open(&sinks[1], records, "records", 4096) == 0 && stream_pid(&s, 1) == 0);
    feed(&s, &o, fds[1], data, size);
    close(fds[1]);
    must(stream_read(&s, &o) == -1);
    sink_flush(&sinks[0]);
    sink_flush(&sinks[1]);
    must(sinks[0].lost == 0 && sinks[1].lost == 0);
    size_t n = take(records, text);
    check_lines(text, n, "{\"time\":\"2026", "}");
    n = take(out, text);
    must(n > 0 && text[n - 1] == '\n');
    if (format == FORMAT_JSON)
        check_lines(text, n, "{\"time\":\"2026", "}");
    if (format == FORMAT_LOGFMT)
        check_lines(text, n, "time=2026", "");
    sink_close(&sinks[0]);
    sink_close(&sinks[1]);
    stream_free(&s);
    free(o.input);
    return 0;
}
