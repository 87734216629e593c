// next, list and check: what can be said without running anything.
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "cron/command.h"
#include "cron/helper.h"
#include "cron/job.h"
#include "cron/next.h"
#include "cron/sched.h"
#include "cron/state.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

// "2026-03-29T03:00:00+02:00", in the zone; with ".250" when it is not a whole second.
static const char *local_text(const struct zone *z, int64_t ms, char *buf, size_t size) {
    int64_t seconds = ms / 1000;
    int offset = zone_at(z, seconds).offset_s, month, day;
    int64_t local = seconds + offset, year;
    zone_date(local / 86400, &year, &month, &day);
    int of_day = (int)(local % 86400), minutes = abs(offset) / 60;
    char fraction[8] = "";
    if (ms % 1000)
        snprintf(fraction, sizeof fraction, ".%03d", (int)(ms % 1000));
    snprintf(buf, size, "%04lld-%02d-%02dT%02d:%02d:%02d%s%c%02d:%02d", (long long)year, month, day,
             of_day / 3600, of_day / 60 % 60, of_day % 60, fraction, offset < 0 ? '-' : '+',
             minutes / 60, minutes % 60);
    return buf;
}

// The seconds that "Z", "+02:00" or nothing (local time of z) stand for.
static bool parse_offset(const char *p, const struct zone *z, int64_t local_s, int64_t *ret_s) {
    int hours, minutes, used = 0;
    if (*p == 'Z' && !p[1])
        *ret_s = local_s;
    else if (sscanf(p, "%3d:%2d%n", &hours, &minutes, &used) == 2 && !p[used])
        *ret_s = local_s - (hours * 3600LL + (*p == '-' ? -minutes : minutes) * 60LL);
    else if (!*p)
        *ret_s = local_s - zone_at(z, local_s - zone_at(z, local_s).offset_s).offset_s;
    else
        return false;
    return true;
}

// "now", "+1d" (from base_ms), "2026-03-29", "2026-03-29T02:30[:00][Z|+01:00]".
static int parse_time(const char *text, const struct zone *z, int64_t base_ms, int64_t *ret_ms,
                      struct err *e) {
    int year, month, day, hour = 0, minute = 0, second = 0, used = 0;
    if (strcmp(text, "now") == 0) {
        *ret_ms = base_ms;
        return 0;
    }
    if (*text == '+') {
        if (text_duration(text + 1, ret_ms, e) < 0)
            return -1;
        *ret_ms += base_ms;
        return 0;
    }
    const char *p = text;
    int64_t s;
    bool good = sscanf(p, "%4d-%2d-%2d%n", &year, &month, &day, &used) == 3 && month >= 1 &&
                month <= 12 && day >= 1 && day <= 31;
    p += used;
    if (good && (*p == 'T' || *p == ' ')) {
        good = sscanf(p + 1, "%2d:%2d%n", &hour, &minute, &used) == 2;
        p += 1 + used;
        if (good && *p == ':' && sscanf(p + 1, "%2d%n", &second, &used) == 1)
            p += 1 + used;
    }
    if (!good || hour > 23 || minute > 59 || second > 60 ||
        !parse_offset(p, z,
                      zone_days(year, month, day) * 86400 + hour * 3600 + minute * 60 + second, &s))
        return err_set(e, EX_USAGE,
                       "\"%s\" is no time: use now, +1d, 2026-03-29 or 2026-03-29T02:30+01:00",
                       text);
    *ret_ms = s * 1000;
    return 0;
}

static int print_next(const struct jobs *j, char *const *names, int64_t from, int64_t until) {
    struct sched s;
    size_t i;
    char when[64];
    if (!sched_init(&s, j->n))
        return EX_OSERR;
    for (size_t k = 0; k < j->n; k++) {
        bool wanted = !*names;
        for (char *const *n = names; *n; n++)
            wanted |= strcmp(*n, j->v[k].name) == 0;
        if (wanted)
            sched_set(&s, k, job_next(&j->v[k], from - 1));
    }
    for (int64_t due; (due = sched_first(&s, &i)) < until;) {
        if (printf("%s %s\n", local_text(j->v[i].zone, due, when, sizeof when), j->v[i].name) < 0)
            break;
        sched_set(&s, i, job_next(&j->v[i], due));
    }
    sched_free(&s);
    return fflush(stdout) == 0 ? EX_OK : EX_IOERR;
}

static int unknown_names(const struct jobs *j, char *const *names) {
    for (; *names; names++)
        if (!jobs_find(j, *names))
            return command_usage("there is no job %s", *names);
    return 0;
}

