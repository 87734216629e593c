#include "base/file.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

int file_read(const char *path, size_t max_bytes, char **ret, size_t *ret_len, struct err *e) {
    autoclose int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return err_errno(e, errno == EACCES ? EX_NOPERM : EX_NOINPUT, "%s", path);
    size_t cap = 4096, len = 0;
    autofree char *data = malloc(cap);
    for (;;) {
        if (!data)
            return err_set(e, EX_OSERR, "%s: out of memory", path);
        ssize_t n = read(fd, data + len, cap - len - 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(e, EX_IOERR, "%s", path);
        if (n == 0)
            break;
        len += n;
        if (len > max_bytes)
            return err_set(e, EX_DATAERR, "%s: larger than %zu bytes", path, max_bytes);
        if (len + 1 < cap)
            continue;
        char *more = realloc(data, cap *= 2);
        if (!more)
            return err_set(e, EX_OSERR, "%s: out of memory", path);
        data = more;
    }
    data[len] = 0;
    *ret = take_ptr(&data);
    if (ret_len)
        *ret_len = len;
    return 0;
}

int file_secret(const char *path, char **ret, struct err *e) {
    enum {
        LONGEST_SECRET = 64 << 10
    };
    size_t len;
    if (file_read(path, LONGEST_SECRET, ret, &len, e) < 0)
        return -1;
    while (len && ((*ret)[len - 1] == '\n' || (*ret)[len - 1] == '\r'))
        (*ret)[--len] = 0;
    return 0;
}

static int sync_folder(const char *path) {
    char dir[4096];
    snprintf(dir, sizeof dir, "%s", path);
    char *slash = strrchr(dir, '/');
    if (slash == dir)
        slash[1] = 0;
    else if (slash)
        *slash = 0;
    else
        strcpy(dir, ".");
    autoclose int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -1 : fsync(fd);
}

int file_replace(const char *path, const void *data, size_t len, mode_t mode, int durable,
                 struct err *e) {
    char temporary[4096];
    if (snprintf(temporary, sizeof temporary, "%s.%d.tmp", path, getpid()) >= (int)sizeof temporary)
        return err_set(e, EX_CANTCREAT, "%s: name too long", path);
    autoclose int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0)
        return err_errno(e, EX_CANTCREAT, "%s", temporary);
    if (file_write(fd, data, len) < 0 || (durable && fsync(fd) < 0) ||
        rename(temporary, path) < 0 || (durable && sync_folder(path) < 0)) {
        err_errno(e, EX_IOERR, "%s", path);
        unlink(temporary);
        return -1;
    }
    return 0;
}

int file_write(int fd, const void *data, size_t len) {
    const char *p = data;
    while (len) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        p += n;
        len -= n;
    }
    return 0;
}
