#include "cli/usageof.h"

#include <ctype.h>
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct stat_line {
    long group;
    long long ticks, pages;
};

static int read_stat(const char *pid, struct stat_line *ret) {
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%.20s/stat", pid);
    FILE *f = fopen(path, "re");
    bool got = f && fgets(text, sizeof text, f);
    if (f)
        fclose(f);
    if (!got)
        return -1;
    // The name may hold blanks and brackets: fields are counted behind the last one.
    char *p = strrchr(text, ')'), *save;
    int field = 2;
    long long value[25] = {0};
    if (!p)
        return -1;
    for (char *word = strtok_r(p + 1, " ", &save); word && field < 24;
         word = strtok_r(NULL, " ", &save))
        value[++field] = strtoll(word, NULL, 10);
    ret->group = (long)value[5];
    ret->ticks = value[14] + value[15] + value[16] + value[17];
    ret->pages = value[24];
    return 0;
}

int usageof(int64_t pid, struct usageof *ret) {
    char name[24];
    struct stat_line own, other;
    snprintf(name, sizeof name, "%lld", (long long)pid);
    if (read_stat(name, &own) < 0)
        return -1;
    *ret = (struct usageof){.cpu_ms = own.ticks * 1000 / sysconf(_SC_CLK_TCK),
                            .rss_bytes = own.pages * sysconf(_SC_PAGESIZE)};
    DIR *d = opendir("/proc");
    for (struct dirent *x; d && (x = readdir(d));) {
        if (!isdigit((unsigned char)x->d_name[0]) || strcmp(x->d_name, name) == 0 ||
            read_stat(x->d_name, &other) < 0 || other.group != own.group)
            continue;
        ret->rss_bytes += other.pages * sysconf(_SC_PAGESIZE);
        ret->cpu_ms += other.ticks * 1000 / sysconf(_SC_CLK_TCK);
    }
    if (d)
        closedir(d);
    return 0;
}
