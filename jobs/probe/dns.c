// dns NAME              what programs see: hosts file, search list, resolver
// dns NAME/TYPE         a record of that type from the resolver
// dns NAME[/TYPE]@IP    asked of that server
#include "probe/probe.h"

#include "base/cleanup.h"

#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <netdb.h>
#include <netinet/in.h>
#include <resolv.h>
#include <string.h>
#include <sysexits.h>

static const struct {
    const char *word;
    int type;
} types[] = {
    {"A", ns_t_a},     {"AAAA", ns_t_aaaa}, {"CNAME", ns_t_cname}, {"MX", ns_t_mx},
    {"TXT", ns_t_txt}, {"SRV", ns_t_srv},   {"NS", ns_t_ns},       {"PTR", ns_t_ptr},
};

static int no_such(const char *what, const char *why, enum obstacle *ret_why, struct err *e) {
    *ret_why = OBSTACLE_NAME;
    return err_set(e, EX_UNAVAILABLE, "%s: %s: %s", obstacle_word(*ret_why), what, why);
}

static int as_programs_see(const char *name, enum obstacle *ret_why, struct err *e) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    int rc = getaddrinfo(name, NULL, &hints, &found);
    if (rc)
        return no_such(name, gai_strerror(rc), ret_why, e);
    freeaddrinfo(found);
    return 0;
}

static int set_server(res_state r, const char *ip, struct err *e) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(NAMESERVER_PORT)};
    autofree char *copy = strdup(ip);
    char *port = copy ? strchr(copy, ':') : NULL;
    if (!copy)
        return err_set(e, EX_OSERR, "out of memory");
    if (port) {
        *port++ = 0;
        a.sin_port = htons((uint16_t)strtoul(port, NULL, 10));
    }
    if (inet_pton(AF_INET, copy, &a.sin_addr) != 1)
        return err_set(e, EX_CONFIG, "\"%s\" is no IPv4 address of a name server", ip);
    r->nsaddr_list[0] = a;
    r->nscount = 1;
    return 0;
}

static int ask(const char *name, int type, const char *server, int64_t timeout_ms,
               enum obstacle *ret_why, struct err *e) {
    unsigned char answer[4096];
    struct __res_state r = {0};
    if (res_ninit(&r) < 0)
        return err_set(e, EX_OSERR, "the resolver's configuration cannot be read");
    int rc = server ? set_server(&r, server, e) : 0;
    if (rc == 0) {
        r.retrans = timeout_ms >= 2000 ? (int)(timeout_ms / 2000) : 1;
        r.retry = 2;
        int n = server ? res_nquery(&r, name, ns_c_in, type, answer, sizeof answer)
                       : res_nsearch(&r, name, ns_c_in, type, answer, sizeof answer);
        if (n < 0)
            rc = no_such(name, hstrerror(r.res_h_errno), ret_why, e);
    }
    res_nclose(&r);
    return rc;
}

static int by_record(const char *name, const char *word, const char *server, int64_t timeout_ms,
                     enum obstacle *ret_why, struct err *e) {
    if (!word && !server)
        return as_programs_see(name, ret_why, e);
    for (unsigned i = 0; i < sizeof types / sizeof *types; i++)
        if (strcasecmp(word ? word : "A", types[i].word) == 0)
            return ask(name, types[i].type, server, timeout_ms, ret_why, e);
    return err_set(e, EX_CONFIG, "\"%s\" is none of A, AAAA, CNAME, MX, TXT, SRV, NS, PTR", word);
}

int try_dns(const struct probe *p, enum obstacle *ret_why, struct err *e) {
    char name[NS_MAXDNAME];
    size_t size = strlen(p->target) + 1;
    if (size > sizeof name || strchr("/@", *p->target))
        return err_set(e, EX_CONFIG, "\"%s\" is no name", p->target);
    memcpy(name, p->target, size);
    char *server = strchr(name, '@');
    if (server)
        *server++ = 0;
    char *word = strchr(name, '/');
    if (word)
        *word++ = 0;
    return by_record(name, word, server, p->timeout_ms, ret_why, e);
}
