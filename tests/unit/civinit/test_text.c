#include "base/text.h"

#include <criterion/criterion.h>
#include <stdlib.h>

Test(text, durations) {
    static const struct {
        const char *text;
        int64_t ms;
    } rows[] = {{"250ms", 250},
                {"10s", 10000},
                {"5m", 300000},
                {"2h", 7200000},
                {"1d", 86400000},
                {"0", 0},
                {"1h30m", 5400000},
                {"", -1},
                {"5", -1},
                {"5x", -1},
                {"-5s", -1},
                {"5 s", -1},
                {"s", -1},
                {"99999999999999999999s", -1},
                {"9223372036854775807d", -1}};
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t ms = -1;
        struct err e = {0};
        int rc = text_duration(rows[i].text, &ms, &e);
        cr_expect(ms == rows[i].ms, "%s: %lld", rows[i].text, (long long)ms);
        cr_expect((rc < 0) == (rows[i].ms < 0) && (rc < 0) == (e.code != 0), "%s", rows[i].text);
    }
}

Test(text, sizes) {
    static const struct {
        const char *text;
        int64_t bytes;
    } rows[] = {{"512", 512},     {"64KiB", 65536},   {"512MiB", 536870912}, {"2GiB", 2147483648},
                {"1MB", 1000000}, {"5 MiB", 5242880}, {"1Gi", 1073741824},   {"", -1},
                {"MiB", -1},      {"-1", -1},         {"1XB", -1},           {"9999999999TiB", -1}};
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t n = -1;
        text_size(rows[i].text, &n, NULL);
        cr_expect(n == rows[i].bytes, "%s: %lld", rows[i].text, (long long)n);
    }
}

Test(text, words) {
    char **w;
    struct err e = {0};
    cr_assert(text_words("a 'b c' \"d \\\" e\" f\\ g '' x'y'z", &w, &e) == 0);
    const char *want[] = {"a", "b c", "d \" e", "f g", "", "xyz"};
    for (int i = 0; i < 6; i++)
        cr_expect_str_eq(w[i], want[i]);
    cr_expect_null(w[6]);
    free(w);
    cr_expect(text_words("a 'b", &w, &e) < 0);
    cr_assert(text_words("  ", &w, &e) == 0);
    cr_expect_null(w[0]);
    free(w);
}

Test(text, nearest_word) {
    const char *list[] = {"command", "ready", "restart", NULL};
    cr_expect_str_eq(text_nearest("comand", list), "command");
    cr_expect_str_eq(text_nearest("redy", list), "ready");
    cr_expect_null(text_nearest("zebra", list));
}

Test(text, json_string) {
    autobuf struct buf b = {0};
    buf_json(&b, "a\"b\\c\n\t\x01\xff\xc3\xa9\xed\xa0\x80");
    cr_expect_str_eq(
        b.data,
        "\"a\\\"b\\\\c\\n\\u0009\\u0001\xef\xbf\xbd\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
}
