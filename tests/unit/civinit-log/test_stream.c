// Bytes in, records out: formats, cutting, pieces of lines, what is joined, what is no UTF-8.
#include "log/escape.h"
#include "log/stream.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct bench {
    struct sink out, records;
    struct outlet outlet;
    struct stream stream;
    int in, result, result_records;
};

static int tempfile(void) {
    char path[] = "/tmp/test_stream.XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);
    cr_assert(fd >= 0);
    unlink(path);
    return fd;
}

static void set_up(struct bench *b, enum format format, size_t max) {
    *b = (struct bench){0};
    int fds[2];
    cr_assert(pipe2(fds, O_CLOEXEC | O_NONBLOCK) == 0);
    b->in = fds[1];
    b->result = tempfile();
    b->result_records = tempfile();
    cr_assert(sink_open(&b->out, b->result, "out", 4096 + 6 * max) == 0);
    cr_assert(sink_open(&b->records, b->result_records, "records", 4096 + 6 * max) == 0);
    b->outlet = (struct outlet){&b->out, NULL, max, malloc(max + OUTLET_READ), {0}};
    b->outlet.now = (struct stamp){1, "2026-03-01T12:00:00.123Z"};
    b->stream = (struct stream){.service = strdup("apache"), .kind = "stderr", .fd = fds[0]};
    b->stream.format = format;
    cr_assert(stream_pid(&b->stream, 17) == 0);
}

static char *content(int fd) {
    off_t n = lseek(fd, 0, SEEK_END);
    char *text = calloc(1, (size_t)n + 1);
    cr_assert(pread(fd, text, (size_t)n, 0) == n);
    return text;
}

static void give(struct bench *b, const char *text, size_t n) {
    cr_assert(write(b->in, text, n) == (ssize_t)n);
    cr_assert(stream_read(&b->stream, &b->outlet) == 1);
}

// Ends the input; what was written.
static char *finish(struct bench *b) {
    close(b->in);
    cr_assert(stream_read(&b->stream, &b->outlet) == -1);
    cr_assert(b->stream.fd == -1);
    sink_flush(&b->out);
    sink_flush(&b->records);
    char *text = content(b->result);
    sink_close(&b->out);
    sink_close(&b->records);
    stream_free(&b->stream);
    free(b->outlet.input);
    close(b->result);
    return text;
}

static void expect(enum format format, size_t max, const char *in, const char *want) {
    struct bench b;
    // In one piece, then byte by byte: the same records.
    for (int piece = 0; piece < 2; piece++) {
        set_up(&b, format, max);
        for (size_t i = 0, n = strlen(in); i < n; i += piece ? 1 : n)
            give(&b, in + i, piece ? 1 : n);
        char *got = finish(&b);
        cr_expect_str_eq(got, want, "piece %d: got\n%s\nwant\n%s", piece, got, want);
        free(got);
    }
}

#define TIME "2026-03-01T12:00:00.123Z"
#define TEXT TIME " apache stderr 17 "
#define JSON "{\"time\":\"" TIME "\",\"service\":\"apache\",\"stream\":\"stderr\",\"pid\":17"
#define FMT  "time=" TIME " service=apache stream=stderr pid=17"

Test(stream, formats) {
    expect(FORMAT_TEXT, 300, "hello\ncivinit: error: x\n\nend",
           TEXT "- hello\n" TEXT "error civinit: error: x\n" TEXT "- \n" TEXT "- end\n");
    expect(FORMAT_JSON, 300, "hello\ncivinit: error: x\n\nend",
           JSON ",\"message\":\"hello\"}\n" JSON
                ",\"level\":\"error\",\"message\":\"civinit: error: x\"}\n" JSON
                ",\"message\":\"\"}\n" JSON ",\"message\":\"end\"}\n");
    expect(FORMAT_LOGFMT, 300, "say \"x\"\ncivinit: error: \\",
           FMT " message=\"say \\\"x\\\"\"\n" FMT
               " level=error message=\"civinit: error: \\\\\"\n");
}

#define TRACE                                                                                      \
    "PHP Fatal error:  Uncaught E: no in /x:3\nStack trace:\n#0 {main}\n  thrown in /x on line "   \
    "3\n"

