// The child in the benchmarks of process 1:  kid WORD FILE [N…]
//   stamp-exec FILE CMD…   notes the time and execs CMD (the supervisor)
//   idle FILE              notes its first instruction and waits; ends at SIGTERM with 0
//   deaf FILE              as idle, but ignores SIGTERM
//   exit FILE CODE         ends at once
//   orphans FILE N         leaves N orphans that end together once FILE.go exists, then waits
//   lines FILE MB BATCH    once FILE.go exists writes MB of 120-byte lines, BATCH a write, then
//   waits read FILE, check FILE  reads stdin to its end; notes bytes, lines and (check) torn ones
// Every note is "word nanoseconds|number" of CLOCK_MONOTONIC, appended to FILE.
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    LINE = 120
};

static long long now_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static void note(const char *file, const char *word, long long n) {
    char text[64];
    int len = snprintf(text, sizeof text, "%s %lld\n", word, n);
    int fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0 || write(fd, text, len) != len)
        _exit(9);
    close(fd);
}

static void await_go(const char *file) {
    char go[4096];
    snprintf(go, sizeof go, "%s.go", file);
    while (access(go, F_OK) < 0)
        usleep(1000);
}

static void wait_for_term(const char *file) {
    sigset_t set;
    int sig;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    sigwait(&set, &sig);
    note(file, "term", now_ns());
    _exit(0);
}

static void orphans(const char *file, int n) {
    int hold[2], count = 0;
    if (pipe(hold) < 0)
        _exit(9);
    // One middle process makes them all, then ends: they become orphans of process 1.
    pid_t middle = fork();
    if (middle == 0) {
        for (int i = 0; i < n; i++) {
            pid_t pid = fork();
            if (pid < 0)
                break;
            if (pid == 0) {
                char c;
                close(hold[1]);
                _exit(read(hold[0], &c, 1) < 0);
            }
            count++;
        }
        note(file, "made", count);
        _exit(0);
    }
    waitpid(middle, NULL, 0);
    close(hold[0]);
    await_go(file);
    note(file, "end", now_ns());
    close(hold[1]); // end of file for all of them at once
    wait_for_term(file);
}

static void lines(const char *file, long mb, int batch) {
    char *block = malloc((size_t)batch * LINE);
    long long total = mb * 1000000LL / LINE;
    note(file, "first", now_ns());
    await_go(file);
    note(file, "begin", now_ns());
    for (long long i = 0; i < total; i += batch) {
        for (int j = 0; j < batch; j++) {
            char *p = block + (size_t)j * LINE;
            memset(p, 'a' + (int)((i + j) % 26), LINE - 1);
            p[LINE - 1] = '\n';
        }
        size_t left = (size_t)batch * LINE;
        for (char *p = block; left;) {
            ssize_t w = write(1, p, left);
            if (w < 0)
                _exit(9);
            p += w;
            left -= w;
        }
    }
    note(file, "written", now_ns());
    wait_for_term(file);
}

// The longest run of one character in a line.
static long longest_run(const char *p, const char *end) {
    long best = 0;
    for (const char *q; p < end; p = q) {
        for (q = p; q < end && *q == *p; q++)
            ;
        if (q - p > best)
            best = q - p;
    }
    return best;
}

// Counts bytes and lines; with check also the lines that hold a part of a line of `lines` only.
static void read_all(const char *file, bool check) {
    enum {
        ROOM = 4 << 20
    };
    char *buf = malloc(ROOM);
    size_t len = 0;
    long long bytes = 0, count = 0, torn = 0;
    ssize_t n;
    while ((n = read(0, buf + len, ROOM - len)) > 0) {
        bytes += n;
        len += n;
        char *p = buf, *end;
        while ((end = memchr(p, '\n', buf + len - p))) {
            count++;
            if (check) {
                long run = longest_run(p, end);
                torn += (run > 8 && run != LINE - 1) || end - p > 3 * LINE;
            }
            p = end + 1;
        }
        len = buf + len - p;
        memmove(buf, p, len);
        if (len == ROOM)
            len = 0;
    }
    note(file, "read", now_ns());
    note(file, "bytes", bytes);
    note(file, "lines", count);
    note(file, "torn", torn);
}

int main(int argc, char **argv) {
    if (argc < 3)
        return 2;
    const char *word = argv[1], *file = argv[2];
    if (strcmp(word, "stamp-exec") == 0) {
        note(file, "exec", now_ns());
        execvp(argv[3], argv + 3);
        return 127;
    }
    if (strcmp(word, "read") == 0 || strcmp(word, "check") == 0) {
        read_all(file, strcmp(word, "check") == 0);
        return 0;
    }
    if (strcmp(word, "lines") == 0 && argc > 4)
        lines(file, atol(argv[3]), atoi(argv[4]));
    note(file, "first", now_ns());
    if (strcmp(word, "exit") == 0 && argc > 3)
        return atoi(argv[3]);
    if (strcmp(word, "orphans") == 0 && argc > 3)
        orphans(file, atoi(argv[3]));
    if (strcmp(word, "deaf") == 0) {
        signal(SIGTERM, SIG_IGN);
        for (;;)
            pause();
    }
    wait_for_term(file);
}
