#include "status/figures.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct row {
    const char *path, *text;
};

static void tree(char *root, const struct row *rows) {
    char path[512];
    cr_assert_not_null(mkdtemp(root));
    for (; rows->path; rows++) {
        snprintf(path, sizeof path, "%s/%s", root, rows->path);
        for (char *p = strchr(path + strlen(root) + 1, '/'); p; p = strchr(p + 1, '/')) {
            *p = 0;
            mkdir(path, 0755);
            *p = '/';
        }
        FILE *f = fopen(path, "w");
        cr_assert_not_null(f);
        fputs(rows->text, f);
        fclose(f);
    }
}

static void drop(const char *root) {
    char command[600];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    cr_expect_eq(system(command), 0);
}

Test(figures, version_2) {
    static const struct row rows[] = {
        {"cgroup.controllers", "cpu memory\n"},
        {"self", "0::/kubepods/pod1/c1\n"},
        {"kubepods/pod1/c1/memory.current", "104857600\n"},
        {"kubepods/pod1/c1/memory.max", "max\n"},
        {"kubepods/pod1/c1/memory.peak", "209715200\n"},
        {"kubepods/pod1/c1/memory.events", "low 0\nhigh 0\nmax 7\noom 3\noom_kill 2\n"},
        {"kubepods/pod1/c1/memory.stat", "anon 50000000\nfile 40000000\ninactive_file 4857600\n"},
        {"kubepods/pod1/c1/cpu.stat",
         "usage_usec 1500000\nuser_usec 1\nnr_periods 10\nnr_throttled 4\nthrottled_usec 77\n"},
        {"kubepods/pod1/c1/cpu.max", "150000 100000\n"},
        {"kubepods/pod1/c1/pids.current", "12\n"},
        {"kubepods/pod1/c1/pids.max", "100\n"},
        {"kubepods/pod1/c1/memory.pressure",
         "some avg10=0.00 avg60=0.00 avg300=0.00 total=1234\nfull avg10=0.00 avg60=0.00 "
         "avg300=0.00 total=99\n"},
        {NULL, NULL}};
    char root[] = "/tmp/cgroup-XXXXXX", self[64];
    struct figures c;
    tree(root, rows);
    snprintf(self, sizeof self, "%s/self", root);
    figures_read(root, self, &c);
    cr_expect_eq(c.version, 2);
    cr_expect_eq(c.memory_bytes, 104857600);
    cr_expect_eq(c.memory_limit_bytes, -1);
    cr_expect_eq(c.memory_peak_bytes, 209715200);
    cr_expect_eq(c.memory_anon_bytes, 50000000);
    cr_expect_eq(c.memory_working_bytes, 100000000);
    cr_expect_eq(c.oom_kills, 2);
    cr_expect_eq(c.limit_hits, 7);
    cr_expect_eq(c.cpu_us, 1500000);
    cr_expect_eq(c.cpu_limit_milli, 1500);
    cr_expect_eq(c.cpu_throttled_periods, 4);
    cr_expect_eq(c.cpu_throttled_us, 77);
    cr_expect_eq(c.pids, 12);
    cr_expect_eq(c.pids_limit, 100);
    cr_expect_eq(c.memory_pressure.some_us, 1234);
    cr_expect_eq(c.memory_pressure.full_us, 99);
    cr_expect_eq(c.io_pressure.some_us, -1);
    drop(root);
}

// In a container with a group namespace of its own the mount's root is the group.
Test(figures, version_2_at_the_root) {
    static const struct row rows[] = {{"cgroup.controllers", "cpu memory\n"},
                                      {"self", "0::/../../elsewhere\n"},
                                      {"memory.current", "4096\n"},
                                      {"memory.max", "8192\n"},
                                      {"memory.stat", "anon 1\ninactive_file 0\n"},
                                      {"cpu.max", "max 100000\n"},
                                      {NULL, NULL}};
    char root[] = "/tmp/cgroup-XXXXXX", self[64];
    struct figures c;
    tree(root, rows);
    snprintf(self, sizeof self, "%s/self", root);
    figures_read(root, self, &c);
    cr_expect_eq(c.memory_bytes, 4096);
    cr_expect_eq(c.memory_limit_bytes, 8192);
    cr_expect_eq(c.cpu_limit_milli, -1);
    drop(root);
}

Test(figures, version_1) {
    static const struct row rows[] = {
        {"self", "9:pids:/x\n5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/\n"},
        {"memory/docker/abc/memory.usage_in_bytes", "1000\n"},
        {"memory/docker/abc/memory.limit_in_bytes", "9223372036854771712\n"},
        {"memory/docker/abc/memory.max_usage_in_bytes", "3000\n"},
        {"memory/docker/abc/memory.failcnt", "4\n"},
        {"memory/docker/abc/memory.memsw.failcnt", "7\n"},
        {"memory/docker/abc/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n"},
        {"memory/docker/abc/memory.stat", "cache 1\ntotal_inactive_file 400\ntotal_rss 500\n"},
        {"cpuacct/cpuacct.usage", "123456789\n"},
        {"cpu/docker/abc/cpu.cfs_quota_us", "50000\n"},
        {"cpu/docker/abc/cpu.cfs_period_us", "100000\n"},
        {"cpu/docker/abc/cpu.stat", "nr_periods 3\nnr_throttled 1\nthrottled_time 5000\n"},
        {NULL, NULL}};
    char root[] = "/tmp/cgroup-XXXXXX", self[64];
    struct figures c;
    tree(root, rows);
    snprintf(self, sizeof self, "%s/self", root);
    figures_read(root, self, &c);
    cr_expect_eq(c.version, 1);
    cr_expect_eq(c.memory_bytes, 1000);
    cr_expect_eq(c.memory_limit_bytes, -1);
    cr_expect_eq(c.memory_peak_bytes, 3000);
    cr_expect_eq(c.memory_working_bytes, 600);
    cr_expect_eq(c.oom_kills, 5);
    cr_expect_eq(c.limit_hits, 11);
    cr_expect_eq(c.cpu_us, 123456); // found at the mount's root
    cr_expect_eq(c.cpu_limit_milli, 500);
    cr_expect_eq(c.cpu_throttled_us, 5);
    drop(root);
}

Test(figures, none) {
    struct figures c;
    figures_read("/nonexistent", "/nonexistent/self", &c);
    cr_expect_eq(c.version, 0);
    cr_expect_eq(c.memory_bytes, -1);
    cr_expect_eq(c.pids_limit, -1);
}
