#include "backup/sql.h"
#include "backup/sqledit.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

struct got {
    struct buf all; // statements, each followed by a line "|"
    int64_t line[32], offset[32], rows[32];
    enum sql_kind kind[32];
    char name[32][256];
    int n;
};

static int take(void *arg, const struct sql_statement *s, struct err *e) {
    struct got *g = arg;
    if (g->n < 32) {
        g->line[g->n] = s->line;
        g->offset[g->n] = s->offset;
        g->rows[g->n] = s->rows;
        g->kind[g->n] = s->kind;
        memcpy(g->name[g->n], s->name, sizeof s->name);
    }
    g->n++;
    buf_add(&g->all, s->text, s->len);
    buf_str(&g->all, "|");
    return 0;
}

static int split(const char *text, size_t piece, struct got *g, struct err *e) {
    struct sql *s = sql_new(1 << 20, take, g);
    int rc = 0;
    size_t len = strlen(text);
    for (size_t at = 0; rc == 0 && at < len; at += piece)
        rc = sql_feed(s, text + at, len - at < piece ? len - at : piece, e);
    if (rc == 0)
        rc = sql_end(s, e);
    sql_free(s);
    return rc;
}

static const char dump[] =
    "/*!999999\\- enable the sandbox mode */ \n"
    "-- MariaDB dump; with a ; and a 'quote\n"
    "/*!40101 SET NAMES utf8mb4 */;\n"
    "CREATE DATABASE /*!32312 IF NOT EXISTS*/ `civicrm` /*!40100 DEFAULT CHARACTER SET utf8mb4 "
    "*/;\n"
    "\n"
    "USE `civicrm`;\n"
    "# another comment;\n"
    "INSERT INTO `t` VALUES (1,'a;b\\'); -- c'),(2,\"x\"\";\",'it''s (;'),\n(3,_binary 0x00,(4));\n"
    "INSERT INTO `u` (`a;`,`b`) VALUES (1,2),(3,'\\\\');\n"
    "/* plain ; comment */\n"
    "DELIMITER ;;\n"
    "/*!50003 CREATE*/ /*!50017 DEFINER=`root`@`localhost`*/ /*!50003 TRIGGER tr AFTER INSERT ON "
    "t\n"
    "FOR EACH ROW BEGIN -- it's a comment ;;\n"
    "  SET @a = 1; /* ;; */ INSERT INTO l VALUES (';;');\n"
    "END */;;\n"
    "DELIMITER ;\n"
    "SET SQL_MODE='a';;\n"
    "-- Dump completed";

Test(sql, statements_of_a_dump_whatever_the_pieces) {
    static const char want[] =
        "/*!40101 SET NAMES utf8mb4 */|"
        "CREATE DATABASE /*!32312 IF NOT EXISTS*/ `civicrm` /*!40100 DEFAULT CHARACTER SET utf8mb4 "
        "*/|USE `civicrm`|"
        "INSERT INTO `t` VALUES (1,'a;b\\'); -- c'),(2,\"x\"\";\",'it''s (;'),\n(3,_binary "
        "0x00,(4))|"
        "INSERT INTO `u` (`a;`,`b`) VALUES (1,2),(3,'\\\\')|"
        "/*!50003 CREATE*/ /*!50017 DEFINER=`root`@`localhost`*/ /*!50003 TRIGGER tr AFTER INSERT "
        "ON t\nFOR EACH ROW BEGIN -- it's a comment ;;\n"
        "  SET @a = 1; /* ;; */ INSERT INTO l VALUES (';;');\nEND */|"
        "SET SQL_MODE='a'|";
    static const int64_t lines[] = {3, 4, 6, 8, 10, 13, 18};
    for (size_t piece = 1; piece < sizeof dump + 1; piece += piece < 40 ? 1 : 97) {
        struct got g = {0};
        struct err e = {0};
        cr_assert(split(dump, piece, &g, &e) == 0, "%zu: %s", piece, e.text);
        cr_assert_str_eq(g.all.data, want, "pieces of %zu: %s", piece, g.all.data);
        for (int i = 0; i < 7; i++) {
            cr_expect(g.line[i] == lines[i], "%d: line %lld", i, (long long)g.line[i]);
            cr_expect(
                strncmp(dump + g.offset[i], i == 3 ? "INSERT INTO `t`" : "", i == 3 ? 15 : 0) == 0);
        }
        cr_expect(g.kind[0] == SQL_SET && g.kind[1] == SQL_DATABASE && g.kind[2] == SQL_USE &&
                  g.kind[3] == SQL_DATA && g.kind[5] == SQL_OTHER && g.kind[6] == SQL_SET);
        cr_expect_str_eq(g.name[1], "civicrm");
        cr_expect_str_eq(g.name[2], "civicrm");
        cr_expect_str_eq(g.name[3], "t");
        cr_expect(g.rows[3] == 3 && g.rows[4] == 2, "%lld %lld", (long long)g.rows[3],
                  (long long)g.rows[4]);
        buf_free(&g.all);
    }
}

