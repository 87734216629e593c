#include "conf/schema.h"

#include "base/text.h"

#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sysexits.h>

static const struct {
    const char *name;
    int named;
} sections[] = {
    {"container", 0}, {"database", 0}, {"service", 1}, {"task", 1},   {"jobs", 0},    {"job", 1},
    {"mail", 0},      {"civicrm", 0},  {"backup", 0},  {"status", 0}, {"forward", 0},
};

const struct schema_key schema_keys[] = {
    {"container", "main", SCHEMA_WORD},
    {"container", "instance", SCHEMA_WORD},
    {"container", "grace", SCHEMA_DURATION},
    {"container", "drain", SCHEMA_DURATION},
    {"container", "log", SCHEMA_CHOICE, "inherit|text|json|logfmt"},
    {"container", "umask", SCHEMA_WORD},
    {"container", "run_dir", SCHEMA_WORD},
    {"container", "termination_log", SCHEMA_WORD},
    {"container", "env.", SCHEMA_TEXT},

    {"database", "host", SCHEMA_TEXT},
    {"database", "port", SCHEMA_INT},
    {"database", "socket", SCHEMA_TEXT},
    {"database", "user", SCHEMA_TEXT},
    {"database", "password_file", SCHEMA_TEXT},
    {"database", "names", SCHEMA_LIST},
    {"database", "tls", SCHEMA_CHOICE, "off|required|verify-ca|verify-identity"},
    {"database", "ca", SCHEMA_TEXT},

    {"service", "command", SCHEMA_COMMAND},
    {"service", "after", SCHEMA_LIST},
    {"service", "ready", SCHEMA_CHECK},
    {"service", "ready_timeout", SCHEMA_DURATION},
    {"service", "health", SCHEMA_CHECK},
    {"service", "health_interval", SCHEMA_DURATION},
    {"service", "health_timeout", SCHEMA_DURATION},
    {"service", "health_failures", SCHEMA_INT},
    {"service", "restart", SCHEMA_CHOICE, "always|on-failure|never"},
    {"service", "backoff", SCHEMA_DURATION},
    {"service", "backoff_max", SCHEMA_DURATION},
    {"service", "max_restarts", SCHEMA_INT},
    {"service", "stop_signal", SCHEMA_SIGNAL},
    {"service", "stop_timeout", SCHEMA_STOP},
    {"service", "reload_signal", SCHEMA_SIGNAL},
    {"service", "success", SCHEMA_LIST},
    {"service", "user", SCHEMA_WORD},
    {"service", "group", SCHEMA_WORD},
    {"service", "cwd", SCHEMA_TEXT},
    {"service", "env.", SCHEMA_TEXT},
    {"service", "env_file", SCHEMA_TEXT},
    {"service", "rlimit.", SCHEMA_WORD},
    {"service", "nice", SCHEMA_TEXT},
    {"service", "oom_score_adj", SCHEMA_TEXT},
    {"service", "log", SCHEMA_CHOICE, "inherit|text|json|logfmt"},
    {"service", "enabled", SCHEMA_BOOL},

    {"task", "command", SCHEMA_COMMAND},
    {"task", "after", SCHEMA_LIST},
    {"task", "timeout", SCHEMA_DURATION},
    {"task", "lock", SCHEMA_WORD},
    {"task", "retry", SCHEMA_INT},
    {"task", "backoff", SCHEMA_DURATION},
    {"task", "user", SCHEMA_WORD},
    {"task", "group", SCHEMA_WORD},
    {"task", "cwd", SCHEMA_TEXT},
    {"task", "env.", SCHEMA_TEXT},
    {"task", "env_file", SCHEMA_TEXT},
    {"task", "rlimit.", SCHEMA_WORD},
    {"task", "nice", SCHEMA_TEXT},
    {"task", "oom_score_adj", SCHEMA_TEXT},
    {"task", "log", SCHEMA_CHOICE, "inherit|text|json|logfmt"},
    {"task", "enabled", SCHEMA_BOOL},

    {"jobs", "lock", SCHEMA_BOOL},
    {"jobs", "lock_wait", SCHEMA_DURATION},
    {"jobs", "state_dir", SCHEMA_TEXT},
    {"jobs", "timezone", SCHEMA_TEXT},
    {"jobs", "splay", SCHEMA_DURATION},
    {"jobs", "ping", SCHEMA_TEXT},
    {"jobs", "on_failure", SCHEMA_TEXT},

    {"job", "schedule", SCHEMA_TEXT},
    {"job", "timezone", SCHEMA_TEXT},
    {"job", "command", SCHEMA_COMMAND},
    {"job", "shell", SCHEMA_TEXT},
    {"job", "url", SCHEMA_TEXT},
    {"job", "method", SCHEMA_CHOICE, "GET|POST"},
    {"job", "header", SCHEMA_LIST},
    {"job", "body", SCHEMA_TEXT},
    {"job", "body_file", SCHEMA_TEXT},
    {"job", "failure_text", SCHEMA_TEXT},
    {"job", "timeout", SCHEMA_DURATION},
    {"job", "overlap", SCHEMA_CHOICE, "skip|queue|kill"},
    {"job", "catch_up", SCHEMA_CHOICE, "none|once"},
    {"job", "retry", SCHEMA_INT},
    {"job", "backoff", SCHEMA_DURATION},
    {"job", "splay", SCHEMA_DURATION},
    {"job", "lock", SCHEMA_TEXT},
    {"job", "needs", SCHEMA_LIST},
    {"job", "verdict", SCHEMA_CHOICE, "exit|civicrm"},
    {"job", "isolate", SCHEMA_BOOL},
    {"job", "user", SCHEMA_WORD},
    {"job", "group", SCHEMA_WORD},
    {"job", "cwd", SCHEMA_TEXT},
    {"job", "env.", SCHEMA_TEXT},
    {"job", "env_file", SCHEMA_TEXT},
    {"job", "ping", SCHEMA_TEXT},
    {"job", "on_failure", SCHEMA_TEXT},
    {"job", "enabled", SCHEMA_BOOL},

    {"mail", "smtp", SCHEMA_TEXT},
    {"mail", "smtp_user", SCHEMA_TEXT},
    {"mail", "smtp_password_file", SCHEMA_TEXT},
    {"mail", "imap", SCHEMA_TEXT},
    {"mail", "imap_user", SCHEMA_TEXT},
    {"mail", "imap_password_file", SCHEMA_TEXT},
    {"mail", "ca", SCHEMA_TEXT},
    {"mail", "timeout", SCHEMA_DURATION},
    {"mail", "check", SCHEMA_TEXT},

    {"civicrm", "database", SCHEMA_WORD},
    {"civicrm", "code", SCHEMA_TEXT},
    {"civicrm", "maintenance", SCHEMA_TEXT},
    {"civicrm", "isolate_command", SCHEMA_COMMAND},
    {"civicrm", "cli_command", SCHEMA_COMMAND},
    {"civicrm", "user", SCHEMA_TEXT},

    {"backup", "databases", SCHEMA_LIST},
    {"backup", "files", SCHEMA_LIST},
    {"backup", "exclude", SCHEMA_LIST},
    {"backup", "structure_only", SCHEMA_LIST},
    {"backup", "destination", SCHEMA_TEXT},
    {"backup", "compression", SCHEMA_CHOICE, "default|fast|zstd|none"},
    {"backup", "threads", SCHEMA_INT},
    {"backup", "encrypt_to", SCHEMA_LIST},
    {"backup", "identity_file", SCHEMA_TEXT},
    {"backup", "changed_files", SCHEMA_CHOICE, "warn|fail"},
    {"backup", "allow_incomplete", SCHEMA_BOOL},
    {"backup", "dump_program", SCHEMA_TEXT},
    {"backup", "verify", SCHEMA_BOOL},
    {"backup", "lock", SCHEMA_TEXT},
    {"backup", "lock_wait", SCHEMA_DURATION},
    {"backup", "keep_last", SCHEMA_INT},
    {"backup", "keep_daily", SCHEMA_INT},
    {"backup", "keep_weekly", SCHEMA_INT},
    {"backup", "keep_monthly", SCHEMA_INT},
    {"backup", "keep_yearly", SCHEMA_INT},
    {"backup", "endpoint", SCHEMA_TEXT},
    {"backup", "region", SCHEMA_TEXT},
    {"backup", "access_key_file", SCHEMA_TEXT},
    {"backup", "secret_key_file", SCHEMA_TEXT},
    {"backup", "user", SCHEMA_TEXT},
    {"backup", "password_file", SCHEMA_TEXT},
    {"backup", "ssh_key_file", SCHEMA_TEXT},
    {"backup", "ssh_known_hosts", SCHEMA_TEXT},
    {"backup", "ca", SCHEMA_TEXT},
    {"backup", "ping", SCHEMA_TEXT},
    {"backup", "on_failure", SCHEMA_TEXT},
    {"backup", "state_dir", SCHEMA_TEXT},

    {"status", "listen", SCHEMA_LISTEN},
    {"status", "state_dirs", SCHEMA_LIST},
    {"status", "push", SCHEMA_TEXT},
    {"status", "textfile", SCHEMA_TEXT},
    {"status", "history", SCHEMA_TEXT},

    {"forward", "to", SCHEMA_LIST},
    {"forward", "tag", SCHEMA_TEXT},
    {"forward", "shared_key_file", SCHEMA_TEXT},
    {"forward", "user", SCHEMA_TEXT},
    {"forward", "password_file", SCHEMA_TEXT},
    {"forward", "tls", SCHEMA_BOOL},
    {"forward", "ca", SCHEMA_TEXT},
    {"forward", "buffer", SCHEMA_SIZE},
    {"forward", "overflow", SCHEMA_CHOICE, "drop-oldest|drop-newest|block"},
    {"forward", "flush", SCHEMA_DURATION},
    {"forward", "stdout", SCHEMA_BOOL},
    {NULL, NULL, 0, NULL},
};

