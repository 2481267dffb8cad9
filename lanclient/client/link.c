/*
 * The link to the hub: connecting, HELLO, coming up, loss, and the wait before the next attempt.
 *
 * Runs in the network's handlers and tasks, on any worker, one connection at a time: the next
 * attempt is scheduled only at the end of the previous one, so there is never more than one in
 * progress.
 */
#include <assert.h>
#include <string.h>

#include "core/base/invariant.h"
#include "lanclient/client/client.h"
#include "os/clock.h"
#include "os/compiler.h"
#include "os/error.h"
#include "os/random.h"
#include "proto/frame.h"
#include "twinport/log.h"

/* ---- attempts -------------------------------------------------------------------------------- */

/* Exponential back-off with full jitter: a random time between 0 and a bound that doubles up to
 * backoff_max_ms. */
static unsigned link_backoff_ms(const tp_lanclient_options *options, unsigned attempts) {
    assert(attempts > 0);
    uint64_t bound = options->backoff_min_ms;
    for (unsigned i = 1; i < attempts && bound < options->backoff_max_ms; i++) {
        bound *= 2;
    }
    if (bound > options->backoff_max_ms) {
        bound = options->backoff_max_ms;
    }
    uint32_t random;
    tp_random_bytes(&random, sizeof random);
    return (unsigned)(random % (bound + 1));
}

static void link_connect(void *context) {
    tp_lanclient *client = context;
    tp_mutex_lock(&client->mutex);
    bool stopping = tp__lifecycle_stopping(&client->lifecycle);
    client->state = TP__LINK_CONNECTING;
    tp_mutex_unlock(&client->mutex);
    if (stopping) {
        return;
    }
    tp_session_id session;
    tp_err error = tp_server_connect(client->network, &client->options.address, &session);
    if (error && error != TP_ERR_STATE) {
        TP_LOG(TP_LOG_WARNING, "lanclient %s: connect failed: %s", client->service,
            tp_err_text(error));
        tp__count_shared(&client->connect_failures, 1);
        tp__link_schedule(client, false);
    }
}

void tp__link_schedule(tp_lanclient *client, bool first) {
    tp_mutex_lock(&client->mutex);
    bool stopping = tp__lifecycle_stopping(&client->lifecycle);
    client->state = TP__LINK_WAITING;
    unsigned attempts = first ? 0 : ++client->attempts;
    tp_mutex_unlock(&client->mutex);
    if (stopping) {
        return;
    }
    /* Never without delay: the task table has a free entry for delayed tasks already. */
    unsigned delay = first ? 1 : 1 + link_backoff_ms(&client->options, attempts);
    tp_err error = tp_server_post(client->network, delay, link_connect, client);
    if (error && error != TP_ERR_STATE) {
        TP_LOG(TP_LOG_ERROR, "lanclient %s: connect not scheduled: %s", client->service,
            tp_err_text(error));
        tp_mutex_lock(&client->mutex);
        client->state = TP__LINK_STRANDED;
        tp_mutex_unlock(&client->mutex);
    }
}

/* ---- HELLO ----------------------------------------------------------------------------------- */

static tp_packet *link_hello_packet(const tp_lanclient *client) {
    tp_bus_header header = {.kind = TP_BUS_HELLO};
    tp_packet *packet = tp_packet_new(TP_BUS_HEADER + TP_BUS_HELLO_FIXED + 4 +
                                      strlen(client->service) + strlen(client->instance));
    if (packet) {
        tp_bus_write(tp_packet_put_space(packet, TP_BUS_HEADER), &header);
        tp_packet_put_u16(packet, TP_BUS_VERSION);
        tp_packet_put_u16(packet, 0);
        tp_packet_put_u32(packet, (uint32_t)client->options.max_frame);
        tp_packet_put_string(packet, client->service);
        tp_packet_put_string(packet, client->instance);
    }
    return packet;
}

