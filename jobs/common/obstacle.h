// Why a server could not be used: the few causes that people act on differently.
#ifndef COMMON_OBSTACLE_H
#define COMMON_OBSTACLE_H

enum obstacle {
    OBSTACLE_NONE,
    OBSTACLE_NAME,      // the host's name is not found
    OBSTACLE_REFUSED,   // nobody listens there, or no route leads there
    OBSTACLE_TIMEOUT,   // somebody might be there, but does not answer
    OBSTACLE_TLS,       // no TLS, or a certificate that does not verify
    OBSTACLE_DENIED,    // the account or its password is not accepted
    OBSTACLE_NOT_READY, // a server answers, but cannot serve yet (starting, router without server)
    OBSTACLE_OTHER,
};

// "name not found", "refused", "timed out", "TLS", "access denied", "not ready", "error".
const char *obstacle_word(enum obstacle o);

// The obstacle behind an errno of connect(2).
enum obstacle obstacle_of_errno(int number);

#endif
