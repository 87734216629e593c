#include "probe/notify.h"

#include "base/cleanup.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void notify_send(const char *text) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    const char *path = getenv("NOTIFY_SOCKET");
    size_t n = path ? strlen(path) : 0;
    if (n < 2 || n >= sizeof a.sun_path)
        return;
    memcpy(a.sun_path, path, n);
    socklen_t len = offsetof(struct sockaddr_un, sun_path) + n + 1;
    if (*path == '@') { // the abstract space: no name in the file system, no 0 at its end
        a.sun_path[0] = 0;
        len--;
    }
    autoclose int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0)
        sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&a, len);
}
