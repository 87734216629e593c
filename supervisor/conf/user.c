#include "conf/user.h"

#include "base/cleanup.h"
#include "base/text.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

enum {
    MOST_NAMES = 256,
    MOST_GROUPS = 64
};

// The last two values mean "none" and "unchanged" to system calls.
static int number(const char *text, int64_t *ret) {
    return text_int(text, 0, UINT32_MAX - 2, ret, NULL);
}

static int unknown(const char *kind, const char *name, const char *file, const char *const *names,
                   struct err *e) {
    const char *near = text_nearest(name, names);
    return err_set(e, EX_CONFIG,
                   near ? "%s \"%s\" is not in %s; did you mean \"%s\"?" : "%s \"%s\" is not in %s",
                   kind, name, file, near);
}

// Looks the user up; found = there is an entry.
static int find_passwd(const char *user, struct arena *a, struct user *u, bool *found,
                       struct err *e) {
    const char *names[MOST_NAMES + 1] = {0};
    size_t n = 0;
    int64_t id;
    bool numeric = number(user, &id) == 0;
    autofile FILE *f = fopen("/etc/passwd", "re");
    for (struct passwd *p; f && (p = fgetpwent(f));) {
        if (numeric ? p->pw_uid == (uid_t)id : strcmp(p->pw_name, user) == 0) {
            u->uid = p->pw_uid;
            u->gid = p->pw_gid;
            u->name = arena_text(a, p->pw_name);
            u->home = arena_text(a, p->pw_dir);
            *found = true;
            return u->name && u->home ? 0 : err_set(e, EX_OSERR, "out of memory");
        }
        if (!numeric && n < MOST_NAMES)
            names[n++] = arena_text(a, p->pw_name);
    }
    if (!numeric)
        return unknown("the user", user, "/etc/passwd", names, e);
    u->uid = (uid_t)id;
    u->gid = (gid_t)id;
    *found = false;
    return 0;
}

static bool has_member(const struct group *g, const char *name) {
    for (char **m = g->gr_mem; name && *m; m++)
        if (strcmp(*m, name) == 0)
            return true;
    return false;
}

static int find_groups(const char *group, struct arena *a, struct user *u, struct err *e) {
    const char *names[MOST_NAMES + 1] = {0};
    size_t n = 0;
    int64_t id = -1;
    bool known = !group || number(group, &id) == 0;
    if (group && known)
        u->gid = (gid_t)id;
    u->groups = arena_alloc(a, MOST_GROUPS * sizeof *u->groups);
    if (!u->groups)
        return err_set(e, EX_OSERR, "out of memory");
    autofile FILE *f = fopen("/etc/group", "re");
    for (struct group *g; f && (g = fgetgrent(f));) {
        if (!known && strcmp(g->gr_name, group) == 0) {
            u->gid = g->gr_gid;
            known = true;
        }
        if (has_member(g, u->name) && u->ngroups < MOST_GROUPS)
            u->groups[u->ngroups++] = g->gr_gid;
        if (!known && n < MOST_NAMES)
            names[n++] = arena_text(a, g->gr_name);
    }
    return known ? 0 : unknown("the group", group, "/etc/group", names, e);
}

int user_find(const char *user, const char *group, struct arena *a, struct user *ret,
              struct err *e) {
    struct user u = {0};
    bool found;
    if (find_passwd(user, a, &u, &found, e) < 0 || find_groups(group, a, &u, e) < 0)
        return -1;
    *ret = u;
    return 0;
}