Test(sql, an_unfinished_dump_and_a_too_long_statement) {
    static const char *const bad[] = {"INSERT INTO t VALUES (1", "SELECT 'a;",
                                      "SELECT 1; SELECT /* x", "DELIMITER \nSELECT 1"};
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
        for (size_t piece = 1; piece < 12; piece++) {
            struct got g = {0};
            struct err e = {0};
            cr_expect(split(bad[i], piece, &g, &e) < 0, "%s", bad[i]);
            cr_expect(e.code == EX_DATAERR && strstr(e.text, "line 1"), "%s", e.text);
            buf_free(&g.all);
        }
    struct got g = {0};
    struct err e = {0};
    struct sql *s = sql_new(100, take, &g);
    char x[60];
    memset(x, 'x', sizeof x);
    cr_expect(sql_feed(s, x, sizeof x, &e) == 0);
    cr_expect(sql_feed(s, x, sizeof x, &e) < 0 && e.code == EX_DATAERR);
    sql_free(s);
}

static const char *edit(const struct sqledit *ed, const char *text, struct buf *out) {
    struct sql_statement s = {.text = text, .len = strlen(text)};
    sql_classify(&s);
    return sqledit_apply(ed, &s, out) ? out->data : "(same)";
}

Test(sql, names_with_backticks) {
    struct sql_statement s = {.text = "INSERT INTO `odd``na;me` VALUES (1)"};
    s.len = strlen(s.text);
    sql_classify(&s);
    cr_expect(s.kind == SQL_DATA);
    cr_expect_str_eq(s.name, "odd`na;me");
    struct got g = {0};
    cr_expect(split("INSERT INTO `odd``na;me` VALUES (1),(2);\n", 5, &g, NULL) == 0);
    cr_expect(g.n == 1 && g.rows[0] == 2);
    buf_free(&g.all);
}