int schema_named(const char *section) {
    for (unsigned i = 0; i < sizeof sections / sizeof *sections; i++)
        if (strcmp(sections[i].name, section) == 0)
            return sections[i].named;
    return -1;
}

const struct schema_key *schema_find(const char *section, const char *key) {
    for (const struct schema_key *k = schema_keys; k->section; k++) {
        size_t n = strlen(k->key);
        if (strcmp(k->section, section) != 0)
            continue;
        if (k->key[n - 1] == '.' ? strncmp(k->key, key, n) == 0 && key[n]
                                 : strcmp(k->key, key) == 0)
            return k;
    }
    return NULL;
}

int schema_signal(const char *name) {
    if (isdigit((unsigned char)*name)) {
        char *end;
        long n = strtol(name, &end, 10);
        return *end || n < 1 || n >= NSIG ? -1 : (int)n;
    }
    if (strncasecmp(name, "SIG", 3) == 0)
        name += 3;
    for (int n = 1; n < 32; n++)
        if (sigabbrev_np(n) && strcasecmp(sigabbrev_np(n), name) == 0)
            return n;
    return -1;
}

static int check_choice(const struct schema_key *key, const char *value, struct err *e) {
    size_t n = strlen(value);
    for (const char *p = key->choices; *p;) {
        size_t len = strcspn(p, "|");
        if (len == n && strncmp(p, value, n) == 0)
            return 0;
        p += len + (p[len] == '|');
    }
    return err_set(e, EX_CONFIG, "\"%s\" is not one of %s", value, key->choices);
}

