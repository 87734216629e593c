// JSON lines as MessagePack entries, and times.
#include "forward/msgpack.h"
#include "forward/record.h"

#include <criterion/criterion.h>
#include <string.h>
#include <time.h>

// The entry's map as text: key=value of each pair, values by type.
static void show(struct mp_reader *r, struct buf *out) {
    struct mp_item map, key, value;
    cr_assert(mp_next(r, &map) == 0 && map.type == MP_MAP);
    for (uint32_t i = 0; i < map.n; i++) {
        cr_assert(mp_next(r, &key) == 0 && key.type == MP_TEXT);
        cr_assert(mp_next(r, &value) == 0);
        buf_printf(out, "%.*s=", (int)key.n, key.text);
        if (value.type == MP_TEXT)
            buf_printf(out, "\"%.*s\"", (int)value.n, value.text);
        else if (value.type == MP_BOOL)
            buf_str(out, value.yes ? "yes" : "no");
        else
            buf_str(out, value.type == MP_NIL ? "nil" : value.type == MP_INT ? "int" : "other");
        buf_str(out, ";");
    }
    cr_assert(r->p == r->end);
}

#define LONG "0123456789012345678901234567890123456789"

Test(record, table) {
    static const struct {
        const char *line, *want;
    } rows[] = {
        {"{}", "x=\"y\";"},
        {"{\"a\":\"b\"}", "a=\"b\";x=\"y\";"},
        {" { \"a\" : \"b\" , \"c\" : 1 } ", "a=\"b\";c=int;x=\"y\";"},
        {"{\"a\":true,\"b\":false,\"c\":null,\"d\":-1,\"e\":1.5e3}",
         "a=yes;b=no;c=nil;d=int;e=other;x=\"y\";"},
        {"{\"a\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"}", "a=\"\"\\/\b\f\n\r\t\";x=\"y\";"},
        {"{\"a\":\"\\u0041\\u00e9\\u20ac\\ud83d\\ude00\"}",
         "a=\"A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\";x=\"y\";"},
        {"{\"a\":\"\\ud83d\\ude0\"}", "message=\"{\"a\":\"\\ud83d\\ude0\"}\";x=\"y\";"},
        {"{\"a\":\"\\ud83dx\\udc00\"}", "a=\"\xef\xbf\xbdx\xef\xbf\xbd\";x=\"y\";"},
        {"{\"a\":\"" LONG LONG "\\n\"}", "a=\"" LONG LONG "\n\";x=\"y\";"},
        {"{\"time\":\"2026-03-01T12:00:00.123Z\",\"a\":1}", "a=int;x=\"y\";"},
        {"{\"time\":\"yesterday\"}", "time=\"yesterday\";x=\"y\";"},
        {"plain", "message=\"plain\";x=\"y\";"},
        {"{", "message=\"{\";x=\"y\";"},
        {"{\"a\"}", "message=\"{\"a\"}\";x=\"y\";"},
        {"{\"a\":\"b}", "message=\"{\"a\":\"b}\";x=\"y\";"},
        {"{\"a\":\"b\\", "message=\"{\"a\":\"b\\\";x=\"y\";"},
        {"{\"a\":\"\\x\"}", "message=\"{\"a\":\"\\x\"}\";x=\"y\";"},
        {"{\"a\":[1]}", "message=\"{\"a\":[1]}\";x=\"y\";"},
        {"{\"a\":1} more", "message=\"{\"a\":1} more\";x=\"y\";"},
        {"{\"a\":1,}", "message=\"{\"a\":1,}\";x=\"y\";"},
        {"{\"a\":--}", "message=\"{\"a\":--}\";x=\"y\";"},
        {"caf\xc3\xa9", "message=\"caf??\";x=\"y\";"},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buf entry = {0}, extra = {0}, got = {0};
        size_t len = strlen(rows[i].line);
        char *exact = malloc(len); // the sanitizers watch its end
        memcpy(exact, rows[i].line, len);
        mp_text(&extra, "x", 1);
        mp_text(&extra, "y", 1);
        record_pack(&entry, exact, len, &extra, 1, 5123);
        cr_assert(!entry.failed && entry.len > 14);
        cr_expect(memcmp(entry.data, "\x92\xd7\x00", 3) == 0);
        bool timed = strstr(rows[i].line, "2026") != NULL;
        cr_expect(memcmp(entry.data + 3,
                         timed ? "\x69\xa4\x2a\x40\x07\x54\xd4\xc0" : "\0\0\0\x05\x07\x54\xd4\xc0",
                         8) == 0,
                  "%s", rows[i].line);
        struct mp_reader r = {entry.data + 11, entry.data + entry.len};
        show(&r, &got);
        cr_expect_str_eq(got.data, rows[i].want, "%s: %s", rows[i].line, got.data);
        buf_free(&entry);
        buf_free(&extra);
        buf_free(&got);
        free(exact);
    }
}

