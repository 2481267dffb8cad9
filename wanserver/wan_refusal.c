/*
 * Counts and logs refused connections. Any thread. The log sites belong to the process, so all its
 * servers share the rate limit of one reason.
 */
#include "wanserver/wan_refusal.h"

#include <assert.h>
#include <stdio.h>

#include "core/log/refusal.h"
#include "wanserver/wan.h"

static const char *const texts[] = {
#define TEXT(name, counter, text) [TP__REFUSAL_##name] = text,
    TP__REFUSALS(TEXT)
#undef TEXT
};

static _Atomic uint64_t *counter_of(tp__wan *wan, tp__refusal why) {
    assert((unsigned)why < TP__REFUSAL_COUNT);
    _Atomic uint64_t *const counters[] = {
#define COUNTER(name, counter, text) [TP__REFUSAL_##name] = &wan->counter,
        TP__REFUSALS(COUNTER)
#undef COUNTER
    };
    return counters[why];
}

static tp_log_site sites[TP__REFUSAL_COUNT];

void tp__wan_refuse(tp__wan *wan, tp__refusal why, const tp_address *peer) {
    tp__count_shared(counter_of(wan, why), 1);
    tp__log_refusal(&sites[why], TP_LOG_INFO, tp__layer_server_name(wan->server), peer, texts[why]);
}

void tp__wan_refuse_with(
    tp__wan *wan, tp__refusal why, tp_log_level level, const tp_address *peer, const char *detail) {
    char reason[256];
    tp__count_shared(counter_of(wan, why), 1);
    (void)snprintf(reason, sizeof reason, "%s: %s", texts[why], detail);
    tp__log_refusal(&sites[why], level, tp__layer_server_name(wan->server), peer, reason);
}
