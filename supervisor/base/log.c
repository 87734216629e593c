#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *program = "civinit";
static enum log_level shown = LOG_INFO;
static int out = 2;
static ssize_t (*write_line)(int fd, const void *data, size_t len) = write;
static const char *const names[] = {"error", "warning", "notice", "info", "debug"};

void log_init(const char *name) {
    program = name;
    const char *want = getenv("CIVINIT_LOG");
    for (unsigned i = 0; want && i < sizeof names / sizeof *names; i++)
        if (strcmp(want, names[i]) == 0)
            shown = i;
}

void log_to(int fd) {
    out = fd;
}

void log_writer(ssize_t (*writer)(int fd, const void *data, size_t len)) {
    write_line = writer ? writer : write;
}

void log_msg(enum log_level level, const char *fmt, ...) {
    if (level > shown)
        return;
    int saved = errno;
    char line[2048];
    int n = snprintf(line, sizeof line, "%s: %s: ", program, names[level]);
    va_list ap;
    va_start(ap, fmt);
    int m = vsnprintf(line + n, sizeof line - n - 1, fmt, ap);
    va_end(ap);
    size_t len = n + (m < 0 ? 0 : (size_t)m);
    if (len > sizeof line - 2)
        len = sizeof line - 2;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = '?';
    line[len++] = '\n';
    while (write_line(out, line, len) < 0 && errno == EINTR)
        ;
    errno = saved;
}