static int check_ready(const char *value, struct err *e) {
    static const char *const prefixes[] = {"tcp:",  "unix:", "http://", "https://",
                                           "exec:", "fd:",   "dns:",    NULL};
    if (strcmp(value, "mysql") == 0 || strcmp(value, "notify") == 0)
        return 0;
    const char *colon = strrchr(value, ':');
    if (strncmp(value, "tcp:", 4) == 0 && (colon <= value + 4 || !colon[1]))
        return err_set(e, EX_CONFIG, "\"%s\" names no port: write tcp:HOST:PORT", value);
    for (int i = 0; prefixes[i]; i++)
        if (strncmp(value, prefixes[i], strlen(prefixes[i])) == 0 && value[strlen(prefixes[i])])
            return 0;
    return err_set(e, EX_CONFIG,
                   "\"%s\" is no check: use mysql, tcp:HOST:PORT, unix:PATH, http://…, dns:NAME, "
                   "exec:COMMAND, notify or fd:N",
                   value);
}

static int check_listen(const char *value, struct err *e) {
    const char *colon = strrchr(value, ':');
    int64_t port;
    return text_int(colon ? colon + 1 : value, 0, 65535, &port, NULL) == 0
               ? 0
               : err_set(e, EX_CONFIG, "\"%s\" is not HOST:PORT or :PORT", value);
}

