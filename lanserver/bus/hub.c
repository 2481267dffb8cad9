/*
 * The hub: life, and what the server's handlers do.
 *
 * Start, wait and destroy: the owner's thread. The handlers and the drain run on the server's
 * workers.
 *
 * A stop has two parts. First the bus comes to rest: new messages are returned, and what was
 * forwarded is given time to be confirmed, since the server listens to nobody once it stops. Then
 * the server stops, which ends the sessions; what is still unconfirmed then goes back.
 */
#include "lanserver/bus/hub_internal.h"

#include <string.h>

#include "core/base/deadline.h"
#include "os/clock.h"
#include "os/random.h"
#include "proto/frame.h"
#include "twinport/log.h"

#define DEFAULT_PORT  7400
#define DRAIN_LOOK_MS 10u

/* ---- handlers -------------------------------------------------------------------------------- */

tp_address tp__hub_address_of(tp__hub *hub, tp_session_id session) {
    tp_session_info info = {.size = sizeof info};
    const tp_address nowhere = {0};
    return tp_server_session_info(hub->server, session, &info) ? info.peer : nowhere;
}

void tp__hub_protocol_error(
    tp__hub *hub, tp_session_id session, tp_log_place *place, const char *what) {
    tp_address from = tp__hub_address_of(hub, session);
    char text[TP_ADDRESS_TEXT];
    if (TP_LOG_WARNING >= tp_log_get_level()) {
        tp_log_say(place, TP_LOG_WARNING, "bus: %s broke the protocol: %s",
            tp_address_format(&from, text), what);
    }
    tp_server_turn_away(hub->server, session, TP_CLOSE_PROTOCOL);
}

static void on_join(tp_server *server, tp_session_id session) {
    tp__hub *hub = tp_server_context(server);
    if (!tp__guests_enter(&hub->guests, session)) {
        TP_LOG(TP_LOG_ERROR, "bus: no memory for another session");
        tp_server_disconnect(server, session);
    }
}

static void on_leave(tp_server *server, tp_session_id session, tp_end_reason reason) {
    tp__hub *hub = tp_server_context(server);
    tp__guest *guest = tp__guests_find(&hub->guests, session);
    if (!guest) {
        return;
    }
    tp__guests_settle(&hub->guests, guest);
    if (guest->peer) {
        tp__farewell(hub, guest->peer, reason);
        guest->peer = NULL;
    }
}

static void on_message(tp__hub *hub, tp_session_id session, tp__peer *peer,
    const tp_bus_header *header, tp_packet *packet) {
    if (TP_UNLIKELY(!tp__unconfirmed_confirm(&peer->unconfirmed, header->source))) {
        TP__HUB_PROTOCOL_ERROR(hub, session, "it confirms messages that it was not sent");
    } else if (TP_LIKELY(tp_bus_is_message(header->kind) && header->correlation != 0)) {
        uint32_t number = atomic_load_explicit(&peer->taken, memory_order_relaxed) + 1;
        uint32_t count = tp__route(hub, peer, header, packet);
        TP__HUB_ADD(peer->accepted, count);
        tp__confirm_later(hub, peer, number);
    } else if (tp_bus_is_message(header->kind)) {
        TP__HUB_PROTOCOL_ERROR(hub, session, "a message without a correlation");
    } else if (header->kind != TP_BUS_ACK) {
        TP__HUB_PROTOCOL_ERROR(hub, session, "a kind of message that is not a client's");
    }
}

static void on_recv(tp_server *server, tp_session_id session, tp_packet *packet) {
    tp__hub *hub = tp_server_context(server);
    tp__guest *guest = tp__guests_find(&hub->guests, session);
    if (TP_UNLIKELY(!guest)) {
        return; /* on_join had no memory for it: it is being ended */
    }
    if (TP_UNLIKELY(tp_packet_size(packet) < TP_BUS_HEADER)) {
        TP__HUB_PROTOCOL_ERROR(hub, session, "a message shorter than its header");
        return;
    }
    tp_bus_header header = tp_bus_read(tp_packet_bytes(packet));
    if (TP_LIKELY(guest->peer != NULL)) {
        on_message(hub, session, guest->peer, &header, packet);
        return;
    }
    guest->peer = tp__greet(hub, session, &header, packet);
    if (guest->peer) {
        tp__guests_settle(&hub->guests, guest);
    }
}

