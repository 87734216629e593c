// Temporaries that clean themselves up when their scope ends (GCC's cleanup attribute).
//
//     autoclose int fd = open(…);   autofree char *text = NULL;   autofile FILE *f = fopen(…);
//     return take_fd(&fd);          // hand it on instead
#ifndef BASE_CLEANUP_H
#define BASE_CLEANUP_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_fd(int *fd) {
    if (*fd >= 0)
        close(*fd);
}

static inline void cleanup_ptr(void *p) {
    free(*(void **)p);
}

static inline void cleanup_file(FILE **f) {
    if (*f)
        fclose(*f);
}

#define autoclose __attribute__((cleanup(cleanup_fd)))
#define autofree  __attribute__((cleanup(cleanup_ptr)))
#define autofile  __attribute__((cleanup(cleanup_file)))

// Give up ownership of *fd to the caller.
static inline int take_fd(int *fd) {
    int f = *fd;
    *fd = -1;
    return f;
}

// Give up ownership of *p to the caller.
#define take_ptr(p)                                                                                \
    ({                                                                                             \
        __typeof__(*(p)) taken_ = *(p);                                                            \
        *(p) = NULL;                                                                               \
        taken_;                                                                                    \
    })

#endif