// A word that begins with an unquoted ";": meant as a comment, it would become arguments.
static bool has_comment(const char *value) {
    char quote = 0;
    for (const char *p = value; *p; p++) {
        if (*p == '\\' && quote != '\'' && p[1])
            p++;
        else if (quote)
            quote = *p == quote ? 0 : quote;
        else if (*p == '"' || *p == '\'')
            quote = *p;
        else if (*p == ';' && (p == value || isspace((unsigned char)p[-1])))
            return true;
    }
    return false;
}

int schema_check(const struct schema_key *key, const char *value, struct err *e) {
    int64_t n;
    bool b;
    char **words;
    if (key->type != SCHEMA_TEXT && has_comment(value))
        return err_set(e, EX_CONFIG,
                       "\" ;\" begins no comment here: give a comment a line of its own (as an "
                       "argument, quote it)");
    switch (key->type) {
    case SCHEMA_TEXT:
    case SCHEMA_LIST:
        return 0;
    case SCHEMA_WORD:
        if (!*value)
            return err_set(e, EX_CONFIG, "is empty");
        return strpbrk(value, " \t\n")
                   ? err_set(e, EX_CONFIG, "\"%s\" is more than one word", value)
                   : 0;
    case SCHEMA_COMMAND:
        if (text_words(value, &words, e) < 0)
            return -1;
        n = words[0] != NULL;
        free(words);
        return n ? 0 : err_set(e, EX_CONFIG, "is empty: a command is missing");
    case SCHEMA_STOP:
        if (strcmp(value, "grace") == 0)
            return 0;
        __attribute__((fallthrough));
    case SCHEMA_DURATION:
        return text_duration(value, &n, e);
    case SCHEMA_SIZE:
        return text_size(value, &n, e);
    case SCHEMA_INT:
        return text_int(value, 0, INT32_MAX, &n, e);
    case SCHEMA_BOOL:
        return text_bool(value, &b, e);
    case SCHEMA_CHOICE:
        return check_choice(key, value, e);
    case SCHEMA_SIGNAL:
        return schema_signal(value) > 0 ? 0 : err_set(e, EX_CONFIG, "\"%s\" is no signal", value);
    case SCHEMA_CHECK:
        return check_ready(value, e);
    case SCHEMA_LISTEN:
        return check_listen(value, e);
    }
    return 0;
}

const char *schema_nearest_section(const char *section) {
    const char *list[sizeof sections / sizeof *sections + 1] = {0};
    for (unsigned i = 0; i < sizeof sections / sizeof *sections; i++)
        list[i] = sections[i].name;
    return text_nearest(section, list);
}

const char *schema_nearest_key(const char *section, const char *key) {
    const char *list[64];
    unsigned n = 0;
    for (const struct schema_key *k = schema_keys; k->section; k++)
        if (strcmp(k->section, section) == 0 && n < 63)
            list[n++] = k->key;
    list[n] = NULL;
    return text_nearest(key, list);
}
