#include "core/backoff.h"
#include "core/order.h"
#include "core/svc.h"
#include "core/verdict.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

// Every cell: where a process exists before and after, what is done must fit.
Test(svc, every_cell) {
    for (int s = 0; s < SVC_STATES; s++) {
        for (int v = 0; v < SVC_EVENTS; v++) {
            struct svc_step x = svc_step(s, v);
            char where[60];
            snprintf(where, sizeof where, "%s, event %d", svc_name(s), v);
            cr_expect(x.next >= 0 && x.next < SVC_STATES, "%s", where);
            if (!x.moved) {
                cr_expect(x.next == (enum svc_state)s && !x.actions, "%s", where);
                continue;
            }
            cr_expect(!(x.actions & SVC_SPAWN) == !(x.next == SVC_STARTING), "%s", where);
            cr_expect(!(x.actions & SVC_SPAWN) || !svc_alive(s), "%s: never two", where);
            cr_expect(!(x.actions & (SVC_TERM | SVC_KILL)) || (svc_alive(s) && svc_alive(x.next)),
                      "%s: signals need a process", where);
            bool ends = v == SVC_AGAIN || v == SVC_ENDED || v == SVC_FINISHED || v == SVC_GAVE_UP;
            cr_expect(!ends || svc_alive(s), "%s: an end needs a process", where);
            cr_expect(!svc_alive(s) || svc_alive(x.next) == !ends, "%s", where);
            cr_expect(!ends || (x.actions & SVC_FORGET), "%s", where);
            cr_expect(!(x.actions & SVC_ARM_AGAIN) == !(x.next == SVC_BACKOFF), "%s", where);
            cr_expect(!(x.actions & SVC_ARM_STOP) || (x.next == SVC_STOPPING && s != SVC_STOPPING),
                      "%s: the stop timeout starts once", where);
            cr_expect(x.next != SVC_STOPPING || s == SVC_STOPPING || (x.actions & SVC_ARM_STOP),
                      "%s: stopping always has a timeout", where);
        }
    }
}

// A service in a world that sends any event that can happen to it.
Test(svc, random_walks_keep_the_invariants) {
    unsigned seed = 7;
    bool wanted = true, process = false;
    int timers = 0; // 1 stop, 2 again
    enum svc_state state = SVC_DOWN;
    long spawns = 0, reached[SVC_STATES] = {0};
    for (int i = 0; i < 2000000; i++) {
        seed = seed * 1103515245 + 12345;
        enum svc_event v = seed / 65536 % SVC_EVENTS;
        if ((seed >> 28) == 0)
            wanted = !wanted;
        bool ends = v == SVC_AGAIN || v == SVC_ENDED || v == SVC_FINISHED || v == SVC_GAVE_UP;
        if ((ends || v == SVC_LEFTOVER) && !process)
            continue;
        if (v == SVC_START && !wanted)
            continue;
        if ((v == SVC_LATE && timers != 1) || (v == SVC_WAITED && timers != 2))
            continue;
        struct svc_step x = svc_step(state, v);
        if (ends)
            process = false;
        if (x.actions & SVC_SPAWN) {
            cr_assert(!process, "two processes");
            process = true;
            spawns++;
        }
        if (x.actions & SVC_FORGET)
            timers = 0;
        if (v == SVC_WAITED)
            timers = 0;
        if (x.actions & SVC_ARM_STOP)
            timers = 1;
        if (x.actions & SVC_ARM_AGAIN)
            timers = 2;
        state = x.next;
        reached[state]++;
        cr_assert(process == svc_alive(state), "state %s, process %d", svc_name(state), process);
        cr_assert((timers == 1) == (state == SVC_STOPPING));
        cr_assert((timers == 2) == (state == SVC_BACKOFF));
    }
    cr_expect(spawns > 1000);
    for (int s = 0; s < SVC_STATES; s++)
        cr_expect(reached[s] > 1000, "%s: %ld", svc_name(s), reached[s]);
}

// From any state, what is unwanted ends without a process.
Test(svc, unwanted_always_ends) {
    for (int s = 0; s < SVC_STATES; s++) {
        enum svc_state state = svc_step(s, SVC_STOP).next;
        cr_expect(state != SVC_STARTING && state != SVC_READY, "%s", svc_name(s));
        if (svc_alive(state))
            state = svc_step(svc_step(state, SVC_LATE).next, SVC_ENDED).next;
        cr_expect(!svc_alive(state) && state != SVC_BACKOFF, "%s", svc_name(s));
    }
}

