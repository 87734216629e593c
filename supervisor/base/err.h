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

// Sets e (which may be NULL: the error is dropped) and returns -1, for `return err_set(…)`.
// Control characters in the text become '?', so that input cannot forge log lines.
__attribute__((format(printf, 3, 4))) int err_set(struct err *e, int code, const char *fmt, ...);

// As err_set, with ": " and the text of errno appended.
__attribute__((format(printf, 3, 4))) int err_errno(struct err *e, int code, const char *fmt, ...);

// Puts "WHERE: " before the text of an error that is set. Returns -1.
__attribute__((format(printf, 2, 3))) int err_wrap(struct err *e, const char *fmt, ...);

#endif
