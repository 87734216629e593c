// Writes and checks numbered log lines, for tests and benchmarks of civinit-log.
//
//     loglines write NAME LINES [BURST [LENGTH]]   LINES lines to stdout, BURST in each write (64),
//                                                  LENGTH bytes each with the newline (120)
//     loglines repeat NAME LINES [BURST [LENGTH]]  the same, all bursts alike: costs next to
//     nothing loglines check NAME...                       reads civinit-log's text from stdin:
//     each line
//                                                  whole, each service's in order; prints the
//                                                  counts
//     loglines drain                               reads stdin to its end
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    LONGEST = 4096,
    SERVICES = 16
};

static void put(const char *data, size_t len) {
    for (size_t done = 0; done < len;) {
        ssize_t n = write(1, data + done, len - done);
        if (n <= 0)
            exit(74);
        done += (size_t)n;
    }
}

static void make_line(char *out, const char *name, long number, size_t length) {
    int n = snprintf(out, length, "%s line %09ld ", name, number);
    memset(out + n, "xyz"[number % 3], length - 1 - (size_t)n);
    out[length - 1] = '\n';
}

static int write_lines(int argc, char **argv, int alike) {
    long lines = atol(argv[3]), burst = argc > 4 ? atol(argv[4]) : 64;
    size_t length = argc > 5 ? (size_t)atol(argv[5]) : 120;
    char *data = malloc((size_t)burst * length);
    if (!data || length < 64 || length > LONGEST)
        return 64;
    for (long at = 0; at < lines;) {
        long n = lines - at < burst ? lines - at : burst;
        for (long i = 0; i < n && !(alike && at); i++)
            make_line(data + (size_t)i * length, argv[2], at + i, length);
        put(data, (size_t)n * length);
        at += n;
    }
    free(data);
    return 0;
}

// "TIME NAME stdout PID - NAME line 000000000 xxx"
static long check_line(const char *line, size_t len, char **names, long *next) {
    char service[64], said[64], want[LONGEST];
    long number;
    int at = 0;
    if (len < 25 || line[23] != 'Z' ||
        sscanf(line + 24, " %63s stdout %*s - %n%63s line %9ld", service, &at, said, &number) !=
            3 ||
        strcmp(service, said) != 0)
        return -1;
    for (int i = 0; names[i]; i++) {
        if (strcmp(names[i], service) != 0)
            continue;
        size_t rest = len - 24 - (size_t)at;
        if (number != next[i] || rest < 64 || rest > LONGEST)
            return -1;
        make_line(want, service, number, rest);
        if (memcmp(want, line + 24 + at, rest) != 0)
            return -1;
        return next[i]++;
    }
    return -1;
}

static int check(char **names) {
    char *line = NULL;
    size_t cap = 0;
    long next[SERVICES] = {0}, bad = 0;
    for (ssize_t n; (n = getline(&line, &cap, stdin)) > 0;) {
        if (check_line(line, (size_t)n, names, next) >= 0)
            continue;
        if (bad++ == 0)
            printf("bad: %s", line);
    }
    for (int i = 0; names[i]; i++)
        printf("%s %ld\n", names[i], next[i]);
    printf("bad %ld\n", bad);
    free(line);
    return bad ? 1 : 0;
}

static int drain(void) {
    static char bytes[1 << 20];
    while (read(0, bytes, sizeof bytes) > 0)
        ;
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 3 && strcmp(argv[1], "write") == 0)
        return write_lines(argc, argv, 0);
    if (argc > 3 && strcmp(argv[1], "repeat") == 0)
        return write_lines(argc, argv, 1);
    if (argc > 2 && argc - 2 <= SERVICES && strcmp(argv[1], "check") == 0)
        return check(argv + 2);
    if (argc == 2 && strcmp(argv[1], "drain") == 0)
        return drain();
    fputs("usage: loglines write|repeat NAME LINES [BURST [LENGTH]] | check NAME... | drain\n",
          stderr);
    return 64;
}
