#include "backup/remote.h"
#include "backup/wire.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

Test(remote, elements_of_s3_and_of_webdav) {
    static const char text[] =
        "<?xml version=\"1.0\"?><R xmlns='x'><Empty/><Contents><Key>a&amp;b/&lt;c&gt;</Key>"
        "<Size>12</Size></Contents><Contents><Key>second</Key></Contents></R>";
    const char *p = text, *end = text + strlen(text), *from, *to;
    cr_assert(remote_xml_next(&p, end, "Contents", &from, &to));
    char *key = remote_xml(from, to, "Key", NULL), *size = remote_xml(from, to, "Size", NULL);
    cr_expect_str_eq(key, "a&b/<c>");
    cr_expect_str_eq(size, "12");
    free(key);
    free(size);
    cr_assert(remote_xml_next(&p, end, "Contents", &from, &to));
    cr_expect_null(remote_xml(from, to, "Size", NULL));
    cr_expect(!remote_xml_next(&p, end, "Contents", &from, &to));

    static const char dav[] = "<D:multistatus xmlns:D=\"DAV:\"><D:response xmlns:lp1=\"DAV:\">"
                              "<D:href>/b/x%20y</D:href><lp1:getcontentlength>7</"
                              "lp1:getcontentlength></D:response></D:multistatus>";
    p = dav;
    end = dav + strlen(dav);
    cr_assert(remote_xml_next(&p, end, "response", &from, &to));
    key = remote_xml(from, to, "href", NULL);
    remote_decode(key);
    cr_expect_str_eq(key, "/b/x y");
    free(key);
    size = remote_xml(from, to, "getcontentlength", NULL);
    cr_expect_str_eq(size, "7");
    free(size);
    for (size_t n = 0; n < strlen(dav); n++) { // cut anywhere: never beyond the end
        char *cut = strndup(dav, n);
        p = cut;
        free(remote_xml(p, cut + n, "href", NULL));
        remote_xml_next(&p, cut + n, "response", &from, &to);
        free(cut);
    }
}

Test(remote, times) {
    cr_expect(remote_time("2026-03-01T12:00:00.000Z") == 1772366400000);
    cr_expect(remote_time("Sun, 01 Mar 2026 12:00:00 GMT") == 1772366400000);
    cr_expect(remote_time("yesterday") == 0);
}

Test(remote, names) {
    char part[32];
    cr_expect(remote_part("a.tar.gz", part, sizeof part, NULL) == 0);
    cr_expect_str_eq(part, ".a.tar.gz.part");
    cr_expect(remote_is_part(part) && !remote_is_part("a.tar.gz") && !remote_is_part(".part"));
    cr_expect(remote_part("a-name-that-is-much-too-long.tar.gz", part, sizeof part, NULL) < 0);

    autobuf struct buf b = {0};
    wire_encode(&b, "a b/c+d~e\xc3\xa9%", false);
    wire_encode(&b, "/&=", true);
    cr_expect_str_eq(b.data, "a%20b/c%2Bd~e%C3%A9%25%2F%26%3D");
}
