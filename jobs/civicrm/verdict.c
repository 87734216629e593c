#include "verdict.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum {
    MESSAGE_MAX = 500
};

static const char *const words[] = {"success",    "skipped", "unfinished", "failure",
                                    "incomplete", "crashed", "broken"};

const char *outcome_word(enum outcome o) {
    return words[o];
}

static bool begins(const char *text, const char *prefix) {
    return text && strncmp(text, prefix, strlen(prefix)) == 0;
}

// At most MESSAGE_MAX bytes of one line, without tags and control characters; not cut inside a
// UTF-8 sequence.
static const char *tidy(struct arena *a, const char *text, size_t len) {
    char line[MESSAGE_MAX + 1] = "";
    size_t n = 0;
    bool tag = false;
    for (size_t i = 0; i < len && n < MESSAGE_MAX; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '<' && i + 1 < len &&
            (isalpha((unsigned char)text[i + 1]) || strchr("/!?", text[i + 1])))
            tag = true;
        else if (tag)
            tag = c != '>';
        else if (c > ' ' && c != 0x7f)
            line[n++] = (char)c;
        else if (n && line[n - 1] != ' ')
            line[n++] = ' ';
    }
    bool cut = n == MESSAGE_MAX; // the last character may be half there
    while (cut && n && ((unsigned char)line[n - 1] & 0xc0) == 0x80)
        n--;
    if (cut && n && ((unsigned char)line[n - 1] & 0xc0) == 0xc0)
        n--;
    while (n && line[n - 1] == ' ')
        n--;
    return arena_textn(a, line, n);
}

static bool tells(const char *line, size_t len) {
    static const char *const marks[] = {"Fatal error",    "Initialization Error", "ERROR:",
                                        "Critical error", "[cron:error]",         "Uncaught "};
    for (unsigned i = 0; i < sizeof marks / sizeof *marks; i++)
        if (memmem(line, len, marks[i], strlen(marks[i])))
            return true;
    return false;
}

// What the server said, where CiviCRM only shows "Critical error" or "Initialization Error" and
// prints PEAR's array: "[debug_info] => … [nativecode=1045 ** Access denied for user …]".
static const char *native_error(struct arena *a, const char *output) {
    static const char mark[] = "[nativecode=";
    const char *at = strstr(output, mark);
    if (!at)
        return "";
    at += strlen(mark);
    const char *line = tidy(a, at, strcspn(at, "]\n"));
    return line && *line ? arena_printf(a, "database: %s", line) : line;
}

// "In Authenticator.php line 487:", under which cv and drush print the message.
static bool announces(const char *line, size_t len) {
    return len > 3 && memcmp(line, "In ", 3) == 0 && memmem(line, len, ".php line ", 10) &&
           line[len - 1] == ':';
}

const char *verdict_telling_line(struct arena *a, const char *output) {
    const char *last = "", *native = output ? native_error(a, output) : "";
    bool announced = false;
    for (const char *p = output ? output : ""; *p;) {
        size_t len = strcspn(p, "\n");
        const char *line = tidy(a, p, len);
        if (!line || !native)
            return "";
        bool database =
            memmem(p, len, "Critical error", 14) || memmem(p, len, "Initialization Error", 20);
        if (database && *native)
            return native;
        if (*line && (tells(p, len) || announced))
            return line;
        bool frame = *line == '#' && isdigit((unsigned char)line[1]); // "#8 {main}", of a trace
        if (*line && !frame)
            last = line;
        announced |= announces(line, strlen(line));
        p += len + (p[len] == '\n');
    }
    return last;
}

// The whole message of a row: `description` is cut at 240 characters, `data` has all of it.
static const char *full_text(const struct verdict_row *r, const char *prefix) {
    const char *full = r->data ? strstr(r->data, "Full message:") : NULL;
    if (full) {
        full += strlen("Full message:");
        full += strspn(full, " \n\r");
        if (begins(full, prefix))
            return full;
    }
    return r->description;
}