/* ---- life ------------------------------------------------------------------------------------ */

void tp__hub_defaults(tp__hub_options *options) {
    memset(options, 0, sizeof *options);
    tp_lanserver_defaults(&options->server);
    options->server.address.port = DEFAULT_PORT;
    options->hello_timeout_ms = 5000;
    options->unconfirmed_limit = 65536;
    options->max_services = 4096;
}

static bool valid(const tp__hub_options *options) {
    const char *wrong = NULL;
    if (options->server.queue_policy == TP_QUEUE_DROP) {
        wrong = "queue_policy: dropping would lose messages in silence";
    } else if (options->hello_timeout_ms < 100 || options->hello_timeout_ms > 600000) {
        wrong = "hello_timeout_ms: 100..600,000";
    } else if (options->unconfirmed_limit < 1 ||
               options->unconfirmed_limit > TP_BUS_UNCONFIRMED_MAX) {
        wrong = "unconfirmed_limit: 1..16,777,216";
    } else if (options->max_services < 1 || options->max_services > 65536) {
        wrong = "max_services: 1..65,536";
    }
    if (wrong) {
        TP_LOG(TP_LOG_ERROR, "bus: %s", wrong);
    }
    return wrong == NULL;
}

#define RETURN_SIZE (TP_FRAME_HEADER + TP_BUS_HEADER + TP_BUS_ERROR_FIXED)

/* When a peer dies, all that one sender has sent to it may come back at once. */
static void warn_of_returns(const tp__hub_options *options) {
    static const char why[] = "when a peer dies, more messages may come back to one sender than "
                              "its queue holds, and the sender is ended";
    uint64_t bytes = (uint64_t)options->unconfirmed_limit * RETURN_SIZE;
    if (options->unconfirmed_limit > options->server.queue_packets) {
        TP_LOG(TP_LOG_WARNING,
            "bus: unconfirmed_limit is %u and queue_packets is %u: expected no more than that: %s",
            options->unconfirmed_limit, options->server.queue_packets, why);
    } else if (bytes > options->server.queue_bytes) {
        TP_LOG(TP_LOG_WARNING,
            "bus: unconfirmed_limit is %u and queue_bytes is %zu: expected %u bytes for each: %s",
            options->unconfirmed_limit, options->server.queue_bytes, (unsigned)RETURN_SIZE, why);
    }
}

static tp_err build(tp__hub *hub) {
    static const tp_handlers handlers = {
        .size = sizeof handlers, .on_join = on_join, .on_leave = on_leave, .on_recv = on_recv};
    tp_err error = tp__services_create(&hub->services, hub->options.max_services);
    if (!error) {
        uint32_t most = hub->options.server.max_sessions;
        /* Those on their way out are peers until they are gone. */
        error = tp__peers_create(hub, most + TP_SERVER_ENDING(most));
    }
    if (!error) {
        error = tp_lanserver_create(&hub->options.server, &handlers, &hub->server);
    }
    return error;
}

tp_err tp__hub_create(const tp__hub_options *options, tp__hub **created) {
    *created = NULL;
    if (!valid(options)) {
        return TP_ERR_INVALID;
    }
    warn_of_returns(options);
    tp__hub *hub = tp__allocate_zeroed(1, sizeof *hub);
    if (!hub) {
        return TP_ERR_NO_MEMORY;
    }
    hub->options = *options;
    hub->options.server.context = hub;
    tp_mutex_init(&hub->directory);
    tp_mutex_init(&hub->stop_mutex);
    tp_condition_init(&hub->stop_changed);
    tp__guests_init(&hub->guests, options->hello_timeout_ms);
    tp_err error = build(hub);
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
    tp__peers_destroy(hub);
    tp__services_destroy(&hub->services);
    tp__guests_destroy(&hub->guests);
    tp_condition_destroy(&hub->stop_changed);
    tp_mutex_destroy(&hub->stop_mutex);
    tp_mutex_destroy(&hub->directory);
    tp__free(hub);
}