Test(verdict, ends) {
    static const int two[] = {2};
    static const struct {
        struct verdict v;
        enum svc_event event;
        int code;
    } rows[] = {
        // The main service.
        {{.main = true, .policy = VERDICT_NEVER}, SVC_FINISHED, 0},
        {{.main = true, .policy = VERDICT_NEVER, .code = 37}, SVC_GAVE_UP, 37},
        {{.main = true, .policy = VERDICT_NEVER, .signal = 9}, SVC_GAVE_UP, 137},
        {{.main = true, .asked = true, .signal = SIGTERM, .stop_signal = SIGTERM}, SVC_ENDED, 0},
        {{.main = true, .asked = true, .code = 143, .stop_signal = SIGTERM}, SVC_ENDED, 0},
        {{.main = true, .asked = true, .code = 5, .stop_signal = SIGTERM}, SVC_ENDED, 5},
        {{.main = true, .asked = true, .signal = 9, .stop_signal = SIGTERM}, SVC_ENDED, 137},
        {{.main = true, .code = 143, .stop_signal = SIGTERM, .policy = VERDICT_NEVER},
         SVC_GAVE_UP,
         143},
        // A sidecar that was asked has succeeded, whatever it says.
        {{.asked = true, .code = 3}, SVC_ENDED, 0},
        {{.asked = true, .signal = 9}, SVC_ENDED, 0},
        // Policies and limits.
        {{.policy = VERDICT_ALWAYS}, SVC_AGAIN, 0},
        {{.policy = VERDICT_ALWAYS, .restarts = 9, .max_restarts = 10}, SVC_AGAIN, 0},
        {{.policy = VERDICT_ALWAYS, .restarts = 10, .max_restarts = 10}, SVC_GAVE_UP, 0},
        {{.policy = VERDICT_ON_FAILURE}, SVC_FINISHED, 0},
        {{.policy = VERDICT_ON_FAILURE, .code = 2}, SVC_AGAIN, 2},
        {{.policy = VERDICT_ON_FAILURE, .code = 2, .success = two, .nsuccess = 1}, SVC_FINISHED, 0},
        {{.policy = VERDICT_ON_FAILURE, .restarts = 1, .max_restarts = 1, .signal = 11},
         SVC_GAVE_UP,
         139},
        // Unhealthy is a failure, even if it obeys.
        {{.policy = VERDICT_ON_FAILURE, .failed_check = true}, SVC_AGAIN, 0},
        {{.policy = VERDICT_NEVER, .failed_check = true, .signal = 15, .stop_signal = 15},
         SVC_GAVE_UP,
         143},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        cr_expect(verdict_event(&rows[i].v) == rows[i].event, "row %u: %d", i,
                  verdict_event(&rows[i].v));
        cr_expect(verdict_code(&rows[i].v) == rows[i].code, "row %u: %d", i,
                  verdict_code(&rows[i].v));
    }
}

Test(backoff, doubles_to_its_limit) {
    static const int64_t want[] = {250, 500, 1000, 2000, 4000, 5000, 5000};
    for (int i = 0; i < 7; i++)
        cr_expect(backoff_ms(250, 5000, i) == want[i], "%d", i);
    cr_expect(backoff_ms(0, 5000, 100) == 0);
    cr_expect(backoff_ms(250, 5000, INT64_MAX) == 5000);
    cr_expect(backoff_ms(INT64_MAX / 2 + 9, INT64_MAX, 7) == INT64_MAX);
    cr_expect(!backoff_recovered(9999, 0) && backoff_recovered(10000, 0));
    cr_expect(!backoff_recovered(29999, 30000) && backoff_recovered(30000, 30000));
}

// Random graphs: sorted means each after what it comes after, and stable; with an edge back, a
// cycle is found that is one.
Test(order, random_graphs) {
    enum {
        N = 12
    };
    unsigned seed = 3;
    for (int round = 0; round < 3000; round++) {
        size_t after[N][N], order[N], depth[N], place[N];
        struct order_node nodes[N];
        for (size_t i = 0; i < N; i++) {
            nodes[i] = (struct order_node){after[i], 0};
            for (size_t j = 0; j < N; j++) {
                seed = seed * 1103515245 + 12345;
                bool back = round % 2 && j >= i;
                if (seed / 65536 % 8 == 0 && (back || (round % 2 == 0 && j * 5 % N < i * 5 % N)))
                    after[i][nodes[i].nafter++] = j;
            }
        }
        size_t cycle = order_sort(nodes, N, order);
        if (cycle) {
            cr_assert(round % 2);
            for (size_t k = 0; k < cycle; k++) {
                size_t next = order[(k + 1) % cycle];
                bool found = false;
                for (size_t j = 0; j < nodes[order[k]].nafter; j++)
                    found |= after[order[k]][j] == next;
                cr_assert(found, "not a cycle");
            }
            continue;
        }
        for (size_t i = 0; i < N; i++)
            place[order[i]] = i;
        order_depth(nodes, N, order, depth);
        for (size_t i = 0; i < N; i++)
            for (size_t j = 0; j < nodes[i].nafter; j++) {
                cr_assert(place[after[i][j]] < place[i]);
                cr_assert(depth[after[i][j]] < depth[i]);
            }
    }
    struct order_node none[3] = {{NULL, 0}, {NULL, 0}, {NULL, 0}};
    size_t order[3];
    cr_assert(order_sort(none, 3, order) == 0);
    cr_expect(order[0] == 0 && order[1] == 1 && order[2] == 2, "as they were");
}
