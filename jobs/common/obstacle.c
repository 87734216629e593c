#include "common/obstacle.h"

#include <errno.h>

const char *obstacle_word(enum obstacle o) {
    switch (o) {
    case OBSTACLE_NONE:
        return "none";
    case OBSTACLE_NAME:
        return "name not found";
    case OBSTACLE_REFUSED:
        return "refused";
    case OBSTACLE_TIMEOUT:
        return "timed out";
    case OBSTACLE_TLS:
        return "TLS";
    case OBSTACLE_DENIED:
        return "access denied";
    case OBSTACLE_NOT_READY:
        return "not ready";
    case OBSTACLE_OTHER:
        break;
    }
    return "error";
}

enum obstacle obstacle_of_errno(int number) {
    switch (number) {
    case ECONNREFUSED:
    case ENOENT: // a unix socket that is not there
    case ENOTDIR:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ENETDOWN:
    case EHOSTDOWN:
        return OBSTACLE_REFUSED;
    case ETIMEDOUT:
    case EAGAIN: // a unix socket whose backlog is full
    case EINPROGRESS:
        return OBSTACLE_TIMEOUT;
    case EACCES:
    case EPERM:
        return OBSTACLE_DENIED;
    case ECONNRESET:
    case EPIPE:
        return OBSTACLE_NOT_READY;
    default:
        return OBSTACLE_OTHER;
    }
}
