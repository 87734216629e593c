// What [forward] says: where records go, and how.
#ifndef FORWARD_SETTINGS_H
#define FORWARD_SETTINGS_H

#include "base/err.h"
#include "conf/conf.h"
#include "forward/queue.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    SETTINGS_SERVERS = 16 // at most
};

struct server {
    const char *host, *port;
    const char *shown; // "host:port", for messages
};

// All texts live in the configuration's arena.
struct settings {
    struct conf conf;
    struct server *servers;
    unsigned nservers;
    const char *tag, *instance;
    const char *shared_key_file, *user, *password_file; // NULL: none
    bool tls;
    const char *ca; // NULL: the system's
    size_t buffer;
    enum overflow overflow;
    int64_t flush_ms; // how long the end may take
    const char *run_dir;
    char host[256]; // this container's name
};

// Reads [forward] of a role's configuration. -1 with e (EX_CONFIG, or what reading a secret gave).
int settings_read(struct settings *s, const char *config, struct err *e);

void settings_free(struct settings *s);

#endif