tp_server *tp__hub_server(tp__hub *hub) {
    return hub->server;
}

/* Under stop_mutex, so that no stop comes in between; no handler takes it. */
static tp_err start_server(tp__hub *hub) {
    tp_err error = tp_server_start(hub->server);
    if (error) {
        return error;
    }
    error = tp__confirm_start(hub);
    if (error) {
        tp_server_stop(hub->server);
        (void)tp_server_wait(hub->server, -1);
    }
    return error;
}

tp_err tp__hub_start(tp__hub *hub) {
    tp_mutex_lock(&hub->stop_mutex);
    bool running = hub->started;
    if (!running) {
        tp_random_bytes(&hub->instance, sizeof hub->instance);
        atomic_store(&hub->stopping, false);
        atomic_store(&hub->sweep_armed, true); /* the first sweep is the start's to post */
        hub->server_told = false;
        tp__guests_reset(&hub->guests, hub->server);
    }
    tp_err error = running ? TP_ERR_STATE : start_server(hub);
    hub->started = running || error == TP_OK;
    tp_mutex_unlock(&hub->stop_mutex);
    return error;
}

/* ---- stopping -------------------------------------------------------------------------------- */

static void tell_server(tp__hub *hub) {
    tp_server_stop_within(hub->server, tp__left_until(hub->end_by_ms));
    tp_mutex_lock(&hub->stop_mutex);
    hub->server_told = true;
    tp_condition_wake_all(&hub->stop_changed);
    tp_mutex_unlock(&hub->stop_mutex);
}

/* Comes round until nothing is outstanding, or the time is over. */
static void drain(void *context) {
    tp__hub *hub = context;
    tp__hub_account account;
    tp__hub_get_account(hub, &account);
    bool done = account.outstanding == 0 || tp_clock_ms() >= hub->stop_by_ms;
    if (done || tp_server_post(hub->server, DRAIN_LOOK_MS, drain, hub) != TP_OK) {
        tell_server(hub);
    }
}

void tp__hub_stop(tp__hub *hub) {
    tp_mutex_lock(&hub->stop_mutex);
    bool begin = hub->started && !atomic_load(&hub->stopping);
    if (begin) {
        hub->stop_by_ms = tp_clock_ms() + hub->options.server.drain_timeout_ms;
        hub->end_by_ms = hub->stop_by_ms + TP__STOP_REST_MS;
        atomic_store(&hub->stopping, true);
    }
    tp_mutex_unlock(&hub->stop_mutex);
    if (begin && tp_server_post(hub->server, 0, drain, hub) != TP_OK) {
        tell_server(hub);
    }
}

tp_err tp__hub_wait(tp__hub *hub, int timeout_ms) {
    uint64_t since = tp_clock_ms();
    tp_mutex_lock(&hub->stop_mutex);
    bool stopping = hub->started && atomic_load(&hub->stopping);
    int left = timeout_ms;
    while (stopping && !hub->server_told && left != 0) {
        tp_condition_wait(&hub->stop_changed, &hub->stop_mutex, left);
        left = tp__left_of(timeout_ms, since);
    }
    bool told = hub->server_told;
    tp_mutex_unlock(&hub->stop_mutex);
    if (!stopping) {
        return TP_ERR_STATE;
    }
    tp_err error = told ? tp_server_wait(hub->server, left) : TP_ERR_TIMED_OUT;
    if (!error) {
        tp_mutex_lock(&hub->stop_mutex);
        hub->started = false;
        tp_mutex_unlock(&hub->stop_mutex);
    }
    return error;
}
