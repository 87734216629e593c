#include "common/version.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static int sign(int n) {
    return (n > 0) - (n < 0);
}

Test(version, order) {
    // Each is older than the next.
    static const char *const order[] = {
        "",       "4.7.31", "5.9.0",   "5.33",   "5.33.alpha1", "5.33.beta1", "5.33.beta2",
        "5.33.0", "5.33.2", "5.33.10", "5.34.0", "6.0.0",       "6.17.2",     "10.0.0"};
    enum {
        N = sizeof order / sizeof *order
    };
    for (int i = 0; i < N; i++)
        for (int k = 0; k < N; k++)
            cr_expect(sign(version_compare(order[i], order[k])) == sign(i - k), "%s and %s",
                      order[i], order[k]);
}

Test(version, odd_texts) {
    cr_expect(version_compare("5.", "5.") == 0);
    cr_expect(version_compare(".", "-") == 0);
    cr_expect(version_compare("~", "?") == 0);
}

Test(version, xml) {
    char *v = version_of_xml(
        "<?xml version=\"1.0\"?>\n<version>\n <version_no>5.33.2</version_no>\n</version>");
    cr_assert_str_eq(v, "5.33.2");
    free(v);
    v = version_of_xml("<version_no>\n 6.1.beta1\n</version_no>");
    cr_assert_str_eq(v, "6.1.beta1");
    free(v);
    cr_expect_null(version_of_xml("<version></version>"));
    cr_expect_null(version_of_xml("<version_no></version_no>"));
}
