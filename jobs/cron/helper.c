#include "cron/helper.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"

#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <sysexits.h>

enum {
    MOST_ARGS = 16
};

// The last line that says something, without "civinit-jobs-helper: error: ".
static void last_line(const struct buf *b, char *why, size_t size) {
    const char *end = b->data + b->len;
    while (b->len && end > b->data && (unsigned char)end[-1] <= ' ')
        end--;
    const char *begin = end;
    while (begin > b->data && begin[-1] != '\n')
        begin--;
    static const char *const prefixes[] = {"civinit-jobs-helper: ", "error: ", "warning: "};
    for (int i = 0; i < 3; i++) {
        size_t n = strlen(prefixes[i]);
        if ((size_t)(end - begin) > n && strncmp(begin, prefixes[i], n) == 0)
            begin += n;
    }
    snprintf(why, size, "%.*s", (int)(end - begin), begin);
}

static void explain(const struct buf *out, const struct buf *errors, char *why, size_t size) {
    *why = 0;
    if (errors->len)
        last_line(errors, why, size);
    if (!*why && out->len)
        last_line(out, why, size);
}

int helper_start(struct watcher *w, const struct jobs *j, const char *const *args, int in_fd,
                 struct watch *x, struct err *e) {
    char program[PATH_MAX];
    const char *argv[MOST_ARGS + 4] = {
        spawn_sibling("civinit-jobs-helper", program, sizeof program), "--config", j->path};
    for (int i = 0; i < MOST_ARGS && args[i]; i++)
        argv[3 + i] = args[i];
    struct spawn s = {.argv = (char *const *)argv, .session = true};
    x->helper = true;
    return watch_start(w, x, &s, in_fd, e);
}

int helper_call(struct watcher *w, const struct jobs *j, const char *const *args, int in_fd,
                int64_t timeout_ms, struct buf *out, char *why, size_t size) {
    autobuf struct buf own = {0}, errors = {0};
    struct watch *x = calloc(1, sizeof *x);
    struct err e;
    if (!x || helper_start(w, j, args, in_fd, x, &e) < 0) {
        snprintf(why, size, "%s", x ? e.text : "out of memory");
        free(x);
        return EX_UNAVAILABLE;
    }
    x->out[0].capture = out ? out : &own;
    x->out[1].capture = &errors;
    int rc = EX_UNAVAILABLE;
    if (!watch_wait(x, timeout_ms))
        snprintf(why, size, "civinit-jobs-helper %s took longer than %llds", args[0],
                 (long long)timeout_ms / 1000);
    else {
        rc = WIFEXITED(x->status) ? WEXITSTATUS(x->status) : 128 + WTERMSIG(x->status);
        if (rc)
            explain(out ? out : &own, &errors, why, size);
    }
    watch_end(x);
    free(x);
    return rc;
}

int helper_input(const char *text) {
    int fd = memfd_create("input", MFD_CLOEXEC);
    if (fd >= 0 && (file_write(fd, text, strlen(text)) < 0 || lseek(fd, 0, SEEK_SET) < 0)) {
        close(fd);
        fd = -1;
    }
    return fd;
}

void helper_backlog(const struct jobs *j, struct watcher *w, struct buf *out) {
    autobuf struct buf text = {0};
    char why[500] = "";
    int rc = helper_call(w, j, (const char *[]){"backlog", NULL}, -1, HELPER_TIMEOUT_MS, &text, why,
                         sizeof why);
    const char *begin = text.len ? strchr(text.data, '{') : NULL;
    const char *end = text.len ? strrchr(text.data, '}') : NULL;
    if (rc == 0 && begin && end > begin) {
        buf_add(out, begin + 1, (size_t)(end - begin - 1));
        return;
    }
    buf_str(out, "\"backlog_error\":");
    buf_json(out, *why ? why : "no answer");
}