void tp__link_on_join(tp_server *network, tp_session_id session) {
    tp_lanclient *client = tp_server_context(network);
    assert(session != TP_NO_SESSION && tp_lanclient_self(client) == TP_NO_PEER);
    tp_packet *hello = link_hello_packet(client);
    tp_mutex_lock(&client->mutex);
    client->session = session;
    client->state = TP__LINK_REGISTERING;
    tp__link_clock_follow(client);
    client->welcome_by_ms = tp__lanclient_now_locked(client) + client->options.connect_timeout_ms;
    tp_mutex_unlock(&client->mutex);
    if (!hello || !tp_server_send(network, session, hello)) {
        tp_server_disconnect(network, session);
    }
    tp_packet_release(hello);
    tp__tick_arm(client);
}

bool tp__link_watch(tp_lanclient *client) {
    tp_mutex_lock(&client->mutex);
    uint64_t now_ms = tp__lanclient_now_locked(client);
    bool pending = client->state == TP__LINK_REGISTERING || client->state == TP__LINK_ARRIVING;
    bool late = pending && now_ms >= client->welcome_by_ms;
    tp_session_id session = client->session;
    tp_mutex_unlock(&client->mutex);
    if (late) {
        TP_LOG(TP_LOG_WARNING, "lanclient %s: no WELCOME and peer list within %u ms",
            client->service, client->options.connect_timeout_ms);
        tp_server_disconnect(client->network, session);
    }
    return pending && !late;
}

/* ---- up -------------------------------------------------------------------------------------- */

static void link_go_up(tp_lanclient *client) {
    uint32_t self = client->self_given;
    assert(self != TP_NO_PEER && client->awaited == 0);
    tp_mutex_lock(&client->mutex);
    assert(client->state == TP__LINK_ARRIVING);
    client->state = TP__LINK_UP;
    client->up_since_ms = tp_clock_ms();
    atomic_store_explicit(&client->self, self, memory_order_release);
    TP__VERIFY(tp__lanclient_check(client));
    tp_mutex_unlock(&client->mutex);
    tp__count_shared(&client->connections, 1);
    if (client->handlers.on_up) {
        client->handlers.on_up(client, self);
    }
    tp_peer peer;
    for (size_t i = 0; client->handlers.on_peer_up && tp__peer_table_at(&client->peers, i, &peer);
         i++) {
        client->handlers.on_peer_up(client, &peer);
    }
}

/*
 * Warns of settings that are valid on each side but do not fit together. Only now both are known:
 * the client accepts and sends larger messages than the hub, or smaller ones; or the hub ends
 * silent sessions while neither side sends PING in time.
 */
static void link_compare_with_hub(const tp_lanclient *client, const tp_bus_welcome *hub) {
    unsigned long long max_frame = client->options.max_frame;
    if (hub->max_payload < max_frame) {
        TP_LOG(TP_LOG_WARNING,
            "lanclient %s: max_frame is %llu and the hub's is %u: expected the same; the hub "
            "accepts no larger messages from here and delivers none",
            client->service, max_frame, (unsigned)hub->max_payload);
    } else if (hub->max_payload > max_frame) {
        TP_LOG(TP_LOG_WARNING,
            "lanclient %s: max_frame is %llu and the hub's is %u: expected the same; larger "
            "messages of other peers return to their senders",
            client->service, max_frame, (unsigned)hub->max_payload);
    }
    unsigned ping = client->options.idle_timeout_ms / 2;
    bool hub_pings = hub->heartbeat_ms > 0 && hub->heartbeat_ms < hub->idle_ms;
    bool client_pings = ping > 0 && ping < hub->idle_ms;
    if (hub->idle_ms > 0 && !hub_pings && !client_pings) {
        TP_LOG(TP_LOG_WARNING,
            "lanclient %s: the hub ends a silent session after %u ms without a PING, and "
            "idle_timeout_ms is %u, so this client's PING comes too late or never: expected a "
            "ping_interval at the hub, or an idle_timeout_ms of less than twice the hub's",
            client->service, (unsigned)hub->idle_ms, client->options.idle_timeout_ms);
    }
}