// Every day of 200 years against the C library.
Test(record, times) {
    for (int64_t day = 0; day < 73000; day++) {
        time_t t = day * 86400 + day % 86400;
        struct tm tm;
        char text[32];
        gmtime_r(&t, &tm);
        size_t n = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
        cr_assert(record_time(text, n) == (int64_t)t * 1000, "%s", text);
    }
    static const char *const bad[] = {"",
                                      "2026-03-01T12:00:00",
                                      "2026-03-01 12:00:00Z",
                                      "2026-13-01T12:00:00Z",
                                      "2026-03-32T12:00:00Z",
                                      "2026-03-01T24:00:00Z",
                                      "2026-03-01T12:60:00Z",
                                      "2026-03-01T12:00:00+01:00",
                                      "2x26-03-01T12:00:00Z"};
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_expect(record_time(bad[i], strlen(bad[i])) == -1, "%s", bad[i]);
    cr_expect(record_time("2026-03-01T12:00:00.123Z", 24) == 1772366400123);
}

// Each head is read back as what was written, at the borders of its forms.
Test(msgpack, round_trip) {
    static const uint32_t sizes[] = {0, 1, 15, 16, 31, 32, 255, 256, 65535, 65536, 70000};
    char *text = calloc(1, 70000);
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct buf b = {0};
        struct mp_item item;
        mp_text(&b, text, sizes[i]);
        struct mp_reader r = {b.data, b.data + b.len};
        cr_assert(mp_next(&r, &item) == 0 && r.p == r.end);
        cr_expect(item.type == MP_TEXT && item.n == sizes[i]);
        r = (struct mp_reader){b.data, b.data + b.len - 1}; // cut short
        cr_expect(mp_next(&r, &item) == -1);
        b.len = 0;
        mp_array(&b, sizes[i]);
        r = (struct mp_reader){b.data, b.data + b.len};
        cr_assert(mp_next(&r, &item) == 0 && item.type == MP_ARRAY && item.n == sizes[i]);
        b.len = 0;
        mp_map(&b, sizes[i]);
        r = (struct mp_reader){b.data, b.data + b.len};
        cr_assert(mp_next(&r, &item) == 0 && item.type == MP_MAP && item.n == sizes[i]);
        buf_free(&b);
    }
    free(text);
}

// What others may send: each form, alone and in a list, is passed over exactly.
Test(msgpack, forms) {
    static const struct {
        const char *bytes;
        size_t len;
        enum mp_type type;
    } rows[] = {
        {"\x7f", 1, MP_INT},
        {"\xe0", 1, MP_INT},
        {"\xcc\x01", 2, MP_INT},
        {"\xcd\x01\x01", 3, MP_INT},
        {"\xd2\x01\x01\x01\x01", 5, MP_INT},
        {"\xcf\1\1\1\1\1\1\1\1", 9, MP_INT},
        {"\xca\1\1\1\1", 5, MP_OTHER},
        {"\xcb\1\1\1\1\1\1\1\1", 9, MP_OTHER},
        {"\xc0", 1, MP_NIL},
        {"\xc2", 1, MP_BOOL},
        {"\xa2no", 3, MP_TEXT},
        {"\xd9\x02no", 4, MP_TEXT},
        {"\xc4\x02no", 4, MP_TEXT},
        {"\xc5\x00\x02no", 5, MP_TEXT},
        {"\xdb\x00\x00\x00\x02no", 7, MP_TEXT},
        {"\xd4\x01x", 3, MP_OTHER},
        {"\xd7\x00"
         "12345678",
         10, MP_OTHER},
        {"\xd8\x00"
         "1234567812345678",
         18, MP_OTHER},
        {"\xc7\x02\x01xy", 5, MP_OTHER},
        {"\x92\x01\xa1x", 4, MP_ARRAY},
        {"\xdc\x00\x01\xc0", 4, MP_ARRAY},
        {"\x81\xa1k\x91\xc3", 5, MP_MAP},
        {"\xde\x00\x01\x01\x02", 5, MP_MAP},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct mp_item item;
        struct mp_reader r = {rows[i].bytes, rows[i].bytes + rows[i].len};
        cr_assert(mp_next(&r, &item) == 0, "row %u", i);
        cr_expect(item.type == rows[i].type, "row %u: %d", i, item.type);
        r = (struct mp_reader){rows[i].bytes, rows[i].bytes + rows[i].len};
        cr_expect(mp_skip(&r) == 0 && r.p == r.end, "row %u", i);
        for (size_t n = 0; n < rows[i].len; n++) {
            r = (struct mp_reader){rows[i].bytes, rows[i].bytes + n};
            cr_expect(mp_skip(&r) == -1, "row %u cut to %zu", i, n);
        }
    }
    // A list that claims more than there is costs no time.
    struct mp_reader huge = {"\xdd\xff\xff\xff\xff\xc0", 0};
    huge.end = huge.p + 6;
    cr_expect(mp_skip(&huge) == -1);
}
