#include "base/cgroup.h"
#include "conf/expand.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char dir[64];

static void make_dir(void) {
    strcpy(dir, "/tmp/civinit-cgroup-XXXXXX");
    cr_assert(mkdtemp(dir));
    setenv("CIVINIT_CGROUP", dir, 1);
}

static void remove_dir(void) {
    char command[100];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    cr_expect(system(command) == 0);
}

static void put(const char *name, const char *text) {
    char path[200];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    cr_assert(f);
    fputs(text, f);
    fclose(f);
}

TestSuite(expand, .init = make_dir, .fini = remove_dir);

Test(expand, rows) {
    static const struct {
        const char *raw, *want; // NULL: an error
    } rows[] = {
        {"a${SET}b", "avalueb"},
        {"${NONE:-x}", "x"},
        {"${EMPTY:-x}", "x"},
        {"[${EMPTY}]", "[]"},
        {"${NONE}", NULL},
        {"${SET:+--once}", "--once"},
        {"${EMPTY:+--once}", ""},
        {"${NONE:+--once} y", " y"},
        {"${NONE:-${SET}}", "value"},
        {"${NONE:-a${NONE:-b${SET:+c}}d}", "abcd"},
        {"${SET:-${NONE}}", "value"},
        {"${NONE:-${NONE}}", NULL},
        {"$$ $1 $(x) $", "$ $1 $(x) $"},
        {"$${SET}", "${SET}"},
        {"${SET", NULL},
        {"${NONE:-${SET}", NULL},
        {"${SET x}", NULL},
        {"${}", NULL},
        {"${SET:=x}", NULL},
        {"${NONE:-{}}", "{}"},
        {"${fit:48MiB,100MiB,2,256}", "8"},
        {"${SET:-${fit:48MiB}}", "value"},
        {"${NONE:-${fit:48MiB,100MiB}}", "8"},
        {"${fit:48MiB}", "10"},
        {"${fit:${COST},,,5}", "5"},
        {"${fit:1GiB}", "1"},
        {"${fit:1GiB,0,3}", "3"},
        {"${fit:1MiB,600MiB,2}", "2"},
        {"${fit:0}", NULL},
        {"${fit:many}", NULL},
        {"${fit:1MiB,1MiB,5,4}", NULL},
        {"${fit:1MiB,1,1,1,1}", NULL},
    };
    put("memory.limit_in_bytes", "536870912\n");
    setenv("SET", "value", 1);
    setenv("EMPTY", "", 1);
    setenv("COST", "48MiB", 1);
    unsetenv("NONE");
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct arena a = {0};
        char *got = NULL;
        bool secret;
        struct err e = {0};
        int rc = expand(rows[i].raw, &a, &got, &secret, &e);
        cr_expect((rc == 0) == (rows[i].want != NULL), "%s: %s", rows[i].raw, e.text);
        if (rc == 0 && rows[i].want)
            cr_expect_str_eq(got, rows[i].want);
        arena_free(&a);
    }
}

Test(expand, cgroup_files) {
    struct cgroup g;
    cgroup_at(&g, dir);
    cr_expect(g.version == 0 && cgroup_oom_kills(&g) == -1);
    put("memory.limit_in_bytes", "9223372036854771712\n");
    put("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n");
    put("memory.usage_in_bytes", "4096\n");
    cgroup_find(&g);
    cr_expect(g.version == 1 && cgroup_memory_limit(&g) == -1 && cgroup_oom_kills(&g) == 3);
    cr_expect(cgroup_memory_used(&g) == 4096 && cgroup_memory_available(&g) > 1 << 20);
    put("memory.stat", "cache 0\nhierarchical_memory_limit 1048576\n");
    cr_expect(cgroup_memory_limit(&g) == 1048576);
    char sub[100];
    remove_dir();
    snprintf(sub, sizeof sub, "mkdir -p %s/pod", dir);
    cr_assert(system(sub) == 0);
    put("memory.max", "1000000\n");
    put("pod/memory.max", "max\n");
    put("pod/memory.events", "low 0\nmax 7\noom 2\noom_kill 1\n");
    snprintf(sub, sizeof sub, "%s/pod", dir);
    cgroup_at(&g, sub);
    cr_expect(g.version == 2 && cgroup_memory_limit(&g) == 1000000, "the pod's limit counts");
    cr_expect(cgroup_oom_kills(&g) == 1);
}
