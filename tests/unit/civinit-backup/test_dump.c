// What a dump holds, what an account may do, what a manifest says.
#include "backup/dumpscan.h"
#include "backup/grants.h"
#include "backup/manifest.h"
#include "backup/tree.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static const char dump[] =
    "-- MySQL dump\n"
    "\n"
    "--\n-- Current Database: `a``b`\n--\n"
    "CREATE TABLE `t` (\n  `id` int\n);\n"
    "INSERT INTO `t` VALUES (1,'x'),\n(2,'CREATE TABLE `');\n"
    "/*!50001 CREATE VIEW `v` AS SELECT\n 1 AS `id`*/;\n"
    "DELIMITER ;;\n"
    "/*!50003 CREATE*/ /*!50017 DEFINER=`r`@`%`*/ /*!50003 TRIGGER t1 BEFORE INSERT ON t FOR EACH "
    "ROW BEGIN\n"
    "/*!50003 CREATE*/ /*!50003 TRIGGER not one\n"
    "END */;;\n"
    "DELIMITER ;\n"
    "DELIMITER ;;\n"
    "/*!50003 SET sql_mode = '' */ ;;\n"
    "/*!50106 CREATE*/ /*!50117 DEFINER=`r`@`%`*/ /*!50106 EVENT `e` ON SCHEDULE EVERY 1 DAY DO "
    "SELECT 1 */ ;;\n"
    "DELIMITER ;\n"
    "DELIMITER ;;;\n"
    "CREATE DEFINER=`r`@`%` FUNCTION `f`() RETURNS int\nRETURN 1 ;;\n"
    "CREATE TABLE `not one` (\n"
    ";;;\n"
    "CREATE DEFINER=`r`@`%` PROCEDURE `p`()\nSELECT 1 ;;;\n"
    "DELIMITER ;\n"
    "-- Current Database: `c`\n"
    "CREATE TABLE `u` (\n);\n"
    "/*!50001 CREATE ALGORITHM=UNDEFINED */\n"
    "/*!50013 DEFINER=`r`@`%` SQL SECURITY DEFINER */\n"
    "/*!50001 VIEW `v` AS select 1 */;\n"
    "-- Dump completed on 2026-01-01  0:00:00\n";

static void expect_counts(const struct dumpscan *s, const char *name, struct object_counts want) {
    const struct object_counts *got = dumpscan_find(s, name);
    cr_assert_not_null(got, "%s", name);
    cr_expect(memcmp(got, &want, sizeof want) == 0, "%s: %d %d %d %d %d", name, (int)got->tables,
              (int)got->views, (int)got->triggers, (int)got->routines, (int)got->events);
}

// The same whatever the pieces are that it comes in.
Test(dumpscan, counts) {
    for (size_t piece = 1; piece < sizeof dump; piece += piece < 40 ? 1 : 97) {
        struct dumpscan s = {0};
        for (size_t i = 0; i < sizeof dump - 1; i += piece)
            dumpscan_add(&s, dump + i, sizeof dump - 1 - i < piece ? sizeof dump - 1 - i : piece);
        expect_counts(&s, "a`b", (struct object_counts){1, 0, 1, 2, 1});
        expect_counts(&s, "c", (struct object_counts){1, 1, 0, 0, 0});
        cr_expect(s.completed, "pieces of %zu", piece);
    }
}

Test(dumpscan, closing_line) {
    static const struct {
        const char *text;
        bool completed;
    } rows[] = {
        {"", false},
        {"-- Dump completed\n", true},
        {"-- Dump completed on 2026-01-01\n\n", true},
        {"-- Dump completed", false}, // cut within the line
        {"-- Dump completed\nINSERT INTO t VALUES (1);\n", false},
        {"INSERT INTO t VALUES ('-- Dump completed');\n", false},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct dumpscan s = {0};
        dumpscan_add(&s, rows[i].text, strlen(rows[i].text));
        cr_expect_eq(s.completed, rows[i].completed, "%s", rows[i].text);
    }
}

