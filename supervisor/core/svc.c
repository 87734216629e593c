#include "core/svc.h"

#define GO(to, what)                                                                               \
    { SVC_##to, (what), true }

// Empty cells: the event means nothing there.
static const struct svc_step table[SVC_STATES][SVC_EVENTS] =
    {
        [SVC_DOWN] =
            {
                [SVC_START] = GO(STARTING, SVC_SPAWN),
            },
        [SVC_STARTING] =
            {
                [SVC_IS_READY] = GO(READY, 0),
                [SVC_STOP] = GO(STOPPING, SVC_TERM | SVC_ARM_STOP),
                [SVC_LEAVES] = GO(STOPPING, SVC_ARM_STOP),
                [SVC_LEFTOVER] = GO(STOPPING, SVC_TERM | SVC_ARM_STOP),
                [SVC_AGAIN] = GO(BACKOFF, SVC_FORGET | SVC_ARM_AGAIN),
                [SVC_ENDED] = GO(DOWN, SVC_FORGET),
                [SVC_FINISHED] = GO(DONE, SVC_FORGET),
                [SVC_GAVE_UP] = GO(FAILED, SVC_FORGET),
            },
        [SVC_READY] =
            {
                [SVC_STOP] = GO(STOPPING, SVC_TERM | SVC_ARM_STOP),
                [SVC_LEAVES] = GO(STOPPING, SVC_ARM_STOP),
                [SVC_LEFTOVER] = GO(STOPPING, SVC_TERM | SVC_ARM_STOP),
                [SVC_AGAIN] = GO(BACKOFF, SVC_FORGET | SVC_ARM_AGAIN),
                [SVC_ENDED] = GO(DOWN, SVC_FORGET),
                [SVC_FINISHED] = GO(DONE, SVC_FORGET),
                [SVC_GAVE_UP] = GO(FAILED, SVC_FORGET),
            },
        [SVC_STOPPING] =
            {
                [SVC_LATE] = GO(STOPPING, SVC_KILL),
                // The stop timeout goes on: the rest gets no more time than the whole.
                [SVC_LEFTOVER] = GO(STOPPING, SVC_TERM),
                [SVC_AGAIN] = GO(BACKOFF, SVC_FORGET | SVC_ARM_AGAIN),
                [SVC_ENDED] = GO(DOWN, SVC_FORGET),
                [SVC_FINISHED] = GO(DONE, SVC_FORGET),
                [SVC_GAVE_UP] = GO(FAILED, SVC_FORGET),
            },
        [SVC_BACKOFF] =
            {
                // Not at once to starting: what it comes after may have gone meanwhile.
                [SVC_WAITED] = GO(DOWN, 0),
                [SVC_STOP] = GO(DOWN, SVC_FORGET),
                [SVC_RESET] = GO(DOWN, SVC_FORGET),
            },
        [SVC_FAILED] = {[SVC_RESET] = GO(DOWN, 0)},
        [SVC_DONE] = {[SVC_RESET] = GO(DOWN, 0)},
};

struct svc_step svc_step(enum svc_state state, enum svc_event event) {
    struct svc_step s = table[state][event];
    if (!s.moved)
        s.next = state;
    return s;
}

bool svc_alive(enum svc_state state) {
    return state == SVC_STARTING || state == SVC_READY || state == SVC_STOPPING;
}

const char *svc_name(enum svc_state state) {
    static const char *const names[SVC_STATES] = {"down",    "starting", "ready", "stopping",
                                                  "backoff", "failed",   "done"};
    return names[state];
}
