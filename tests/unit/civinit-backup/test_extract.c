#include "backup/extract.h"

#include <criterion/criterion.h>
#include <string.h>

Test(extract, paths_of_the_archive) {
    static const struct {
        const char *path, *root, *rest; // root NULL: refused
    } rows[] = {
        {"files/sites/a/b", "sites", "a/b"},
        {"files/sites", "sites", ""},
        {"files/sites/", "sites", ""},
        {"files/sites/a/", "sites", "a/"},
        {"files/sites/..a/b..", "sites", "..a/b.."},
        {"files/sites/\xff\n", "sites", "\xff\n"},
        {"files/", NULL, NULL},
        {"files", NULL, NULL},
        {"/files/sites/a", NULL, NULL},
        {"files//sites", NULL, NULL},
        {"files/sites//a", NULL, NULL},
        {"files/sites/../x", NULL, NULL},
        {"files/../x", NULL, NULL},
        {"files/sites/..", NULL, NULL},
        {"files/sites/./a", NULL, NULL},
        {"files/./a", NULL, NULL},
        {"database.sql", NULL, NULL},
        {"", NULL, NULL},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        char root[256] = "";
        const char *rest = NULL;
        int rc = extract_split(rows[i].path, root, &rest);
        cr_expect((rc == 0) == (rows[i].root != NULL), "%s", rows[i].path);
        if (rc == 0 && rows[i].root) {
            cr_expect_str_eq(root, rows[i].root);
            cr_expect_str_eq(rest, rows[i].rest);
        }
    }
    char longest[600] = "files/", root[256];
    const char *rest;
    memset(longest + 6, 'x', 300);
    cr_expect(extract_split(longest, root, &rest) < 0);
}

Test(extract, symlinks_that_stay) {
    static const struct {
        const char *at, *target;
        bool stays;
    } rows[] = {
        {"a", "b", true},          {"a", "b/c", true},          {"a", "./b", true},
        {"d/a", "../b", true},     {"d/e/a", "../../b", true},  {"a", ".", true},
        {"d/a", "..", true},       {"a", "..", false},          {"a", "../x", false},
        {"d/a", "../../x", false}, {"a", "/etc/passwd", false}, {"a", "", false},
        {"d/a", "b/../c", false},  {"a", "b/..", false},        {"d/a", "./../b", true},
        {"a", "..x", true},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++)
        cr_expect(extract_link_stays(rows[i].at, rows[i].target) == rows[i].stays, "%s -> %s",
                  rows[i].at, rows[i].target);
}