void tp__link_welcomed(tp_lanclient *client, const tp_bus_welcome *welcome) {
    assert(welcome->peer != TP_NO_PEER);
    tp_mutex_lock(&client->mutex);
    assert(client->state == TP__LINK_REGISTERING);
    client->state = TP__LINK_ARRIVING;
    client->hub = welcome->hub;
    client->max_payload = welcome->max_payload;
    tp_mutex_unlock(&client->mutex);
    link_compare_with_hub(client, welcome);
    client->self_given = welcome->peer;
    client->ack_messages = welcome->ack_messages ? welcome->ack_messages : TP_BUS_ACK_MESSAGES;
    client->awaited = welcome->peers;
    if (client->awaited == 0) {
        link_go_up(client);
    }
}

void tp__link_arrived(tp_lanclient *client) {
    assert(client->awaited > 0);
    if (--client->awaited == 0) {
        link_go_up(client);
    }
}

/* ---- lost ------------------------------------------------------------------------------------ */

static tp_err link_error(tp_end_reason reason) {
    switch (reason) {
    case TP_END_PEER_RESET:
        return TP_ERR_RESET;
    case TP_END_PROTOCOL:
        return TP_ERR_PROTOCOL;
    case TP_END_IDLE:
        return TP_ERR_TIMED_OUT;
    case TP_END_NO_MEMORY:
        return TP_ERR_NO_MEMORY;
    case TP_END_OS:
        return TP_ERR_OS;
    default:
        return TP_ERR_CLOSED;
    }
}

/*
 * Resets the count of attempts if the link lasted at least backoff_max_ms. A hub that accepts and
 * closes at once, again and again, must be treated as unreachable: otherwise all its clients
 * together would prevent it from recovering.
 */
static void link_reset_attempts(tp_lanclient *client) {
    TP_ASSERT_LOCKED(&client->mutex);
    bool lasted = client->state == TP__LINK_UP &&
                  tp_clock_ms() - client->up_since_ms >= client->options.backoff_max_ms;
    client->attempts = lasted ? 0 : client->attempts;
}

/* Takes the link down and returns its unacknowledged messages. From here on nothing is sent, so
 * only the caller uses them. */
static tp__unconfirmed link_take_down(tp_lanclient *client, bool *stopping) {
    tp_mutex_lock(&client->mutex);
    *stopping = tp__lifecycle_stopping(&client->lifecycle);
    link_reset_attempts(client);
    client->state = TP__LINK_WAITING;
    client->session = TP_NO_SESSION;
    atomic_store_explicit(&client->self, TP_NO_PEER, memory_order_release);

    tp__unconfirmed taken;
    uint64_t head = tp__unconfirmed_acknowledged(&client->unconfirmed);
    uint64_t tail = tp__unconfirmed_tail(&client->unconfirmed);
    tp__unconfirmed_init(&taken, client->unconfirmed.limit);
    atomic_init(&taken.head, head);
    atomic_init(&taken.tail, tail);
    taken.ring = client->unconfirmed.ring;
    taken.capacity = client->unconfirmed.capacity;
    client->confirmed_before += head;
    client->lost += tail - head;
    tp__unconfirmed_init(&client->unconfirmed, taken.limit);
    atomic_store_explicit(&client->acknowledged, 0, memory_order_relaxed);
    atomic_store_explicit(&client->processed, 0, memory_order_relaxed);
    client->processed_at_tick = 0;
    TP__VERIFY(tp__unconfirmed_check(&taken));
    TP__VERIFY(tp__lanclient_check(client));
    tp_mutex_unlock(&client->mutex);
    return taken;
}

/* Returns the unacknowledged messages to the application. Requests are answered through their own
 * callbacks; refusals are dropped, because the requester is notified of the lost connection. */
