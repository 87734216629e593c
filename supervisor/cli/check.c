#include "base/cleanup.h"
#include "base/log.h"
#include "base/spawn.h"
#include "cli/cli.h"
#include "conf/plan.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

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
            print_value(x->unsure ? x->raw : x->secret ? "********" : x->value);
        }
    }
}

// Whether a program is there, as the service that starts it would look for it.
static bool is_there(const char *name, char *const *envp) {
    const char *path = NULL;
    char file[PATH_MAX];
    if (strchr(name, '/'))
        return access(name, X_OK) == 0;
    for (; *envp; envp++)
        if (strncmp(*envp, "PATH=", 5) == 0)
            path = *envp + 5;
    for (; path; path++) {
        size_t n = strcspn(path, ":");
        snprintf(file, sizeof file, "%.*s%s%s", (int)n, path, n ? "/" : "", name);
        if (access(file, X_OK) == 0)
            return true;
        path += n;
        if (!*path)
            break;
    }
    return !path;
}

// A program may come with a volume: that it is not here is worth a warning, no more.
static void look_for_programs(const struct conf *c, const struct plan *p) {
    for (size_t i = 0; i < p->n; i++) {
        const struct plan_service *v = &p->services[i];
        const char *section = v->task ? "task" : "service";
        const struct conf_entry *x = conf_find(c, section, v->name, "command");
        if (x && !x->unsure && *v->argv && !is_there(*v->argv, v->envp))
            log_warning("%s:%d: [%s %s] command: there is no program \"%s\" here", x->file, x->line,
                        section, v->name, *v->argv);
    }
}

// What these sections mean only their programs know; they say themselves what is wrong.
static const struct {
    const char *section, *program, *word;
    bool secrets; // it reads them: not while an image is built
} others[] = {{"job", "civinit-jobs", "check", false},
              {"forward", "civinit-forward", "--check", true}};

static size_t ask(const char *name, const char *word, const char *path) {
    char program[PATH_MAX];
    char *argv[] = {(char *)spawn_sibling(name, program, sizeof program), (char *)word,
                    (char *)"--config", (char *)path, NULL};
    autoclose int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    struct spawn_fd out = {nowhere, 1};
    struct spawn s = {.argv = argv, .fds = &out, .nfds = nowhere >= 0};
    struct err e;
    pid_t pid;
    int status;
    if (spawn_process(&s, &pid, &e) < 0) {
        log_warning("%s: not checked by %s: %s", path, name, e.text);
        return 0;
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return status != 0;
}

static size_t ask_others(const struct conf *c) {
    size_t n = 0;
    for (unsigned k = 0; k < sizeof others / sizeof *others; k++) {
        bool used = false;
        for (size_t i = 0; i < c->nsections; i++)
            used |= strcmp(c->sections[i].section, others[k].section) == 0;
        if (used && !(others[k].secrets && c->at_build))
            n += ask(others[k].program, others[k].word, c->path);
    }
    return n;
}

struct how {
    bool show, at_build;
};

// The outcome for one file that was read: its problems, else what is not certain yet, or itself.
static size_t tell(const struct conf *c, const struct plan *p, const struct how *how) {
    size_t n = c->nproblems;
    for (size_t i = 0; i < n; i++)
        log_error("%s", c->problems[i]);
    for (size_t i = 0; i < c->nabsent; i++)
        log_notice("%s: to be seen in the container", c->absent[i]);
    if (!n)
        look_for_programs(c, p);
    if (!n && !c->nabsent)
        n = ask_others(c);
    if (how->show) {
        print(c);
    } else if (!n) {
        printf(p->n == 1 ? "%s: ok: %zu service or task:"
                         : "%s: ok: %zu services and tasks, in this order:",
               c->path, p->n);
        for (size_t i = 0; i < p->n; i++)
            printf(" %s", p->services[i].name);
        putchar('\n');
    }
    return n;
}

// Everything that is wrong with one file; how many problems.
static size_t check(const char *role, const struct how *how) {
    struct conf c = {.at_build = how->at_build};
    struct plan p = {0};
    struct err e = {0};
    size_t n = 1;
    const char *path = conf_path(&c, role);
    struct plan_options o = {.role = role, .config = path};
    if (!path || conf_load(&c, path, NULL, &e) < 0)
        log_error("%s", path ? e.text : "out of memory");
    else if (plan_make(&p, &c, &o, &e) < 0)
        log_error("%s: %s", path, e.text);
    else
        n = tell(&c, &p, how);
    plan_free(&p);
    conf_free(&c);
    return n;
}

static int is_ini(const struct dirent *d) {
    size_t n = strlen(d->d_name);
    return n > 4 && d->d_name[0] != '.' && strcmp(d->d_name + n - 4, ".ini") == 0;
}

static int check_all(const struct how *how, size_t *ret_problems) {
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
        *ret_problems += check(path, how);
        free(list[i]);
    }
    free(list);
    return 0;
}

int cli_check(int argc, char **argv) {
    static const char *const options[] = {"--print", "--build", NULL};
    struct how how = {0};
    bool named = false;
    size_t problems = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--print") == 0)
            how.show = true;
        else if (strcmp(argv[i], "--build") == 0)
            how.at_build = true;
        else if (argv[i][0] == '-')
            return cli_usage(argv[0], argv[i], options);
        else
            named = true;
    }
    for (int i = 1; i < argc; i++)
        if (argv[i][0] != '-')
            problems += check(argv[i], &how);
    int rc = named ? 0 : check_all(&how, &problems);
    if (problems)
        log_error("%zu problem%s", problems, problems == 1 ? "" : "s");
    return rc ? rc : problems ? EX_CONFIG : 0;
}
