#include "probe/probe.h"

#include <criterion/criterion.h>
#include <string.h>

Test(net, split) {
    static const struct {
        const char *text, *host, *port;
    } rows[] = {{"a:1", "a", "1"},         {"127.0.0.1:3306", "127.0.0.1", "3306"},
                {"[::1]:80", "::1", "80"}, {"a", NULL, NULL},
                {"a:", NULL, NULL},        {":1", NULL, NULL},
                {"::1:80", NULL, NULL},    {"[::1:80", NULL, NULL},
                {"", NULL, NULL},          {"[::1]x:1", NULL, NULL}};
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[64], *host = NULL, *port = NULL;
        strcpy(text, rows[i].text);
        int rc = net_split(text, &host, &port);
        cr_expect_eq(rc, rows[i].host ? 0 : -1, "%s", rows[i].text);
        if (rows[i].host && rc == 0) {
            cr_expect_str_eq(host, rows[i].host);
            cr_expect_str_eq(port, rows[i].port);
        }
    }
}

Test(net, local_addresses) {
    static const struct {
        const char *host;
        bool local;
    } rows[] = {{"127.0.0.1", true}, {"127.9.9.9", true},  {"::1", true},
                {"10.0.0.1", false}, {"128.0.0.1", false}, {"fe80::1", false}};
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct net_address a = {.len = 0};
        cr_assert_eq(net_numeric(rows[i].host, "1", &a), 0, "%s", rows[i].host);
        cr_expect_eq(net_is_local(&a), rows[i].local, "%s", rows[i].host);
    }
    struct net_address a = {.len = 0};
    cr_expect_eq(net_numeric("localhost", "1", &a), -1);
    cr_expect_eq(net_unix("/run/x", &a, NULL), 0);
    cr_expect(net_is_local(&a));
}

// What is promised of the pauses: a server on this machine that comes up is seen within 50 ms
// whenever that is, another one within 50 ms in the first ten seconds; nobody is asked more than
// once a second in the long run but what costs nothing; refused accounts never quickly.
Test(wait, pauses) {
    static const enum obstacle all[] = {OBSTACLE_NAME, OBSTACLE_REFUSED, OBSTACLE_TIMEOUT,
                                        OBSTACLE_TLS,  OBSTACLE_DENIED,  OBSTACLE_NOT_READY,
                                        OBSTACLE_OTHER};
    for (int64_t ms = 0; ms < 300000; ms += 500) {
        cr_expect(probe_pause(OBSTACLE_REFUSED, ms, true) <= 50);
        if (ms < 10000) {
            cr_expect(probe_pause(OBSTACLE_REFUSED, ms, false) <= 50);
            cr_expect(probe_pause(OBSTACLE_NOT_READY, ms, true) <= 50);
        }
        cr_expect(probe_pause(OBSTACLE_DENIED, ms, true) >= 250);
        for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
            int64_t pause = probe_pause(all[i], ms, false);
            cr_expect(pause >= 5 && pause <= 1000);
            if (ms >= 60000)
                cr_expect_eq(pause, 1000, "obstacle %d", all[i]);
        }
    }
}

Test(wait, commands) {
    struct probe p = {.kind = PROBE_EXEC, .try = try_exec, .timeout_ms = 10000};
    static char yes_word[] = "true", no_word[] = "false";
    char *ok[] = {yes_word, NULL}, *no[] = {no_word, NULL};
    enum obstacle why;
    struct err e = {0};
    p.command = ok;
    cr_expect_eq(probe_ask(&p, &why, &e), 0);
    p.command = no;
    cr_expect_eq(probe_ask(&p, &why, &e), -1);
    cr_expect_eq(why, OBSTACLE_NOT_READY);
}
