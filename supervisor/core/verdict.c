#include "core/verdict.h"

bool verdict_ok(const struct verdict *v) {
    if (v->asked && !v->main)
        return true;
    if (v->failed_check)
        return false;
    if (v->asked && (v->signal == v->stop_signal || v->code == 128 + v->stop_signal))
        return true;
    if (v->signal)
        return false;
    for (unsigned i = 0; i < v->nsuccess; i++)
        if (v->success[i] == v->code)
            return true;
    return v->code == 0;
}

enum svc_event verdict_event(const struct verdict *v) {
    if (v->asked)
        return SVC_ENDED;
    if (v->policy != VERDICT_ALWAYS && verdict_ok(v))
        return SVC_FINISHED;
    // To wait as long again would only hide from the cluster what is missing.
    if (v->never_ready)
        return SVC_GAVE_UP;
    bool more = v->max_restarts == 0 || v->restarts < v->max_restarts;
    return v->policy != VERDICT_NEVER && more ? SVC_AGAIN : SVC_GAVE_UP;
}

int verdict_code(const struct verdict *v) {
    if (verdict_ok(v))
        return 0;
    return v->signal ? 128 + v->signal : v->code;
}
