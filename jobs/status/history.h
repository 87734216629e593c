// What each service has used over time: peaks and percentiles, in a few kilobytes however long it
// runs. Kept in memory, written to a small file now and then, read by `civinit report`.
//
// Memory and CPU are counted in histograms whose steps are 5 and 10 percent wide, weighted by the
// seconds that a sample stands for; after thirty days all weights are halved, so that the past
// fades.
#ifndef STATUS_HISTORY_H
#define STATUS_HISTORY_H

#include "base/err.h"
#include "status/view.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    HISTORY_SERIES = 64, // services that are remembered
    HISTORY_MEMORY = 256,
    HISTORY_CPU = 128,
};

struct history_series {
    char name[64];
    int64_t memory_peak, memory_peak_ms; // bytes, and when
    int64_t cpu_peak;                    // thousandths of a core, between two samples
    int64_t processes_peak;
    int64_t per_process_peak;                          // bytes: the most that a single process took
    uint32_t memory[HISTORY_MEMORY], cpu[HISTORY_CPU]; // seconds
    // Of the last look at it; not in the file.
    int64_t pid, raw_cpu_ms, cpu_ms, sample_cpu_ms;
};

struct history {
    struct history_series *series; // HISTORY_SERIES of them; [0] is the whole container
    size_t n;
    int64_t since_ms, updated_ms; // the time that it covers
    int64_t seconds;              // how much of it was watched
    int64_t sampled_ms;           // monotonic: of the last sample
};

// Empty; -1: out of memory.
int history_init(struct history *h, int64_t now_ms);
void history_free(struct history *h);

// Replaces the CPU time of each service in v by one that never falls while this program lives
// (the time of an ended process that nobody waited for is gone from /proc).
void history_steady_cpu(struct history *h, struct view *v);

// Takes v as a sample, unless the last one is younger than ten seconds. After history_steady_cpu.
// mono_ms is now on the monotonic clock.
void history_add(struct history *h, const struct view *v, int64_t mono_ms);

// The memory (bytes) or CPU (thousandths of a core) that the series stayed under for so many
// thousandths of the time; -1: no samples.
int64_t history_memory(const struct history_series *s, int per_mille);
int64_t history_cpu(const struct history_series *s, int per_mille);

// Text, replaced as a whole; and read back into an initialised h. A file that is damaged or of
// another version is an error, and h stays as it was.
int history_write(const struct history *h, const char *path, struct err *e);
int history_read(struct history *h, const char *path, struct err *e);

#endif