int command_next(const char *config, int argc, char **argv) {
    static const struct option options[] = {
        {"from", required_argument, NULL, 'f'}, {"until", required_argument, NULL, 'u'}, {0}};
    const char *from_text = "now", *until_text = "+1d";
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
        if (c == 'f')
            from_text = optarg;
        else if (c == 'u')
            until_text = optarg;
        else
            return EX_USAGE;
    struct jobs j = {0};
    struct err e = {0};
    int64_t from, until;
    int rc = EX_OK;
    if (jobs_load_strict(&j, config, &e) < 0)
        rc = e.code;
    else if ((rc = unknown_names(&j, argv + optind)) == 0) {
        const struct zone *z = j.zone;
        if (parse_time(from_text, z, clock_wall_ms(), &from, &e) < 0 ||
            parse_time(until_text, z, from, &until, &e) < 0)
            rc = e.code;
        else
            rc = print_next(&j, argv + optind, from, until);
    }
    if (*e.text)
        log_error("%s", e.text);
    jobs_free(&j);
    return rc;
}

static const char *last_text(const struct record *r, char *buf, size_t size) {
    char when[40], took[32];
    if (!r->ran)
        return "never ran";
    snprintf(buf, size, "%s %.19sZ %s%s%s", result_word(r->last.result),
             clock_rfc3339(r->last.ended_ms, when, sizeof when),
             text_ms(r->last.ended_ms - r->last.started_ms, took, sizeof took),
             *r->last.reason ? ": " : "", r->last.reason);
    return buf;
}

static void print_table(const struct jobs *j, const struct state *s) {
    int width = 4, schedule = 8;
    for (size_t i = 0; i < j->n; i++) {
        int n = (int)strlen(j->v[i].name), m = j->v[i].schedule ? (int)strlen(j->v[i].schedule) : 0;
        width = n > width ? n : width;
        schedule = m > schedule ? m : schedule;
    }
    printf("%-*s  %-*s  %-29s  LAST\n", width, "NAME", schedule, "SCHEDULE", "NEXT");
    for (size_t i = 0; i < j->n; i++) {
        const struct job *job = &j->v[i];
        char when[64], last[1000];
        int64_t next = job_next(job, clock_wall_ms());
        printf("%-*s  %-*s  %-29s  %s\n", width, job->name, schedule,
               job->schedule ? job->schedule : "-",
               !job->enabled        ? "(not enabled)"
               : next == NEXT_NEVER ? "-"
                                    : local_text(job->zone, next, when, sizeof when),
               last_text(&s->records[i], last, sizeof last));
    }
    for (size_t i = 0; i < j->n; i++)
        if (j->v[i].automatic)
            printf("%s: command = auto: %s\n", j->v[i].name,
                   *s->records[i].last.choice ? s->records[i].last.choice
                                              : "chosen when it first runs");
}

static int print_json(const struct jobs *j, const struct state *s) {
    autobuf struct buf out = {0}, backlog = {0};
    struct watcher w;
    struct err e;
    if (j->database && watcher_init(&w, "", &e) == 0)
        helper_backlog(j, &w, &backlog);
    state_json(s, j, backlog.data, &out);
    if (out.failed)
        return EX_OSERR;
    fputs(out.data, stdout);
    return EX_OK;
}

int command_list(const char *config, int argc, char **argv) {
    static const struct option options[] = {{"json", no_argument, NULL, 'j'}, {0}};
    bool json = false;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
        if (c == 'j')
            json = true;
        else
            return EX_USAGE;
    if (argv[optind])
        return command_usage("list takes no \"%s\"", argv[optind]);
    struct jobs j = {0};
    struct state s = {0};
    struct err e = {0};
    int rc = EX_OK;
    if (jobs_load_strict(&j, config, &e) < 0 || state_load(&s, &j, &e) < 0) {
        log_error("%s", e.text);
        rc = e.code;
    } else if (json)
        rc = print_json(&j, &s);
    else
        print_table(&j, &s);
    if (rc == EX_OK && fflush(stdout) != 0)
        rc = EX_IOERR;
    state_free(&s);
    jobs_free(&j);
    return rc;
}

int command_check(const char *config, int argc, char **argv) {
    if (argc > 1)
        return command_usage("check takes no \"%s\"", argv[1]);
    struct jobs j = {0};
    struct err e = {0};
    int rc = EX_OK;
    if (jobs_load_strict(&j, config, &e) < 0) {
        log_error("%s", e.text);
        rc = e.code;
    } else
        printf("%s: %zu job%s, no problems\n", config, j.n, j.n == 1 ? "" : "s");
    jobs_free(&j);
    return rc;
}