Test(grants, rows) {
    static const struct {
        const char *lines[4];
        unsigned have;
    } rows[] = {
        {{"GRANT USAGE ON *.* TO `d`@`%`"}, 0},
        {{"GRANT ALL PRIVILEGES ON *.* TO `r`@`%` WITH GRANT OPTION"}, GRANT_ALL},
        {{"GRANT ALL PRIVILEGES ON `civicrm`.* TO `d`@`%`"}, GRANT_ALL},
        {{"GRANT ALL PRIVILEGES ON `civilog`.* TO `d`@`%`"}, 0},
        {{"GRANT SELECT ON *.* TO `d`@`%`"}, GRANT_SELECT | GRANT_ROUTINES},
        {{"GRANT SELECT, SHOW VIEW ON `civi%`.* TO `d`@`%`"}, GRANT_SELECT | GRANT_SHOW_VIEW},
        {{"GRANT SELECT ON `civicr_`.* TO `d`@`%`"}, GRANT_SELECT},
        {{"GRANT SELECT ON `civicr\\_`.* TO `d`@`%`"}, 0},
        {{"GRANT SELECT ON `civicrm`.`civicrm_contact` TO `d`@`%`"}, 0},
        {{"GRANT SELECT (`id`, `name`), TRIGGER ON `civicrm`.* TO `d`@`%`"}, GRANT_TRIGGER},
        {{"GRANT SELECT ON `mysql`.`proc` TO `d`@`%`"}, GRANT_ROUTINES},
        {{"GRANT SHOW_ROUTINE ON *.* TO `d`@`%`",
          "GRANT SELECT, SHOW VIEW, EVENT, TRIGGER ON `civicrm`.* TO `d`@`%`"},
         GRANT_ALL},
        {{"GRANT `role`@`%` TO `d`@`%`", "GRANT PROXY ON ''@'%' TO 'root'@'localhost'"}, 0},
        {{"GRANT SELECT, TRIGGER ON *.* TO `d`@`%`", "REVOKE SELECT ON `civicrm`.* FROM `d`@`%`"},
         GRANT_TRIGGER | GRANT_ROUTINES},
        {{"GRANT EXECUTE, LOCK TABLES ON `civicrm`.* TO `d`@`%`"}, GRANT_ROUTINES},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t n = 0;
        while (n < 4 && rows[i].lines[n])
            n++;
        unsigned have = grants_for(rows[i].lines, n, "civicrm");
        cr_expect_eq(have, rows[i].have, "%s: %u, want %u", rows[i].lines[0], have, rows[i].have);
    }
}

Test(grants, missing_are_named) {
    autobuf struct buf b = {0};
    grants_missing(&b, GRANT_ALL, "a", false);
    cr_expect_eq(b.len, 0);
    grants_missing(&b, GRANT_SELECT | GRANT_SHOW_VIEW, "a", false);
    cr_expect_str_eq(b.data,
                     "TRIGGER on a, EVENT on a, SHOW_ROUTINE on *.* (for the routines of a)");
    grants_missing(&b, GRANT_ALL & ~(unsigned)GRANT_ROUTINES, "b", false); // said already
    cr_expect_null(strstr(b.data, "of b"));
}

struct seen {
    uint64_t prints[8];
    int n;
};

static int see(void *arg, const struct manifest_entry *x, json_t *object, struct err *e) {
    struct seen *s = arg;
    s->prints[s->n++] = manifest_print(x);
    return 0;
}

Test(manifest, comes_back) {
    static const struct manifest_entry entries[] = {
        {.path = "database.sql", .type = "file", .size = 1LL << 40, .sha256 = "00ff"},
        {.path = "files/x/\xff\xfe \"q\"\n", .type = "file", .size = 0, .sha256 = "aa"},
        {.path = "files/x/Zoé", .type = "dir"},
        {.path = "files/x/l", .type = "symlink", .link = "\xff]}\n"},
        {.path = "files/x/h", .type = "hardlink", .link = "files/x/Zoé"},
    };
    autobuf struct buf list = {0}, text = {0};
    struct seen seen = {0};
    struct err e = {0};
    json_t *head = json_pack("{s:s,s:[s]}", "format", "civinit-backup 1", "excludes", "\"]}\n["),
           *back;
    for (int i = 0; i < 5; i++)
        manifest_add(&list, &entries[i]);
    manifest_text(&text, head);
    buf_add(&text, list.data, list.len);
    buf_str(&text, MANIFEST_END);
    json_t *whole = json_loads(text.data, 0, NULL);
    cr_assert_not_null(whole, "not JSON: %s", text.data);
    cr_expect_eq(json_array_size(json_object_get(whole, "entries")), 5);
    cr_assert_eq(manifest_parse(text.data, text.len, &back, see, &seen, &e), 0, "%s", e.text);
    cr_expect(json_equal(head, back));
    cr_expect_eq(seen.n, 5);
    for (int i = 0; i < 5; i++)
        cr_expect_eq(seen.prints[i], manifest_print(&entries[i]), "entry %d", i);
    json_decref(whole);
    json_decref(head);
    json_decref(back);
}

Test(manifest, nonsense_is_refused) {
    static const char *const texts[] = {"",
                                        "{",
                                        "{}",
                                        "{\"entries\": [\n",
                                        "{\"entries\": [\n{]\n]}",
                                        "{\"entries\": [\n{\"path\": 1}\n]}",
                                        "x\"entries\": [\n]}"};
    for (unsigned i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct seen seen = {0};
        struct err e = {0};
        json_t *head = NULL;
        char *text = strdup(texts[i]);
        cr_expect_eq(manifest_parse(text, strlen(text), &head, see, &seen, &e), -1, "%s", texts[i]);
        cr_expect_eq(e.code, 65);
        free(text);
    }
}

Test(tree, excludes) {
    char caches[] = "*/templates_c/*", copies[] = "*.bak", folder[] = "sites/private";
    char *globs[] = {caches, copies, folder, NULL};
    static const struct {
        const char *path;
        bool out;
    } rows[] = {{"sites/files/templates_c", false},
                {"sites/files/templates_c/en/x.php", true},
                {"sites/a/b.bak", true},
                {"sites/a.bak/b", false},
                {"sites/private", true},
                {"sites/private2", false},
                {"x/sites/private", false},
                {"other", false}};
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++)
        cr_expect_eq(tree_excluded(globs, rows[i].path), rows[i].out, "%s", rows[i].path);
    cr_expect(!tree_excluded(NULL, "x"));
}