Test(sql, definers_go_or_change) {
    static const struct {
        const char *in, *dropped, *changed;
    } rows[] = {
        {"/*!50003 CREATE*/ /*!50017 DEFINER=`root`@`localhost`*/ /*!50003 TRIGGER `t`",
         "/*!50003 CREATE*/  /*!50003 TRIGGER `t`",
         "/*!50003 CREATE*/ /*!50017 DEFINER=`a`@`%`*/ /*!50003 TRIGGER `t`"},
        {"/*!50106 CREATE*/ /*!50117 DEFINER=`u`@`h`*/ /*!50106 EVENT `e`",
         "/*!50106 CREATE*/  /*!50106 EVENT `e`",
         "/*!50106 CREATE*/ /*!50117 DEFINER=`a`@`%`*/ /*!50106 EVENT `e`"},
        {"CREATE DEFINER=`u`@`h` FUNCTION `f`() RETURNS int RETURN 'DEFINER=`u`@`h`'",
         "CREATE  FUNCTION `f`() RETURNS int RETURN 'DEFINER=`u`@`h`'",
         "CREATE DEFINER=`a`@`%` FUNCTION `f`() RETURNS int RETURN 'DEFINER=`u`@`h`'"},
        {"/*!50001 CREATE ALGORITHM=UNDEFINED */\n/*!50013 DEFINER=`u`@`%` SQL SECURITY DEFINER "
         "*/\n"
         "/*!50001 VIEW `v` AS select 1 */",
         "/*!50001 CREATE ALGORITHM=UNDEFINED */\n/*!50013  SQL SECURITY DEFINER */\n"
         "/*!50001 VIEW `v` AS select 1 */",
         "/*!50001 CREATE ALGORITHM=UNDEFINED */\n/*!50013 DEFINER=`a`@`%` SQL SECURITY DEFINER "
         "*/\n"
         "/*!50001 VIEW `v` AS select 1 */"},
        {"create definer = 'u'@'h' view v as select 1", "create  view v as select 1",
         "create DEFINER=`a`@`%` view v as select 1"},
        {"CREATE DEFINER=CURRENT_USER() VIEW v AS SELECT 1", "CREATE  VIEW v AS SELECT 1",
         "CREATE DEFINER=`a`@`%` VIEW v AS SELECT 1"},
        {"CREATE DEFINER=root@10.0.0.1 VIEW v AS SELECT 1", "CREATE  VIEW v AS SELECT 1",
         "CREATE DEFINER=`a`@`%` VIEW v AS SELECT 1"},
        {"INSERT INTO `t` VALUES ('x DEFINER=`u`@`h`')", "(same)", "(same)"},
        {"CREATE TABLE `t` (`a` int COMMENT 'DEFINER=`u`@`h`')", "(same)", "(same)"},
        {"CREATE VIEW v AS SELECT definer FROM t", "(same)", "(same)"},
    };
    char account[64];
    cr_assert(sqledit_definer("a@%", account, sizeof account));
    cr_expect(!sqledit_definer("a", account + 32, 32) &&
              !sqledit_definer("a`@b", account + 32, 32));
    struct sqledit drop = {.drop_definer = true}, change = {.definer = account};
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        autobuf struct buf out = {0};
        cr_expect_str_eq(edit(&drop, rows[i].in, &out), rows[i].dropped);
        cr_expect_str_eq(edit(&change, rows[i].in, &out), rows[i].changed);
    }
}

Test(sql, databases_get_other_names) {
    static const struct sqledit_name map[] = {
        {"civicrm", "new"}, {"civilog", "newlog"}, {NULL, NULL}};
    static const struct {
        const char *in, *want;
    } rows[] = {
        {"CREATE DATABASE /*!32312 IF NOT EXISTS*/ `civicrm` /*!40100 DEFAULT CHARACTER SET "
         "utf8mb4 */",
         "CREATE DATABASE /*!32312 IF NOT EXISTS*/ `new` /*!40100 DEFAULT CHARACTER SET utf8mb4 "
         "*/"},
        {"USE `civicrm`", "USE `new`"},
        {"USE civicrm", "USE `new`"},
        {"USE `drupal`", "(same)"},
        {"/*!50003 CREATE TRIGGER t AFTER INSERT ON c FOR EACH ROW INSERT INTO `civilog`.`log` "
         "VALUES "
         "('civilog.x') */",
         "/*!50003 CREATE TRIGGER t AFTER INSERT ON c FOR EACH ROW INSERT INTO `newlog`.`log` "
         "VALUES "
         "('civilog.x') */"},
        {"CREATE VIEW v AS SELECT a.civicrm.b, civilog.t.x FROM civilog.t",
         "CREATE VIEW v AS SELECT a.civicrm.b, `newlog`.t.x FROM `newlog`.t"},
        {"DROP TABLE IF EXISTS `civicrm`", "(same)"},
        {"INSERT INTO `t` VALUES ('civicrm.x')", "(same)"},
    };
    struct sqledit ed = {.map = map};
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        autobuf struct buf out = {0};
        cr_expect_str_eq(edit(&ed, rows[i].in, &out), rows[i].want);
    }
}
