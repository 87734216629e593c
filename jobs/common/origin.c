// In a file of its own: programs that show a URL need not link libcurl.
#include "common/http.h"

#include <stdio.h>
#include <string.h>

const char *http_origin(const char *url, char *buf, size_t size) {
    const char *host = strstr(url, "://");
    host = host ? host + 3 : url;
    size_t len = strcspn(host, "/?#");
    const char *at = memrchr(host, '@', len);
    const char *from = at ? at + 1 : host;
    snprintf(buf, size, "%.*s%.*s", (int)(host - url), url, (int)(host + len - from), from);
    return buf;
}
