#include "cron/jsonline.h"

#include <criterion/criterion.h>
#include <string.h>

Test(jsonline, members) {
    static const struct {
        const char *line, *key, *want; // NULL: no such member
    } rows[] = {
        {"{\"job\":\"Send\",\"id\":3}", "job", "Send"},
        {"{\"job\":\"Send\",\"id\":3}", "id", "3"},
        {" { \"a\" : { \"b\" : [1,\"}\"] } , \"b\" : true }", "b", "true"},
        {"{\"x\":\"\\\"job\\\":1\",\"job\":\"y\"}", "job", "y"},
        {"{\"t\":\"a\\nb\\t\\\\\\/\\u00e9\\u20ac\"}", "t", "a\nb\t\\/\xc3\xa9\xe2\x82\xac"},
        {"{\"t\":\"\\ud83d\"}", "t", "\xef\xbf\xbd"},
        {"{\"t\":\"\"}", "t", ""},
        {"{\"t\":null}", "t", "null"},
        {"{}", "t", NULL},
        {"", "t", NULL},
        {"nothing", "t", NULL},
        {"{\"a\"", "a", NULL},
        {"{\"a\":1,", "b", NULL},
        {"{\"t\":\"cut", "t", "cut"},
        {"{\"t\":\"x\\", "t", "x"},
        {"{\"t\":\"x\\u12", "t", "xu12"},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        char got[32] = "";
        bool found = jsonline_text(rows[i].line, rows[i].key, got, sizeof got);
        cr_expect(found == (rows[i].want != NULL), "%s", rows[i].line);
        if (found && rows[i].want)
            cr_expect_str_eq(got, rows[i].want, "%s: %s", rows[i].line, got);
    }
    char small[4];
    cr_expect(jsonline_text("{\"t\":\"abcdef\"}", "t", small, sizeof small));
    cr_expect_str_eq(small, "abc");
    cr_expect(jsonline_int("{\"n\":-12}", "n", 0) == -12);
    cr_expect(jsonline_int("{\"n\":\"x\"}", "n", 7) == 7);
    cr_expect(jsonline_int("{}", "n", 7) == 7);
}

// Whatever is cut off, nothing beyond the text is read (the sanitizers would see it).
Test(jsonline, every_prefix_of_a_line) {
    static const char line[] =
        "{\"job\":\"Send \\u00e9\\\"\",\"a\":{\"b\":[1,{\"c\":\"}\"}]},\"seconds\":12}";
    for (size_t n = 0; n <= sizeof line - 1; n++) {
        char *copy = strndup(line, n), got[64];
        jsonline_text(copy, "seconds", got, sizeof got);
        jsonline_text(copy, "job", got, sizeof got);
        free(copy);
    }
}
