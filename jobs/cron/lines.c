#include "cron/lines.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>

size_t lines_room(struct lines *l, char **ret_where) {
    *ret_where = l->data + l->len;
    return sizeof l->data - l->len;
}

// The length of the next piece to write, without its newline; *ret_used: with it. False: wait
// for more.
static bool next_piece(const struct lines *l, bool end, size_t *ret_len, size_t *ret_used) {
    size_t most = PIPE_BUF - strlen(l->tag) - 1;
    const char *newline = memchr(l->data, '\n', l->len);
    size_t n = newline ? (size_t)(newline - l->data) : l->len;
    *ret_len = n;
    *ret_used = newline ? n + 1 : n;
    if (n > most) {
        for (n = most; n > most - 3 && ((unsigned char)l->data[n] & 0xC0) == 0x80;)
            n--; // not within a character
        *ret_len = *ret_used = n;
        return true;
    }
    return newline || (end && n);
}

// A line longer than a piece is looked at piece by piece.
static void look(struct lines_search *s, const char *piece, size_t len) {
    char text[PIPE_BUF + 1];
    if (!s || s->found)
        return;
    memcpy(text, piece, len);
    while (len && (text[len - 1] == ' ' || text[len - 1] == '\r'))
        len--;
    text[len] = 0;
    s->found = regexec(&s->pattern, text, 0, NULL, 0) == 0;
    if (s->found)
        snprintf(s->line, sizeof s->line, "%s", text + strspn(text, " \t"));
}

static void flush(struct lines *l, bool end) {
    size_t len, used;
    l->blocked = false;
    while (next_piece(l, end, &len, &used)) {
        struct iovec v[3] = {{(char *)l->tag, strlen(l->tag)}, {l->data, len}, {(char *)"\n", 1}};
        ssize_t n = writev(l->target, v, 3);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            l->blocked = true;
            return;
        }
        look(l->search, l->data, len);
        l->len -= used; // written; or nobody reads any more
        memmove(l->data, l->data + used, l->len);
    }
}

void lines_push(struct lines *l, size_t n) {
    l->len += n;
    flush(l, false);
}

void lines_end(struct lines *l) {
    flush(l, true);
}

int lines_target(int fd) {
    struct stat st;
    char path[32];
    if (fstat(fd, &st) < 0)
        return -1;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int own = S_ISFIFO(st.st_mode) ? open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC) : -1;
    return own >= 0 ? own : fcntl(fd, F_DUPFD_CLOEXEC, 3);
}
