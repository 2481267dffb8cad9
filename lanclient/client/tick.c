/*
 * What is due by the clock: confirmations, requests whose time has passed, a greeting that takes
 * too long, and memory that nobody has used for a while. Tasks of the network, on any worker, one
 * tick at a time.
 */
#include "core/packet/packet_internal.h"
#include "lanclient/client/client.h"
#include "twinport/log.h"

/* A delivery waits less than two ticks for its confirmation, and each may begin 10 ms late:
 * TP_BUS_ACK_MS at the most. */
#define TICK_MS 15u

static void tick(void *context);

/*
 * Whoever makes something to look after makes it first and arms then; the tick disarms first and
 * looks then. Both exchange the same flag, so one of them sees the other: what was made is looked
 * at, or arms anew.
 */
void tp__tick_arm(tp_lanclient *client) {
    if (atomic_exchange_explicit(&client->tick_armed, true, memory_order_acq_rel)) {
        return;
    }
    tp_err error = tp_server_post(client->network, TICK_MS, tick, client);
    if (error) {
        atomic_exchange_explicit(&client->tick_armed, false, memory_order_acq_rel);
        if (error != TP_ERR_STATE) {
            TP_LOG(TP_LOG_WARNING, "lanclient %s: time-outs may be late: %s", client->service,
                tp_err_text(error));
        }
    }
}

tp_err tp__tick_start(tp_lanclient *client) {
    atomic_store(&client->tick_armed, true);
    return tp_server_post(client->network, TICK_MS, tick, client);
}

void tp__tick_handled(tp_lanclient *client) {
    uint32_t handled = atomic_load_explicit(&client->handled, memory_order_relaxed) + 1;
    atomic_store_explicit(&client->handled, handled, memory_order_release);
    uint32_t told = atomic_load_explicit(&client->told, memory_order_relaxed);
    if (TP_UNLIKELY((handled - told) % client->ack_messages == 0)) {
        tp__lanclient_ack(client);
    }
    tp__tick_arm(client);
}

/* True: there are deliveries that another tick must look after. */
static bool confirm(tp_lanclient *client) {
    tp_mutex_lock(&client->mutex);
    uint32_t handled = atomic_load_explicit(&client->handled, memory_order_acquire);
    uint32_t told = atomic_load_explicit(&client->told, memory_order_relaxed);
    bool news = handled != told;
    bool old = news && client->swept - told - 1 < UINT32_MAX / 2; /* swept > told, modulo 2^32 */
    client->swept = handled;
    tp_mutex_unlock(&client->mutex);
    if (old) {
        tp__lanclient_ack(client);
    }
    return news;
}

static bool time_out(tp_lanclient *client, uint64_t now_ms) {
    tp__request request;
    while (tp__requests_take_due(&client->requests, now_ms, &request)) {
        tp__request_answer(client, &request, TP_ERR_TIMED_OUT, NULL, NULL);
    }
    return tp__requests_open(&client->requests) > 0;
}

static void tick(void *context) {
    tp_lanclient *client = context;
    uint64_t now = tp__lanclient_now_ms(client);
    atomic_exchange_explicit(&client->tick_armed, false, memory_order_acq_rel);
    bool more = confirm(client);
    more |= time_out(client, now);
    more |= tp__link_watch(client);
    if (more) {
        tp__tick_arm(client);
    }
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* What there was to do so far. */
static uint64_t activity(tp_lanclient *client) {
    tp_mutex_lock(&client->mutex);
    uint64_t sent = client->sent;
    tp_mutex_unlock(&client->mutex);
    return sent + atomic_load_explicit(&client->received, memory_order_relaxed);
}

static void trim(tp_lanclient *client) {
    tp__requests_trim(&client->requests);
    tp_mutex_lock(&client->mutex);
    tp__unconfirmed_trim(&client->unconfirmed);
    tp_mutex_unlock(&client->mutex);
    tp__packets_trim();
    tp__lanclient_count(&client->trims);
}

/* Once for each time of idleness. */
static void watch_idleness(void *context) {
    tp_lanclient *client = context;
    uint64_t now = activity(client);
    bool idle = now == client->trim_seen;
    if (idle && !client->trimmed) {
        trim(client);
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
    tp_err error = tp_server_post(client->network, period, watch_idleness, client);
    if (error && error != TP_ERR_STATE) {
        TP_LOG(TP_LOG_WARNING, "lanclient %s: memory is not given back any more: %s",
            client->service, tp_err_text(error));
    }
}
