#include "version.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

// One part of a version: its rank (end < alpha < beta < RC < number) and number.
struct part {
    int rank;
    long number;
};

static struct part next_part(const char **text) {
    static const char *const words[] = {"alpha", "beta", "rc"};
    const char *p = *text;
    struct part got = {0};
    p += strspn(p, ".-+");
    *text = p;
    if (!*p)
        return got;
    if (isdigit((unsigned char)*p)) {
        got = (struct part){4, strtol(p, (char **)&p, 10)};
    } else {
        for (int i = 0; i < 3; i++)
            if (strncasecmp(p, words[i], strlen(words[i])) == 0)
                got.rank = i + 1;
        while (*p && !isdigit((unsigned char)*p) && !strchr(".-+", *p))
            p++;
    }
    *text = p;
    return got;
}

int version_compare(const char *a, const char *b) {
    while (*a || *b) {
        struct part x = next_part(&a), y = next_part(&b);
        if (x.rank != y.rank)
            return x.rank < y.rank ? -1 : 1;
        if (x.number != y.number)
            return x.number < y.number ? -1 : 1;
    }
    return 0;
}

char *version_of_xml(const char *xml) {
    static const char tag[] = "<version_no>";
    const char *at = strstr(xml, tag);
    if (!at)
        return NULL;
    at += strlen(tag);
    at += strspn(at, " \t\r\n");
    size_t n = strcspn(at, "< \t\r\n");
    return n ? strndup(at, n) : NULL;
}
