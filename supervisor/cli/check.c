#include "base/cleanup.h"
#include "base/log.h"
#include "cli/cli.h"
#include "conf/plan.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

// Continuation lines keep a value in one piece when it is read again.
static void print_value(const char *value) {
    for (const char *p = value; *p; p++) {
        putchar(*p);
        if (*p == '\n')
            fputs("    ", stdout);
    }
    putchar('\n');
}

// The configuration as it is in force: drop-ins and variables filled in, secrets masked.
static void print(const struct conf *c) {
    for (size_t i = 0; i < c->nsections; i++) {
        const char *section = c->sections[i].section, *name = c->sections[i].name;
        printf("%s[%s%s%s]\n", i ? "\n" : "", section, *name ? " " : "", name);
        for (size_t k = 0; k < c->n; k++) {
            const struct conf_entry *x = &c->entries[k];
            if (strcmp(x->section, section) != 0 || strcmp(x->name, name) != 0)
                continue;
            printf("%s = ", x->key);
            print_value(x->secret ? "********" : x->value);
        }
    }
}

// Everything that is wrong with one file; how many problems.
static size_t check(const char *role, bool show) {
    struct conf c = {0};
    struct plan p = {0};
    struct err e = {0};
    const char *path = conf_path(&c, role);
    if (!path || conf_load(&c, path, NULL, &e) < 0) {
        log_error("%s", path ? e.text : "out of memory");
        conf_free(&c);
        return 1;
    }
    struct plan_options o = {.role = role, .config = path};
    size_t n = 1;
    if (plan_make(&p, &c, &o, &e) < 0) {
        log_error("%s: %s", path, e.text);
    } else {
        for (size_t i = 0; i < c.nproblems; i++)
            log_error("%s", c.problems[i]);
        n = c.nproblems;
        if (show)
            print(&c);
        else if (!n)
            printf("%s: ok: %zu service%s and tasks, in this order:", path, p.n,
                   p.n == 1 ? "" : "s");
        for (size_t i = 0; !show && !n && i < p.n; i++)
            printf(" %s", p.services[i].name);
        if (!show && !n)
            putchar('\n');
    }
    plan_free(&p);
    conf_free(&c);
    return n;
}

static int is_ini(const struct dirent *d) {
    size_t n = strlen(d->d_name);
    return n > 4 && d->d_name[0] != '.' && strcmp(d->d_name + n - 4, ".ini") == 0;
}

static int check_all(bool show, size_t *ret_problems) {
    const char *folder = getenv("CIVINIT_CONFIG_DIR");
    struct dirent **list;
    char path[4096];
    if (!folder || !*folder)
        folder = "/etc/civinit";
    int n = scandir(folder, &list, is_ini, alphasort);
    if (n <= 0) {
        log_error("%s: no role files (*.ini) there", folder);
        return EX_CONFIG;
    }
    for (int i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, list[i]->d_name);
        *ret_problems += check(path, show);
        free(list[i]);
    }
    free(list);
    return 0;
}

int cli_check(int argc, char **argv) {
    static const char *const options[] = {"--print", NULL};
    bool show = false, named = false;
    size_t problems = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--print") == 0)
            show = true;
        else if (argv[i][0] == '-')
            return cli_usage(argv[0], argv[i], options);
        else
            named = true;
    }
    for (int i = 1; i < argc; i++)
        if (argv[i][0] != '-')
            problems += check(argv[i], show);
    int rc = named ? 0 : check_all(show, &problems);
    if (problems)
        log_error("%zu problem%s", problems, problems == 1 ? "" : "s");
    return rc ? rc : problems ? EX_CONFIG : 0;
}
