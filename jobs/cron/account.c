#include "cron/account.h"

#include "base/cleanup.h"
#include "base/text.h"

#include <grp.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

enum {
    MOST_GROUPS = 256
};

// A whole number that is an id; false: a name.
static bool is_id(const char *text, uint32_t *ret) {
    int64_t n;
    if (text_int(text, 0, UINT32_MAX - 1LL, &n, NULL) < 0)
        return false;
    *ret = (uint32_t)n;
    return true;
}

static int find_user(const char *user, struct arena *arena, struct account *a, struct err *e) {
    uint32_t id = 0;
    bool number = is_id(user, &id);
    autofile FILE *f = fopen("/etc/passwd", "re");
    for (struct passwd *p; f && (p = fgetpwent(f));)
        if (number ? p->pw_uid == id : strcmp(p->pw_name, user) == 0) {
            a->uid = p->pw_uid;
            a->gid = p->pw_gid;
            a->user = arena_text(arena, p->pw_name);
            a->home = arena_text(arena, *p->pw_dir ? p->pw_dir : "/");
            a->shell = arena_text(arena, *p->pw_shell ? p->pw_shell : "/bin/sh");
            return a->user && a->home && a->shell ? 0 : err_set(e, EX_OSERR, "out of memory");
        }
    if (!number)
        return err_set(e, EX_CONFIG, "user %s is not in /etc/passwd", user);
    a->uid = id;
    a->gid = id;
    a->user = arena_text(arena, user);
    a->home = "/";
    a->shell = "/bin/sh";
    return a->user ? 0 : err_set(e, EX_OSERR, "out of memory");
}

static int find_groups(const char *group, struct arena *arena, struct account *a, struct err *e) {
    gid_t list[MOST_GROUPS];
    size_t n = 1;
    uint32_t id = 0;
    bool number = group && is_id(group, &id), found = !group || number;
    if (number)
        a->gid = id;
    autofile FILE *f = fopen("/etc/group", "re");
    for (struct group *g; f && (g = fgetgrent(f));) {
        if (group && !number && strcmp(g->gr_name, group) == 0) {
            a->gid = g->gr_gid;
            found = true;
        }
        for (char **m = g->gr_mem; *m; m++)
            if (strcmp(*m, a->user) == 0 && n < MOST_GROUPS)
                list[n++] = g->gr_gid;
    }
    if (!found)
        return err_set(e, EX_CONFIG, "group %s is not in /etc/group", group);
    list[0] = a->gid;
    a->groups = arena_alloc(arena, n * sizeof *list);
    if (!a->groups)
        return err_set(e, EX_OSERR, "out of memory");
    memcpy(a->groups, list, n * sizeof *list);
    a->ngroups = n;
    return 0;
}

int account_find(const char *user, const char *group, struct arena *arena, struct account *ret,
                 struct err *e) {
    struct account a = {0};
    if (find_user(user, arena, &a, e) < 0 || find_groups(group, arena, &a, e) < 0)
        return -1;
    *ret = a;
    return 0;
}