// The error text behind "RESULT, Error message: " of a Finished row, or NULL: no failure.
static const char *failure_of(const struct verdict_row *r) {
    static const char finished[] = "Finished execution of ",
                      result[] = " with result: ", error[] = ", Error message: ";
    const char *text = full_text(r, finished) + strlen(finished);
    if (r->name && begins(text, r->name))
        text += strlen(r->name);
    text = strstr(text, result);
    if (!text)
        return NULL;
    text += strlen(result);
    const char *at = strstr(text, error);
    // A success has "(values)" there, which may hold anything.
    return at && !memchr(text, '(', (size_t)(at - text)) ? at + strlen(error) : NULL;
}

static struct verdict_job *job_of(struct verdict *v, const struct verdict_row *r, size_t from) {
    for (size_t i = v->n; i > from; i--)
        if (v->jobs[i - 1].job_id == r->job_id)
            return &v->jobs[i - 1];
    struct verdict_job *j = &v->jobs[v->n++];
    *j = (struct verdict_job){.job_id = r->job_id, .began_s = r->time_s, .message = ""};
    j->name = arena_text(&v->arena, r->name ? r->name : "?");
    return j;
}

// As a user who may not see all contacts, CiviCRM prepares a mailing, sends nothing of it, and
// calls that a success at each run (measured on 6.14).
static const char *unsent(struct verdict *v, int64_t n) {
    return arena_printf(&v->arena,
                        "%lld part%s of mailings due, and nothing was sent: may the account that "
                        "runs the jobs (cv --user=…) view all contacts?",
                        (long long)n, n == 1 ? "" : "s");
}

static void take_row(struct verdict *v, const struct verdict_row *r) {
    static const char failed_to[] = "Error while executing ";
    if (begins(r->description, "Starting execution of ")) {
        struct verdict_job *j = job_of(v, r, v->n); // each start is an entry of its own
        j->outcome = OUTCOME_CRASHED;
    } else if (begins(r->description, "Finished execution of ")) {
        struct verdict_job *j = job_of(v, r, 0);
        const char *error = failure_of(r);
        j->outcome = error ? OUTCOME_FAILURE : OUTCOME_SUCCESS;
        j->seconds = r->time_s > j->began_s ? r->time_s - j->began_s : 0;
        if (error && !*j->message)
            j->message = tidy(&v->arena, error, strlen(error));
        else if (!error)
            j->message = "";
        if (!error && r->unsent) {
            j->outcome = OUTCOME_FAILURE;
            j->message = unsent(v, r->unsent);
        }
    } else if (begins(r->description, failed_to)) {
        struct verdict_job *j = job_of(v, r, 0);
        const char *text = full_text(r, failed_to);
        const char *message = strstr(text, ": ");
        message = message ? message + 2 : text;
        if (j->outcome == OUTCOME_SUCCESS) // no Starting row: CiviCRM refuses to run it here
            j->outcome = OUTCOME_SKIPPED;
        j->message = tidy(&v->arena, message, strlen(message));
    }
}

// "exit code 139 (SIGSEGV)": shells report a signal so.
static const char *ending(struct verdict *v, const struct verdict_process *p) {
    int number = p->signal ? p->signal : p->exit > 128 && p->exit < 128 + 32 ? p->exit - 128 : 0;
    const char *name = number ? sigabbrev_np(number) : NULL;
    if (p->signal)
        return name ? arena_printf(&v->arena, "killed by SIG%s", name)
                    : arena_printf(&v->arena, "killed by signal %d", number);
    return name ? arena_printf(&v->arena, "exit code %d (SIG%s)", p->exit, name)
                : arena_printf(&v->arena, "exit code %d", p->exit);
}

static const struct verdict_job *first_with(const struct verdict *v, enum outcome o) {
    for (size_t i = 0; i < v->n; i++)
        if (v->jobs[i].outcome == o)
            return &v->jobs[i];
    return NULL;
}

static void set(struct verdict *v, enum outcome o, const char *reason) {
    v->outcome = o;
    v->reason = reason;
}

// A run that began nothing.
static void judge_nothing(struct verdict *v, const struct verdict_process *p, bool begun) {
    const char *line = verdict_telling_line(&v->arena, p->output);
    const char *what = begun ? "the run ended before its first job" : "no job began";
    set(v, p->signal ? OUTCOME_CRASHED : OUTCOME_BROKEN,
        arena_printf(&v->arena, "%s, %s%s%s", what, ending(v, p), *line ? ": " : "", line));
}

