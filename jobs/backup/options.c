#include "backup/options.h"

#include "base/text.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

static const char *const used[] = {"container", "database", "backup", NULL};

static const char *text_of(struct options *o, const char *key) {
    const char *v = conf_text(&o->conf, "backup", "", key, NULL);
    return v && *v ? v : NULL;
}

static char **list_of(struct options *o, const char *section, const char *key) {
    return conf_list(&o->conf, section, "", key);
}

int options_compression(const char *name) {
    static const char *const names[] = {"default", "fast", "zstd", "none"};
    for (int i = 0; i < 4; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return -1;
}

char **options_words(struct options *o, const char *text) {
    char **words = NULL;
    if (text_words(text, &words, NULL) < 0)
        return NULL;
    size_t n = 0;
    while (words[n])
        n++;
    char **list = arena_alloc(&o->conf.arena, (n + 1) * sizeof *list);
    for (size_t i = 0; list && i < n; i++)
        list[i] = arena_text(&o->conf.arena, words[i]);
    free(words);
    return list;
}

// "NAME=PATH", or PATH named after its last component.
static int root_of(struct options *o, const char *word, struct root *ret, struct err *e) {
    const char *eq = strchr(word, '='), *slash = strchr(word, '/');
    if (eq && (!slash || eq < slash)) {
        ret->name = arena_textn(&o->conf.arena, word, eq - word);
        ret->path = arena_text(&o->conf.arena, eq + 1);
    } else {
        size_t n = strlen(word);
        while (n > 1 && word[n - 1] == '/')
            n--;
        ret->path = arena_textn(&o->conf.arena, word, n);
        const char *last = ret->path ? strrchr(ret->path, '/') : NULL;
        ret->name = last ? last + 1 : ret->path;
    }
    if (!ret->name || !ret->path)
        return err_set(e, EX_OSERR, "out of memory");
    if (ret->path[0] != '/')
        return err_set(e, EX_CONFIG, "files: \"%s\" is not an absolute path", ret->path);
    if (!*ret->name || strchr(ret->name, '/') || strcmp(ret->name, "..") == 0 ||
        strcmp(ret->name, ".") == 0)
        return err_set(e, EX_CONFIG, "files: \"%s\" needs a name: write it as NAME=%s", word,
                       ret->path);
    return 0;
}

int options_roots(struct options *o, char **list, struct err *e) {
    size_t n = 0;
    while (list && list[n])
        n++;
    struct root *roots = arena_alloc(&o->conf.arena, (n + 1) * sizeof *roots);
    if (!roots)
        return err_set(e, EX_OSERR, "out of memory");
    for (size_t i = 0; i < n; i++) {
        if (root_of(o, list[i], &roots[i], e) < 0)
            return -1;
        for (size_t k = 0; k < i; k++)
            if (strcmp(roots[k].name, roots[i].name) == 0)
                return err_set(e, EX_CONFIG,
                               "files: two roots are called \"%s\": write one as NAME=%s",
                               roots[i].name, roots[i].path);
    }
    o->roots = roots;
    return 0;
}

static const char *default_instance(struct options *o) {
    char host[256] = "";
    if (gethostname(host, sizeof host - 1) < 0 || !*host)
        return "civicrm";
    return arena_text(&o->conf.arena, host);
}

static int keep_of(struct options *o, const char *key, int fallback) {
    return (int)conf_int(&o->conf, "backup", "", key, fallback);
}

static int fill(struct options *o, struct err *e) {
    struct conf *c = &o->conf;
    o->instance = conf_text(c, "container", "", "instance", NULL);
    if (!o->instance)
        o->instance = default_instance(o);
    if (!o->instance || strchr(o->instance, '/') || o->instance[0] == '.')
        return err_set(e, EX_CONFIG, "[container] instance: cannot begin a file's name");
    o->databases = list_of(o, "backup", "databases");
    if (!o->databases || !o->databases[0])
        o->databases = list_of(o, "database", "names");
    o->exclude = list_of(o, "backup", "exclude");
    o->structure_only = list_of(o, "backup", "structure_only");
    o->encrypt_to = list_of(o, "backup", "encrypt_to");
    o->destination = text_of(o, "destination");
    o->compression = options_compression(conf_text(c, "backup", "", "compression", "default"));
    o->threads = (int)conf_int(c, "backup", "", "threads", 0);
    o->identity_file = text_of(o, "identity_file");
    o->changed_fail = strcmp(conf_text(c, "backup", "", "changed_files", "warn"), "fail") == 0;
    o->allow_incomplete = conf_bool(c, "backup", "", "allow_incomplete", false);
    o->verify = conf_bool(c, "backup", "", "verify", false);
    o->verify_remote = !conf_text(c, "backup", "", "verify", NULL);
    o->dump_program = text_of(o, "dump_program");
    o->lock = text_of(o, "lock");
    o->lock_wait_ms = conf_ms(c, "backup", "", "lock_wait", 0);
    o->keep = (struct keep_rules){keep_of(o, "keep_last", 0), keep_of(o, "keep_daily", 0),
                                  keep_of(o, "keep_weekly", 0), keep_of(o, "keep_monthly", 0),
                                  keep_of(o, "keep_yearly", 0)};
    o->ping = text_of(o, "ping");
    o->on_failure = text_of(o, "on_failure");
    o->state_dir = text_of(o, "state_dir");
    if (!o->state_dir)
        o->state_dir = "/var/lib/civinit";
    return options_roots(o, list_of(o, "backup", "files"), e);
}

int options_load(struct options *o, const char *path, struct err *e) {
    const char *file = conf_path(&o->conf, path ? path : "backup");
    if (!file)
        return err_set(e, EX_OSERR, "out of memory");
    if (path || access(file, F_OK) == 0) {
        o->config = file;
        if (conf_load_strict(&o->conf, file, used, e) < 0)
            return -1;
    }
    return fill(o, e);
}

void options_free(struct options *o) {
    conf_free(&o->conf);
}
