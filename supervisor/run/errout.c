#include "run/errout.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

// RWF_NOWAIT works on pipes since Linux 6.4, on sockets longer. Where it does not (terminals, older
// kernels), a line is written only if there is room: a pipe that poll(2) calls writable takes
// 4096 bytes, more than a line has.
static ssize_t write_now(int fd, const void *data, size_t len) {
    struct iovec io = {(void *)data, len};
    ssize_t n = pwritev2(fd, &io, 1, -1, RWF_NOWAIT);
    if (n >= 0 || (errno != EOPNOTSUPP && errno != ENOSYS))
        return n;
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    if (poll(&p, 1, 0) == 1 && (p.revents & POLLOUT))
        return write(fd, data, len);
    errno = EAGAIN;
    return -1;
}

void errout_use(struct sup *s) {
    struct stat st;
    log_to(2);
    // A file does not stall, and would refuse RWF_NOWAIT now and then.
    log_writer(fstat(2, &st) == 0 && S_ISREG(st.st_mode) ? NULL : write_now);
}