static void link_return_unconfirmed(tp_lanclient *client, const tp__unconfirmed *lost) {
    uint64_t tail = tp__unconfirmed_tail(lost);
    for (uint64_t n = tp__unconfirmed_head(lost); n < tail; n++) {
        tp__sent entry = tp__unconfirmed_at(lost, n);
        bool returnable = entry.kind != TP_BUS_REQUEST && entry.kind != TP_BUS_ERROR;
        if (returnable && client->handlers.on_returned) {
            bool to_peer = entry.kind == TP_BUS_SEND || entry.kind == TP_BUS_REPLY;
            tp_returned returned = {.size = sizeof returned,
                .ticket = entry.correlation,
                .kind = (tp_message_kind)entry.kind,
                .reason = TP_ERR_PEER_LOST,
                .peer = to_peer ? entry.destination : TP_NO_PEER};
            client->handlers.on_returned(client, &returned);
        }
    }
}

static void link_fail_requests(tp_lanclient *client, tp_err error) {
    uint32_t from = 0;
    tp__request request;
    while (tp__requests_take_next(&client->requests, TP_NO_PEER, &from, &request)) {
        tp__request_answer(client, &request, error, NULL, NULL);
    }
}

static void link_remove_peers(tp_lanclient *client, bool was_up) {
    tp_peer peer;
    while (tp__peer_table_at(&client->peers, 0, &peer)) {
        tp__peer_table_remove(&client->peers, peer.id, &peer);
        if (was_up && client->handlers.on_peer_down) {
            client->handlers.on_peer_down(client, &peer);
        }
    }
}

/* The session's entry in the network's ledger. Of the last four ends one is this session's: hardly
 * any other connection can have ended since. */
static tp_session_end link_find_end(tp_server *network, tp_session_id session) {
    tp_session_end ends[4] = {{.size = sizeof ends[0]}};
    size_t count = tp_server_read_ledger(network, ends, TP_COUNT_OF(ends));
    for (size_t i = 0; i < count; i++) {
        if (ends[i].session == session) {
            return ends[i];
        }
    }
    return (tp_session_end){.reason = TP_END_NONE};
}

/* Logs why an attempt failed; each kind of end has its own call site. Only the operating system
 * reports a refused connection; a hub that accepts the connection and sends CLOSE has refused the
 * service. */
static void link_log_failure(tp_lanclient *client, tp_session_id session, tp_end_reason reason) {
    const tp_session_end end = link_find_end(client->network, session);
    if (reason == TP_END_REFUSED) {
        TP_LOG(TP_LOG_WARNING, "lanclient %s: connect failed: closed by the hub: %s",
            client->service, tp_close_reason_name((uint16_t)end.close_code));
    } else if (reason == TP_END_CONNECT_FAILED && end.os_error != 0) {
        TP_LOG(TP_LOG_WARNING, "lanclient %s: connect failed: %s", client->service,
            tp_err_text(tp_os_translate(end.os_error)));
    } else {
        TP_LOG(TP_LOG_WARNING, "lanclient %s: connect failed: %s", client->service,
            tp_end_reason_text(reason));
    }
}

void tp__link_on_leave(tp_server *network, tp_session_id session, tp_end_reason reason) {
    tp_lanclient *client = tp_server_context(network);
    bool was_up = tp_lanclient_self(client) != TP_NO_PEER;
    bool stopping;
    tp__unconfirmed lost = link_take_down(client, &stopping);
    if (was_up) {
        link_return_unconfirmed(client, &lost);
        link_fail_requests(client, stopping ? TP_ERR_CANCELLED : TP_ERR_PEER_LOST);
    } else if (!stopping) {
        tp__count_shared(&client->connect_failures, 1);
        link_log_failure(client, session, reason);
    }
    tp__unconfirmed_clear(&lost);
    link_remove_peers(client, was_up);
    if (was_up && client->handlers.on_down) {
        client->handlers.on_down(client, stopping ? TP_OK : link_error(reason));
    }
    if (!stopping) {
        tp__link_schedule(client, false);
    }
}
