// One error: an exit code of sysexits.h and one line of text, a fixed-size value on the caller's
// stack, so that it also works where nothing may be allocated.
//
// A function with more than one way to fail is `int f(…, struct err *e)`: 0, or -1 with e set.
// The caller adds where it happened with err_wrap.
#ifndef BASE_ERR_H
#define BASE_ERR_H

enum {
    ERR_TEXT = 1024
};

struct err {
    int code;            // exit code, sysexits.h; 0: no error
    char text[ERR_TEXT]; // one line, without newline and without secrets
};

// Sets e (which may be NULL: the error is dropped) and is -1, for `return err_set(…)`. A macro, so
// that analysers see the -1. Control characters in the text become '?', so that input cannot forge
// log lines.
#define err_set(e, code, ...)                                                                      \
    ({                                                                                             \
        err_put(e, code, __VA_ARGS__);                                                             \
        -1;                                                                                        \
    })

// As err_set, with ": " and the text of errno appended.
#define err_errno(e, code, ...)                                                                    \
    ({                                                                                             \
        err_put_errno(e, code, __VA_ARGS__);                                                       \
        -1;                                                                                        \
    })

// Puts "WHERE: " before the text of an error that is set; is -1.
#define err_wrap(e, ...)                                                                           \
    ({                                                                                             \
        err_put_where(e, __VA_ARGS__);                                                             \
        -1;                                                                                        \
    })

__attribute__((format(printf, 3, 4))) void err_put(struct err *e, int code, const char *fmt, ...);
__attribute__((format(printf, 3, 4))) void err_put_errno(struct err *e, int code, const char *fmt,
                                                         ...);
__attribute__((format(printf, 2, 3))) void err_put_where(struct err *e, const char *fmt, ...);

#endif
