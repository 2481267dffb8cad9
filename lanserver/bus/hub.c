/*
 * The hub: creation, start and stop, and the server's handlers.
 *
 * Start, wait and destroy run on the thread of the hub's owner; the handlers and the drain run on
 * the server's workers.
 *
 * A stop has two parts. First the drain: new messages bounce, and forwarded messages get time to be
 * acknowledged, because a stopping server receives nothing. Then the server stops, which ends the
 * sessions; messages that are still unacknowledged bounce.
 */
#include "lanserver/bus/hub_internal.h"

#include <assert.h>
#include <string.h>

#include "core/base/deadline.h"
#include "core/base/invariant.h"
#include "os/clock.h"
#include "os/random.h"
#include "proto/frame.h"
#include "twinport/log.h"

#define DEFAULT_PORT   7400
#define DRAIN_CHECK_MS 10u

/* ---- handlers -------------------------------------------------------------------------------- */

tp_address tp__hub_address_of(tp__hub *hub, tp_session_id session) {
    tp_session_info info = {.size = sizeof info};
    const tp_address nowhere = {0};
    return tp_server_session_info(hub->server, session, &info) ? info.peer : nowhere;
}

void tp__hub_protocol_error(
    tp__hub *hub, tp_session_id session, tp_log_site *site, const char *what) {
    tp_address from = tp__hub_address_of(hub, session);
    char text[TP_ADDRESS_TEXT];
    if (TP_LOG_WARNING >= tp_log_get_level()) {
        tp_log_say(site, TP_LOG_WARNING, "bus: protocol error from %s: %s",
            tp_address_format(&from, text), what);
    }
    tp_server_turn_away(hub->server, session, TP_CLOSE_PROTOCOL);
}

static void hub_on_join(tp_server *server, tp_session_id session) {
    tp__hub *hub = tp_server_context(server);
    if (!tp__hub_connections_add(&hub->connections, session)) {
        TP_LOG(TP_LOG_ERROR, "bus: session not accepted: no memory");
        tp_server_disconnect(server, session);
    }
}

static void hub_on_leave(tp_server *server, tp_session_id session, tp_end_reason reason) {
    tp__hub *hub = tp_server_context(server);
    tp__hub_connection *connection = tp__hub_connections_find(&hub->connections, session);
    if (!connection) {
        return;
    }
    tp__hub_connections_remove_pending(&hub->connections, connection);
    if (connection->peer) {
        tp__hub_unregister(hub, connection->peer, reason);
        connection->peer = NULL;
    }
}

static void hub_on_message(tp__hub *hub, tp_session_id session, tp__peer *peer,
    const tp_bus_header *header, tp_packet *packet) {
    if (TP_UNLIKELY(!tp__unconfirmed_confirm(&peer->unconfirmed, header->source))) {
        TP__HUB_PROTOCOL_ERROR(hub, session, "acknowledges messages that were not sent");
    } else if (TP_LIKELY(tp_bus_is_message(header->kind) && header->correlation != 0)) {
        uint32_t number = atomic_load_explicit(&peer->processed, memory_order_relaxed) + 1;
        uint32_t count = tp__route(hub, peer, header, packet);
        tp__count_own(&peer->accepted, count);
        tp__acks_later(hub, peer, number);
    } else if (tp_bus_is_message(header->kind)) {
        TP__HUB_PROTOCOL_ERROR(hub, session, "message without a correlation");
    } else if (header->kind != TP_BUS_ACK) {
        TP__HUB_PROTOCOL_ERROR(hub, session, "message of a kind that clients do not send");
    }
}

static void hub_on_recv(tp_server *server, tp_session_id session, tp_packet *packet) {
    tp__hub *hub = tp_server_context(server);
    tp__hub_connection *connection = tp__hub_connections_find(&hub->connections, session);
    if (TP_UNLIKELY(!connection)) {
        return; /* on_join had no memory: the session is being ended */
    }
    if (TP_UNLIKELY(tp_packet_size(packet) < TP_BUS_HEADER)) {
        TP__HUB_PROTOCOL_ERROR(hub, session, "message shorter than its header");
        return;
    }
    tp_bus_header header = tp_bus_read(tp_packet_bytes(packet));
    if (TP_LIKELY(connection->peer != NULL)) {
        hub_on_message(hub, session, connection->peer, &header, packet);
        return;
    }
    connection->peer = tp__hub_register(hub, session, &header, packet);
    if (connection->peer) {
        assert(connection->peer->public_id != 0);
        tp__hub_connections_remove_pending(&hub->connections, connection);
    }
}

