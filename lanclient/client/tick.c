/*
 * Tasks of the client by the clock: acknowledgements, request time-outs, the deadline of a pending
 * link, and the release of idle memory. They run on any worker of the network, one tick at a time.
 */
#include <assert.h>

#include "core/base/invariant.h"
#include "core/packet/packet_internal.h"
#include "lanclient/client/client.h"
#include "twinport/log.h"

/* A delivery waits less than two ticks for its acknowledgement, and each may begin 10 ms late: at
 * most TP_BUS_ACK_MS. */
#define TICK_MS 15u

static void tick_run(void *context);

/*
 * A thread that creates work for the tick creates it first and arms the tick then; the tick clears
 * the flag first and looks for work then. Both exchange the same flag, so one sees the other: the
 * work is found by this tick, or arms the next one.
 */
void tp__tick_arm(tp_lanclient *client) {
    if (atomic_exchange_explicit(&client->tick_armed, true, memory_order_acq_rel)) {
        return;
    }
    tp_err error = tp_server_post(client->network, TICK_MS, tick_run, client);
    if (error) {
        atomic_exchange_explicit(&client->tick_armed, false, memory_order_acq_rel);
        if (error != TP_ERR_STATE) {
            TP_LOG(TP_LOG_WARNING, "lanclient %s: time-outs delayed: %s", client->service,
                tp_err_text(error));
        }
    }
}

tp_err tp__tick_start(tp_lanclient *client) {
    atomic_store(&client->tick_armed, true);
    return tp_server_post(client->network, TICK_MS, tick_run, client);
}

void tp__tick_processed(tp_lanclient *client) {
    uint32_t processed = atomic_load_explicit(&client->processed, memory_order_relaxed) + 1;
    atomic_store_explicit(&client->processed, processed, memory_order_release);
    uint32_t acknowledged = atomic_load_explicit(&client->acknowledged, memory_order_relaxed);
    assert(client->ack_messages > 0);
    if (TP_UNLIKELY((processed - acknowledged) % client->ack_messages == 0)) {
        tp__lanclient_ack(client);
    }
    tp__tick_arm(client);
}

/* Sends an ACK if deliveries have been unacknowledged since the previous tick. True: another tick
 * must check. */
static bool tick_acknowledge(tp_lanclient *client) {
    tp_mutex_lock(&client->mutex);
    uint32_t processed = atomic_load_explicit(&client->processed, memory_order_acquire);
    uint32_t acknowledged = atomic_load_explicit(&client->acknowledged, memory_order_relaxed);
    bool unacknowledged = processed != acknowledged;
    /* The previous tick's count is ahead of `acknowledged`, modulo 2^32. */
    bool old = unacknowledged && client->processed_at_tick - acknowledged - 1 < UINT32_MAX / 2;
    client->processed_at_tick = processed;
    TP__VERIFY(tp__lanclient_check(client));
    tp_mutex_unlock(&client->mutex);
    if (old) {
        tp__lanclient_ack(client);
    }
    return unacknowledged;
}

static bool tick_time_out_requests(tp_lanclient *client, uint64_t now_ms) {
    tp__request request;
    while (tp__requests_take_due(&client->requests, now_ms, &request)) {
        tp__request_answer(client, &request, TP_ERR_TIMED_OUT, NULL, NULL);
    }
    return tp__requests_open(&client->requests) > 0;
}

static void tick_run(void *context) {
    tp_lanclient *client = context;
    uint64_t now = tp__lanclient_now_ms(client);
    atomic_exchange_explicit(&client->tick_armed, false, memory_order_acq_rel);
    bool more = tick_acknowledge(client);
    more |= tick_time_out_requests(client, now);
    more |= tp__link_watch(client);
    if (more) {
        tp__tick_arm(client);
    }
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* A number that changes with every message sent or received. */
static uint64_t trim_activity(tp_lanclient *client) {
    tp_mutex_lock(&client->mutex);
    uint64_t sent = client->sent;
    tp_mutex_unlock(&client->mutex);
    return sent + atomic_load_explicit(&client->received, memory_order_relaxed);
}

static void trim_client(tp_lanclient *client) {
    tp__requests_trim(&client->requests);
    tp_mutex_lock(&client->mutex);
    tp__unconfirmed_trim(&client->unconfirmed);
    tp_mutex_unlock(&client->mutex);
    tp__packets_trim();
    tp__count_shared(&client->trims, 1);
}

/* Trims once in each idle period. */
static void trim_check(void *context) {
    tp_lanclient *client = context;
    uint64_t now = trim_activity(client);
    bool idle = now == client->trim_seen;
    if (idle && !client->trimmed) {
        trim_client(client);
    }
    client->trimmed = idle;
    client->trim_seen = now;
    tp__trim_start(client);
}

void tp__trim_start(tp_lanclient *client) {
    unsigned period = client->options.idle_trim_ms;
    if (period == 0) {
        return;
    }
    assert(client->network);
    tp_err error = tp_server_post(client->network, period, trim_check, client);
    if (error && error != TP_ERR_STATE) {
        TP_LOG(TP_LOG_WARNING, "lanclient %s: idle trim stopped: %s", client->service,
            tp_err_text(error));
    }
}
