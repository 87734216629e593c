#include "backup/outcome.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "common/http.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum {
    HOOK_MS = 20000,
    STATE_MAX = 64 << 10,
};

static void post(const char *url, const char *body, const char *what) {
    static const char *const headers[] = {"Content-Type: application/json", NULL};
    struct http_request q = {.url = url,
                             .method = body ? "POST" : "GET",
                             .headers = body ? headers : NULL,
                             .body = body,
                             .body_len = body ? strlen(body) : 0,
                             .timeout_ms = HOOK_MS};
    autoanswer struct http_answer a = {0};
    struct err e = {0};
    if (http_do(&q, &a, NULL, &e) < 0)
        log_warning("%s: %s", what, e.text);
    else if (a.status >= 400)
        log_warning("%s: the server answers %ld", what, a.status);
}

static void ping(const struct options *o, const char *what) {
    char url[2048];
    if (!o->ping)
        return;
    snprintf(url, sizeof url, "%s%s", o->ping, what);
    post(url, NULL, "ping");
}

void outcome_begin(const struct options *o) {
    ping(o, "/start");
}

static json_t *last_of(const struct outcome *x) {
    return json_pack("{s:I,s:I,s:s,s:s,s:s,s:I,s:I,s:I,s:I,s:b}", "started",
                     (json_int_t)x->started_ms, "ended", (json_int_t)x->ended_ms, "outcome",
                     x->error.code ? "failure" : "success", "reason", x->error.text, "file",
                     x->file, "bytes", (json_int_t)x->bytes, "raw_bytes", (json_int_t)x->raw_bytes,
                     "entries", (json_int_t)x->entries, "warnings", (json_int_t)x->warnings,
                     "verified", x->verified);
}

// When the last good backup was, from the state before; NULL: never.
static json_t *last_success(const char *path) {
    autofree char *text = NULL;
    if (file_read(path, STATE_MAX, &text, NULL, NULL) < 0)
        return json_null();
    json_t *before = json_loads(text, 0, NULL);
    json_t *when = json_incref(json_object_get(before, "last_success"));
    json_decref(before);
    return when ? when : json_null();
}

static void write_state(const struct options *o, const struct outcome *x) {
    char path[4096];
    snprintf(path, sizeof path, "%s/backup.json", o->state_dir);
    json_t *when = x->error.code ? last_success(path) : json_integer((json_int_t)x->ended_ms);
    json_t *state = json_pack("{s:I,s:s,s:o,s:o}", "updated", (json_int_t)clock_wall_ms(),
                              "instance", o->instance, "last_success", when, "last", last_of(x));
    autofree char *text = state ? json_dumps(state, JSON_COMPACT) : NULL;
    json_decref(state);
    struct err e = {0};
    mkdir(o->state_dir, 0755);
    if (text && file_replace(path, text, strlen(text), 0644, 0, &e) < 0)
        log_warning("the state is not kept: %s", e.text);
}

// A command of the administrator's, by the shell; it gets the JSON on its standard input.
static void run_command(const char *command, const char *json) {
    autoclose int in = memfd_create("hook", MFD_CLOEXEC);
    if (in < 0 || file_write(in, json, strlen(json)) < 0 || lseek(in, 0, SEEK_SET) < 0)
        return;
    char sh[] = "/bin/sh", c[] = "-c";
    char *argv[] = {sh, c, (char *)(uintptr_t)command, NULL};
    posix_spawn_file_actions_t files;
    pid_t pid;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, in, 0);
    posix_spawn_file_actions_adddup2(&files, 2, 1);
    int rc = posix_spawn(&pid, sh, &files, NULL, argv, environ), status = 0;
    posix_spawn_file_actions_destroy(&files);
    if (rc != 0) {
        log_warning("on_failure: cannot start a shell: %s", strerror(rc));
        return;
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (status != 0)
        log_warning("on_failure: the command failed");
}

static void tell_failure(const struct options *o, const struct outcome *x) {
    if (!o->on_failure)
        return;
    json_t *j = last_of(x);
    json_object_set_new(j, "instance", json_string(o->instance));
    json_object_set_new(j, "kind", json_string("backup"));
    json_object_set_new(j, "exit", json_integer(x->error.code));
    autofree char *text = json_dumps(j, JSON_COMPACT);
    json_decref(j);
    if (!text)
        return;
    if (strncmp(o->on_failure, "http://", 7) == 0 || strncmp(o->on_failure, "https://", 8) == 0)
        post(o->on_failure, text, "on_failure");
    else
        run_command(o->on_failure, text);
}

void outcome_end(const struct options *o, const struct outcome *x) {
    write_state(o, x);
    ping(o, x->error.code ? "/fail" : "");
    if (x->error.code)
        tell_failure(o, x);
}