/* ---- creation and start ---------------------------------------------------------------------- */

void tp__hub_defaults(tp__hub_options *options) {
    memset(options, 0, sizeof *options);
    tp_lanserver_defaults(&options->server);
    options->server.address.port = DEFAULT_PORT;
    options->hello_timeout_ms = 5000;
    options->unconfirmed_limit = 65536;
    options->max_services = 4096;
}

static bool hub_options_valid(const tp__hub_options *options) {
    const char *fault = NULL;
    if (options->server.queue_policy == TP_QUEUE_DROP) {
        fault = "queue_policy: drop would lose messages silently";
    } else if (options->hello_timeout_ms < 100 || options->hello_timeout_ms > 600000) {
        fault = "hello_timeout_ms: 100..600,000";
    } else if (options->unconfirmed_limit < 1 ||
               options->unconfirmed_limit > TP_BUS_UNCONFIRMED_MAX) {
        fault = "unconfirmed_limit: 1..16,777,216";
    } else if (options->max_services < 1 || options->max_services > 65536) {
        fault = "max_services: 1..65,536";
    }
    if (fault) {
        TP_LOG(TP_LOG_ERROR, "bus: %s", fault);
    }
    return fault == NULL;
}

#define BOUNCE_SIZE (TP_FRAME_HEADER + TP_BUS_HEADER + TP_BUS_ERROR_FIXED)

/* When a peer is lost, all messages that one sender has sent to it may come back at once. */
static void hub_warn_of_bounces(const tp__hub_options *options) {
    static const char why[] = "when a peer is lost, more messages may come back to one sender "
                              "than its queue holds, and the sender is disconnected";
    uint64_t bytes = (uint64_t)options->unconfirmed_limit * BOUNCE_SIZE;
    if (options->unconfirmed_limit > options->server.queue_packets) {
        TP_LOG(TP_LOG_WARNING,
            "bus: unconfirmed_limit is %u and queue_packets is %u: expected no more than that: %s",
            options->unconfirmed_limit, options->server.queue_packets, why);
    } else if (bytes > options->server.queue_bytes) {
        TP_LOG(TP_LOG_WARNING,
            "bus: unconfirmed_limit is %u and queue_bytes is %zu: expected %u bytes for each: %s",
            options->unconfirmed_limit, options->server.queue_bytes, (unsigned)BOUNCE_SIZE, why);
    }
}

static tp_err hub_build(tp__hub *hub) {
    static const tp_handlers handlers = {.size = sizeof handlers,
        .on_join = hub_on_join,
        .on_leave = hub_on_leave,
        .on_recv = hub_on_recv};
    tp_err error = tp__services_create(&hub->services, hub->options.max_services);
    if (!error) {
        uint32_t max_sessions = hub->options.server.max_sessions;
        /* Sessions being ended are peers until they have left. */
        error = tp__peers_create(hub, max_sessions + TP_SERVER_ENDING(max_sessions));
    }
    if (!error) {
        error = tp_lanserver_create(&hub->options.server, &handlers, &hub->server);
    }
    return error;
}

tp_err tp__hub_create(const tp__hub_options *options, tp__hub **created) {
    *created = NULL;
    if (!hub_options_valid(options)) {
        return TP_ERR_INVALID;
    }
    hub_warn_of_bounces(options);
    tp__hub *hub = tp__allocate_zeroed(1, sizeof *hub);
    if (!hub) {
        return TP_ERR_NO_MEMORY;
    }
    hub->options = *options;
    hub->options.server.context = hub;
    tp_mutex_init(&hub->directory);
    tp_mutex_init(&hub->lifecycle_mutex);
    tp__lifecycle_init(&hub->lifecycle, &hub->lifecycle_mutex);
    tp__hub_connections_init(&hub->connections, options->hello_timeout_ms);
    tp_err error = hub_build(hub);
    if (error) {
        tp__hub_destroy(hub);
        return error;
    }
    *created = hub;
    return TP_OK;
}