Test(stream, joining) {
    expect(FORMAT_TEXT, 300, TRACE "next\n",
           TEXT "error PHP Fatal error:  Uncaught E: no in /x:3\n" TEXT "| Stack trace:\n" TEXT
                "| #0 {main}\n" TEXT "|   thrown in /x on line 3\n" TEXT "- next\n");
    const char *joined =
        JSON ",\"level\":\"error\",\"message\":\"PHP Fatal error:  Uncaught E: no in "
             "/x:3\\nStack trace:\\n#0 {main}\\n  thrown in /x on line 3\"}\n" JSON
             ",\"message\":\"next\"}\n";
    expect(FORMAT_JSON, 300, TRACE "next\n", joined);
    // Empty lines after an entry of CiviCRM's log are no records.
    expect(FORMAT_JSON, 300, "Nov 28 12:00:00  [info] a\n\nNov 28 12:00:01  [info] b\n\n",
           JSON ",\"level\":\"info\",\"message\":\"Nov 28 12:00:00  [info] a\"}\n" JSON
                ",\"level\":\"info\",\"message\":\"Nov 28 12:00:01  [info] b\"}\n");
}

Test(stream, records_are_json_beside_text) {
    struct bench b;
    set_up(&b, FORMAT_TEXT, 300);
    b.outlet.records = &b.records;
    give(&b, "PHP Notice:  x on line 1\n#0 y\nz\n", 32);
    int fd = b.result_records;
    char *text = finish(&b), *records = content(fd);
    cr_expect_str_eq(text, TEXT "notice PHP Notice:  x on line 1\n" TEXT "| #0 y\n" TEXT "- z\n");
    cr_expect_str_eq(records, JSON
                     ",\"level\":\"notice\",\"message\":\"PHP Notice:  x on line 1\\n#0 y\"}\n" JSON
                     ",\"message\":\"z\"}\n");
    free(text);
    free(records);
}

Test(stream, cutting) {
    expect(FORMAT_TEXT, 10, "0123456789\n0123456789abc\nx\n",
           TEXT "- 0123456789\n" TEXT "- 0123456789 \xe2\x80\xa6[3 bytes cut]\n" TEXT "- x\n");
    expect(FORMAT_JSON, 10, "0123456789abc\n0123456789abcdef",
           JSON ",\"message\":\"0123456789 \xe2\x80\xa6[3 bytes cut]\",\"cut\":true}\n" JSON
                ",\"message\":\"0123456789 \xe2\x80\xa6[6 bytes cut]\",\"cut\":true}\n");
    // Not inside a character: the cut moves before it.
    expect(FORMAT_TEXT, 10, "012345678\xc3\xa9x\n", TEXT "- 012345678 \xe2\x80\xa6[3 bytes cut]\n");
    // A joined record is cut as a whole.
    expect(FORMAT_JSON, 30, "PHP Notice:  x on line 1\n#0 yyyy\n#1 zzzz\n",
           JSON ",\"level\":\"notice\",\"message\":\"PHP Notice:  x on line 1\\n#0 yy "
                "\xe2\x80\xa6[10 bytes "
                "cut]\",\"cut\":true}\n");
}

Test(stream, rubbish_becomes_valid) {
    struct {
        const char *in, *want;
    } rows[] = {
        {"a\x01\x1f\x7f", "a\\u0001\\u001f\x7f"},
        {"\t\r\"\\/", "\\t\\r\\\"\\\\/"},
        {"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"},
        {"\xff", "\xef\xbf\xbd"},
        {"\xc3", "\xef\xbf\xbd"},
        {"\xc0\x80", "\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"0123456789abcdef\"0123456789abcdef0123456789abcdef\n",
         "0123456789abcdef\\\"0123456789abcdef01234567"
         "89abcdef\\n"},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        char out[512];
        size_t n = strlen(rows[i].in);
        *escape_json(out, rows[i].in, n) = 0;
        cr_expect_str_eq(out, rows[i].want, "row %u: %s", i, out);
    }
}

Test(stream, a_new_pid_tags_new_lines) {
    struct bench b;
    set_up(&b, FORMAT_TEXT, 300);
    give(&b, "a\n", 2);
    cr_assert(stream_pid(&b.stream, 0) == 0);
    give(&b, "b\n", 2);
    cr_assert(stream_pid(&b.stream, 123456) == 0);
    give(&b, "c\n", 2);
    char *got = finish(&b);
    cr_expect_str_eq(got,
                     TEXT "- a\n" TIME " apache stderr - - b\n" TIME " apache stderr 123456 - c\n");
    free(got);
}

// A sink that is smaller than what comes still gets whole records, in order.
Test(stream, more_than_the_buffer) {
    struct bench b;
    set_up(&b, FORMAT_TEXT, 300);
    char line[64];
    struct buf want = {0};
    for (int i = 0; i < 2000; i++) {
        int n = snprintf(line, sizeof line, "line %d\n", i);
        give(&b, line, (size_t)n);
        buf_printf(&want, TEXT "- %s", line);
    }
    char *got = finish(&b);
    cr_expect_str_eq(got, want.data);
    free(got);
    buf_free(&want);
}
