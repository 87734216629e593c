// One readiness question and its answer.
#ifndef PROBE_PROBE_H
#define PROBE_PROBE_H

#include "base/err.h"
#include "common/db.h"
#include "common/mail.h"
#include "common/obstacle.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

enum probe_kind {
    PROBE_MYSQL,
    PROBE_HTTP,
    PROBE_TCP,
    PROBE_UNIX,
    PROBE_SMTP,
    PROBE_IMAP,
    PROBE_DNS,
    PROBE_EXEC,
};

struct probe;

// Asks once, for at most timeout_ms. 0: yes. -1: e says why not, *ret_why of what kind. May block
// for as long as libraries like: probe_ask keeps the time.
typedef int probe_try(const struct probe *p, enum obstacle *ret_why, struct err *e);

struct probe {
    enum probe_kind kind;
    probe_try *try;
    char where[256];          // the target for messages, without secrets
    const char *target;       // of all kinds but mysql and exec
    int64_t timeout_ms;       // of one try
    struct db_options db;     // mysql
    const char *query;        // mysql: must give a row
    struct mail_account mail; // smtp, imap
    const char *ca;           // http
    int status_min, status_max;
    char *const *command; // exec: argv
    // Told while probe_wait goes on, now and then when e has changed; may be NULL.
    void (*not_yet)(const struct probe *p, const struct err *e);
};

// The kind of a word ("mysql"), -1: none.
int probe_kind_of(const char *word);

// p->try, but gone after timeout_ms whatever a library does: in a child process, unless the
// kind of question needs none.
int probe_ask(const struct probe *p, enum obstacle *ret_why, struct err *e);

// Asks until the answer is yes or wait_ms are over (0: once): quickly at first, calmly later. A
// wrong configuration ends it at once. *ret_ms: how long it took.
int probe_wait(const struct probe *p, int64_t wait_ms, int64_t *ret_ms, struct err *e);

// How long to pause after a try that failed so, `elapsed_ms` after the first one. local: the
// target is on this machine, where a try costs next to nothing.
int64_t probe_pause(enum obstacle why, int64_t elapsed_ms, bool local);

// net.c: "HOST:PORT" and "[V6]:PORT" taken apart, in place. -1: not of that form.
int net_split(char *text, char **ret_host, char **ret_port);

// The address in a numeric target of tcp, or of a unix socket. 0; -1: it has a name or no form.
struct net_address {
    struct sockaddr_storage sa;
    socklen_t len;
};
int net_numeric(const char *host, const char *port, struct net_address *ret);
int net_unix(const char *path, struct net_address *ret, struct err *e);

// Whether the address is on this machine.
bool net_is_local(const struct net_address *a);

// Connects and closes again. -1 with *ret_why and e; `where` names the address in e.
int net_connect(const struct net_address *a, int64_t timeout_ms, const char *where,
                enum obstacle *ret_why, struct err *e);

probe_try try_tcp, try_unix, try_dns;
probe_try try_web;  // http:// without libcurl
probe_try try_exec; // keeps its own time: kills the command's process group

// Whether a status is among those that mean yes.
int web_verdict(const struct probe *p, int status, enum obstacle *ret_why, struct err *e);

// The words of the command line, before they are understood.
struct line {
    int64_t wait_ms, timeout_ms;
    const char *config, *user, *password_file, *ca, *tls, *database, *query, *status;
    bool verbose, help, version;
    const char *kind;
    char *target;
    char **rest; // the words after KIND
};

// The kinds that need libraries: mysql, smtp, imap, https. Loading libmysqlclient and libcurl
// costs ten times as much as all else, so they live in a program of their own, civinit-probe-login,
// which civinit-probe becomes for them.
struct probe_libraries {
    // Fills p in from l; what p points to lives on.
    int (*prepare)(struct probe *p, struct line *l, struct err *e);
};

// The whole program; libraries NULL: becomes civinit-probe-login when they are needed.
int probe_main(int argc, char **argv, const struct probe_libraries *libraries);

#endif