void tp__hub_destroy(tp__hub *hub) {
    if (!hub) {
        return;
    }
    tp_server_destroy(hub->server);
    TP__VERIFY(hub->mask ? tp__hub_check(hub) : NULL); /* 0: the table was not created */
    tp__peers_destroy(hub);
    tp__services_destroy(&hub->services);
    tp__hub_connections_destroy(&hub->connections);
    tp__lifecycle_destroy(&hub->lifecycle);
    tp_mutex_destroy(&hub->lifecycle_mutex);
    tp_mutex_destroy(&hub->directory);
    tp__free(hub);
}

tp_server *tp__hub_server(tp__hub *hub) {
    return hub->server;
}

static tp_err hub_start_server(tp__hub *hub) {
    tp_err error = tp_server_start(hub->server);
    if (error) {
        return error;
    }
    error = tp__acks_start(hub);
    if (error) {
        tp_server_stop(hub->server);
        (void)tp_server_wait(hub->server, -1);
    }
    return error;
}

/* The mutex is held throughout, so that no stop intervenes. */
tp_err tp__hub_start(tp__hub *hub) {
    tp_mutex_lock(&hub->lifecycle_mutex);
    tp_err error = tp__lifecycle_start(&hub->lifecycle);
    if (!error) {
        tp_random_bytes(&hub->instance, sizeof hub->instance);
        atomic_store(&hub->sweep_armed, true); /* hub_start_server() posts the first sweep */
        tp__hub_connections_reset(&hub->connections, hub->server);
        error = hub_start_server(hub);
        (void)tp__lifecycle_started(&hub->lifecycle, error == TP_OK);
    }
    tp_mutex_unlock(&hub->lifecycle_mutex);
    return error;
}

/* ---- stop ------------------------------------------------------------------------------------ */

static void hub_stop_server(tp__hub *hub) {
    TP_ASSERT_LOCKED(&hub->lifecycle_mutex);
    assert(tp__lifecycle_stopping(&hub->lifecycle));
    tp_server_stop_within(hub->server, tp__left_until(hub->lifecycle.end_by_ms));
    tp__lifecycle_end(&hub->lifecycle);
}

/* Runs every DRAIN_CHECK_MS until nothing is outstanding or the drain's time is over. */
static void hub_drain(void *context) {
    tp__hub *hub = context;
    tp__hub_stats stats;
    tp__hub_get_stats(hub, &stats);
    tp_mutex_lock(&hub->lifecycle_mutex);
    bool done = stats.outstanding == 0 || tp_clock_ms() >= hub->lifecycle.drain_by_ms;
    if (done || tp_server_post(hub->server, DRAIN_CHECK_MS, hub_drain, hub) != TP_OK) {
        hub_stop_server(hub);
    }
    tp_mutex_unlock(&hub->lifecycle_mutex);
}

void tp__hub_stop(tp__hub *hub) {
    uint64_t drain_by_ms = tp_clock_ms() + hub->options.server.drain_timeout_ms;
    tp_mutex_lock(&hub->lifecycle_mutex);
    if (tp__lifecycle_stop(&hub->lifecycle, drain_by_ms, drain_by_ms + TP__STOP_REST_MS) &&
        tp_server_post(hub->server, 0, hub_drain, hub) != TP_OK) {
        hub_stop_server(hub);
    }
    tp_mutex_unlock(&hub->lifecycle_mutex);
}

static tp_err hub_wait_for_server(void *hub, int timeout_ms) {
    tp_err error = tp_server_wait(((tp__hub *)hub)->server, timeout_ms);
    return error == TP_ERR_STATE ? TP_OK : error; /* another thread has waited for it */
}

tp_err tp__hub_wait(tp__hub *hub, int timeout_ms) {
    const tp__lifecycle_owner owner = {.owner = hub, .wait = hub_wait_for_server};
    return tp__lifecycle_wait(&hub->lifecycle, timeout_ms, &owner);
}