// A run without its last row.
static void judge_incomplete(struct verdict *v, const struct verdict_process *p) {
    const struct verdict_job *j = first_with(v, OUTCOME_CRASHED);
    const char *line = verdict_telling_line(&v->arena, p->output);
    for (size_t i = 0; i < v->n; i++)
        if (v->jobs[i].outcome == OUTCOME_CRASHED && !*v->jobs[i].message)
            v->jobs[i].message = *line && p->exit
                                     ? arena_printf(&v->arena, "%s: %s", ending(v, p), line)
                                     : ending(v, p);
    if (j)
        set(v, p->exit || p->signal ? OUTCOME_CRASHED : OUTCOME_INCOMPLETE,
            arena_printf(&v->arena, "job \"%s\" began and never ended: %s", j->name, j->message));
    else
        set(v, p->exit || p->signal ? OUTCOME_CRASHED : OUTCOME_INCOMPLETE,
            arena_printf(&v->arena, "the run began and never finished: %s%s%s", ending(v, p),
                         *line ? ": " : "", line));
}

static void judge_complete(struct verdict *v, const struct verdict_process *p) {
    const struct verdict_job *j = first_with(v, OUTCOME_FAILURE);
    size_t failed = 0;
    for (size_t i = 0; i < v->n; i++)
        failed += v->jobs[i].outcome == OUTCOME_FAILURE;
    char more[40] = "";
    if (failed > 1)
        snprintf(more, sizeof more, " (and %zu more)", failed - 1);
    if (p->signal)
        set(v, OUTCOME_CRASHED, ending(v, p));
    else if (j)
        set(v, OUTCOME_FAILURE,
            arena_printf(&v->arena, "job \"%s\" failed: %s%s", j->name, j->message, more));
    else if (p->exit)
        set(v, OUTCOME_FAILURE,
            arena_printf(&v->arena, "%s, though the job log has no failure", ending(v, p)));
    else
        set(v, OUTCOME_SUCCESS, "");
}

// Jobs run one after the other: in a run that came to its end no job of it is left begun.
static void disown(struct verdict *v) {
    for (size_t i = 0; i < v->n; i++)
        if (v->jobs[i].outcome == OUTCOME_CRASHED)
            v->jobs[i].outcome = OUTCOME_UNFINISHED;
}

int verdict_judge(struct verdict *v, const struct verdict_row *rows, size_t n,
                  const struct verdict_process *p) {
    bool begun = false, finished = false;
    *v = (struct verdict){.reason = ""};
    v->jobs = arena_alloc(&v->arena, (n + 1) * sizeof *v->jobs);
    if (!v->jobs)
        return -1;
    for (size_t i = 0; i < n; i++) {
        const struct verdict_row *r = &rows[i];
        if (r->job_id == 0 && !p->only_job) {
            begun |= begins(r->description, "Starting scheduled jobs execution");
            finished |= begins(r->description, "Finishing scheduled jobs execution");
        } else if (r->job_id && r->description && (!p->only_job || p->only_job == r->job_id)) {
            take_row(v, r);
        }
    }
    if (p->only_job)
        finished = v->n && !first_with(v, OUTCOME_CRASHED);
    if (finished)
        disown(v);
    if (!finished && v->n == 0)
        judge_nothing(v, p, begun);
    else if (!finished)
        judge_incomplete(v, p);
    else
        judge_complete(v, p);
    return v->reason ? 0 : -1;
}

void verdict_free(struct verdict *v) {
    arena_free(&v->arena);
}

void verdict_print(const struct verdict *v, struct buf *out) {
    for (size_t i = 0; i < v->n; i++) {
        const struct verdict_job *j = &v->jobs[i];
        buf_str(out, "{\"job\":");
        buf_json(out, j->name);
        buf_printf(out, ",\"id\":%lld,\"outcome\":\"%s\",\"seconds\":%lld,\"message\":",
                   (long long)j->job_id, outcome_word(j->outcome), (long long)j->seconds);
        buf_json(out, j->message ? j->message : "");
        buf_str(out, "}\n");
    }
    buf_printf(out, "{\"run\":\"%s\",\"reason\":", outcome_word(v->outcome));
    buf_json(out, v->reason);
    buf_str(out, "}\n");
}
