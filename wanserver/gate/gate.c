/*
 * The gate: options, life, and what is due by the clock.
 *
 * Start, wait and destroy: the owner's thread. The tick is a task of the server's, one at a time;
 * it is on its way only while there is something to look after, or an answer of a service's is
 * awaited.
 *
 * A stop has three parts. The server closes its players; the services are told of each, and the
 * gate waits for their word, now on the owner's thread, since the server's tasks have ended; then
 * lanclient stops.
 */
#include "wanserver/gate/gate_api.h"

#include <stdio.h>
#include <string.h>

#include "core/base/deadline.h"
#include "core/memory/memory.h"
#include "lanclient/client/link_clock.h"
#include "os/clock.h"
#include "twinport/log.h"
#include "wanserver/gate/gate_internal.h"

#define DEFAULT_PORT  7400
#define DRAIN_LOOK_MS 10

_Static_assert(TP_GATE_USER_DATA == TP_TOKEN_USER_DATA, "user data is handed on as it comes");

/* ---- options --------------------------------------------------------------------------------- */

void tp__gate_defaults(tp__gate_options *options) {
    memset(options, 0, sizeof *options);
    tp_lanclient_defaults(&options->bus);
    (void)tp_address_parse("127.0.0.1", &options->bus.address);
    options->bus.address.port = DEFAULT_PORT;
    options->bus.service = TP_GATE_SERVICE;
    options->bus.low_latency = false; /* players do not hold up what goes over the bus */
    options->max_players = 4096;
    options->tell_ms = 1000;
    options->keep_players = TP_MAX_SESSIONS;
    options->keep_ms = 30000;
    options->lost_close = TP_CLOSE_SHUTDOWN;
    options->max_services = 64;
    options->drain_ms = 5000;
}

/* What is wrong, or NULL. What lanclient checks by itself is left to it. */
static const char *fault_of(const tp__gate_options *options) {
    if (!options->service || !tp_bus_name_valid(options->service, strlen(options->service))) {
        return "service: 1..63 bytes of a-z 0-9 . _ -";
    }
    if (options->max_players < 1 || options->max_players > TP_MAX_SESSIONS) {
        return "max_players: 1..1,048,576";
    }
    if (options->max_waiting > TP_MAX_SESSIONS) {
        return "max_waiting: 0..1,048,576";
    }
    if (options->tell_ms < 10 || options->tell_ms > 3600000) {
        return "tell_ms: 10..3,600,000";
    }
    if (options->keep_players > TP_MAX_SESSIONS) {
        return "keep_players: 0..1,048,576";
    }
    if (options->keep_ms > 86400000) {
        return "keep_ms: 0..86,400,000";
    }
    if (options->max_services < 1 || options->max_services > 1024) {
        return "max_services: 1..1,024";
    }
    if (options->drain_ms > 600000) {
        return "drain_ms: 0..600,000";
    }
    return NULL;
}

/* What each asks of another, in the range of its own. */
static bool fit_together(const tp__gate_options *options) {
    if (options->bus.service && strcmp(options->service, options->bus.service) == 0) {
        TP_LOG(TP_LOG_ERROR, "gate: service is %s, which is what the gates are themselves",
            options->service);
        return false;
    }
    if (options->max_players + options->max_waiting > TP_MAX_SESSIONS) {
        TP_LOG(TP_LOG_ERROR,
            "gate: max_players is %u and max_waiting is %u: at most %u of them together are "
            "possible",
            options->max_players, options->max_waiting, TP_MAX_SESSIONS);
        return false;
    }
    return true;
}

/* ---- creation -------------------------------------------------------------------------------- */

static tp_err make_tables(tp__gate *gate) {
    size_t visits = TP__GATE_VISITS(&gate->options);
    gate->services = tp__allocate_zeroed(gate->options.max_services, sizeof *gate->services);
    gate->visits = tp__allocate_zeroed(visits, sizeof *gate->visits);
    if (!gate->services || !gate->visits) {
        return TP_ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < visits; i++) {
        gate->visits[i].next = i + 1 < visits ? &gate->visits[i + 1] : NULL;
    }
    gate->free_visit = gate->visits;
    (void)tp__gate_open_service(gate, gate->service_name, strlen(gate->service_name));
    return TP_OK;
}

static tp_err make_client(tp__gate *gate) {
    static const tp_lanclient_handlers handlers = {.size = sizeof handlers,
        .on_up = tp__gate_on_up,
        .on_down = tp__gate_on_down,
        .on_peer_up = tp__gate_on_peer_up,
        .on_peer_down = tp__gate_on_peer_down,
        .on_message = tp__gate_on_message,
        .on_request = tp__gate_on_request,
        .on_returned = tp__gate_on_returned};
    return tp_lanclient_create(&gate->options.bus, &handlers, &gate->client);
}

tp_err tp__gate_create(const tp__gate_options *options, tp__gate **created) {
    *created = NULL;
    const char *fault = fault_of(options);
    if (fault) {
        TP_LOG(TP_LOG_ERROR, "gate: %s", fault);
        return TP_ERR_INVALID;
    }
    if (!fit_together(options)) {
        return TP_ERR_INVALID;
    }
    tp__gate *gate = tp__allocate_zeroed(1, sizeof *gate);
    if (!gate) {
        return TP_ERR_NO_MEMORY;
    }
    gate->options = *options;
    snprintf(gate->service_name, sizeof gate->service_name, "%s", options->service);
    gate->options.service = gate->service_name;
    gate->options.bus.context = gate;
    tp_mutex_init(&gate->mutex);
    tp_condition_init(&gate->changed);
    tp_err error = make_tables(gate);
    if (!error) {
        error = make_client(gate);
    }
    if (error) {
        tp__gate_destroy(gate);
        return error;
    }
    *created = gate;
    return TP_OK;
}

static void free_peers(tp__gate_service *service) {
    while (service->peers) {
        tp__gate_peer *next = service->peers->next;
        tp__free(service->peers);
        service->peers = next;
    }
}

/* The server's sessions have all left, so no entry holds a blob; lanclient has no request left that
 * would come back to a visit. */
void tp__gate_destroy(tp__gate *gate) {
    if (!gate) {
        return;
    }
    tp_lanclient_destroy(gate->client);
    for (unsigned i = 0; gate->services && i < gate->service_count; i++) {
        free_peers(&gate->services[i]);
    }
    for (uint32_t i = 0; i < TP__GATE_PAGES; i++) {
        tp__free(atomic_load_explicit(&gate->pages[i], memory_order_relaxed));
    }
    tp__free(gate->services);
    tp__free(gate->visits);
    tp_condition_destroy(&gate->changed);
    tp_mutex_destroy(&gate->mutex);
    tp__free(gate);
}

void tp__gate_handlers(tp_handlers *handlers) {
    *handlers = (tp_handlers){.size = sizeof *handlers,
        .on_join = tp__gate_on_join,
        .on_leave = tp__gate_on_leave,
        .on_recv = tp__gate_on_recv};
}

tp_lanclient *tp__gate_client(tp__gate *gate) {
    return gate->client;
}

/* ---- the clock ------------------------------------------------------------------------------- */

static void tick(void *context) {
    tp__gate *gate = context;
    uint64_t now = tp_clock_ms();
    uint64_t link_now = tp__lanclient_now_ms(gate->client);
    tp_mutex_lock(&gate->mutex);
    gate->armed = false;
    bool more = tp__gate_look_after_kept(gate, link_now);
    more |= tp__gate_look_after_room(gate);
    more |= tp__gate_tell_room(gate, now);
    more |= tp__gate_pump_all(gate);
    if (more) {
        tp__gate_arm(gate);
    }
    tp_mutex_unlock(&gate->mutex);
}

/* The first tick, at start, makes sure that there is memory for all later ones. Once the server
 * has stopped it takes none, and whoever waits for the stop does the tick's work. Whatever may
 * have to be said again keeps the tick going from when it is said first: nothing has to be armed
 * when the answer does not come. */
void tp__gate_arm(tp__gate *gate) {
    if (gate->armed) {
        return;
    }
    tp_err error = tp_server_post(gate->server, TP__GATE_TICK_MS, tick, gate);
    gate->armed = error == TP_OK;
    if (error && error != TP_ERR_STATE) {
        TP_LOG(TP_LOG_ERROR, "gate: what is due by the clock will be late: %s", tp_err_text(error));
    }
}

/* ---- start and stop -------------------------------------------------------------------------- */

static tp_err begin(tp__gate *gate) {
    tp_err error = tp_lanclient_start(gate->client);
    if (error) {
        return error;
    }
    error = tp_server_start(gate->server);
    if (error) {
        tp_lanclient_stop(gate->client);
        (void)tp_lanclient_wait(gate->client, -1);
        return error;
    }
    tp_mutex_lock(&gate->mutex);
    tp__gate_arm(gate);
    if (gate->stopping) {
        tp_server_stop(gate->server); /* whoever asked for it may have found nothing to stop yet */
    }
    tp_mutex_unlock(&gate->mutex);
    return TP_OK;
}

tp_err tp__gate_start(tp__gate *gate, tp_server *server) {
    tp_mutex_lock(&gate->mutex);
    bool running = gate->started;
    if (!running) {
        gate->started = true;
        gate->stopping = false;
        gate->server_stopped = false;
        gate->client_told = false;
        gate->armed = false;
        gate->server = server;
    }
    tp_mutex_unlock(&gate->mutex);
    if (running) {
        return TP_ERR_STATE;
    }
    tp_err error = begin(gate);
    if (error) {
        tp_mutex_lock(&gate->mutex);
        gate->started = false;
        tp_mutex_unlock(&gate->mutex);
    }
    return error;
}

/* The mutex is not let go of in between: somebody else might stop the server, wait for it and
 * start it again, and the stop would hit that run. */
void tp__gate_stop(tp__gate *gate) {
    tp_mutex_lock(&gate->mutex);
    if (gate->started && !gate->stopping) {
        gate->stopping = true;
        gate->end_by_ms = tp_clock_ms() + gate->options.drain_ms + TP__STOP_REST_MS;
        tp_server_stop(gate->server);
    }
    tp_mutex_unlock(&gate->mutex);
}

/* Under the mutex. The services' word may take the drain time-out, but lanclient has half of the
 * rest for itself. */
static void share_the_rest(tp__gate *gate, uint64_t now_ms) {
    uint64_t least_ms = now_ms + TP__STOP_REST_MS; /* the server may have a longer time-out */
    gate->end_by_ms = gate->end_by_ms > least_ms ? gate->end_by_ms : least_ms;
    uint64_t word_by_ms = gate->end_by_ms - TP__STOP_REST_MS / 2;
    uint64_t drain_by_ms = now_ms + gate->options.drain_ms;
    gate->drain_by_ms = drain_by_ms < word_by_ms ? drain_by_ms : word_by_ms;
}

static tp_err wait_for_server(tp__gate *gate, int timeout_ms) {
    tp_err error = tp_server_wait(gate->server, timeout_ms);
    if (!error) {
        tp_mutex_lock(&gate->mutex);
        gate->server_stopped = true;
        share_the_rest(gate, tp_clock_ms());
        tp_mutex_unlock(&gate->mutex);
    }
    return error;
}

/* Until the services have confirmed that all players have left, or the time is over. */
static tp_err drain(tp__gate *gate, int timeout_ms, uint64_t since_ms) {
    tp_mutex_lock(&gate->mutex);
    bool busy = tp__gate_pump_all(gate) || gate->visits_used > 0;
    while (busy && tp_clock_ms() < gate->drain_by_ms && tp__left_of(timeout_ms, since_ms) != 0) {
        tp_condition_wait(&gate->changed, &gate->mutex, DRAIN_LOOK_MS);
        busy = tp__gate_pump_all(gate) || gate->visits_used > 0;
    }
    bool over = !busy || tp_clock_ms() >= gate->drain_by_ms;
    tp_mutex_unlock(&gate->mutex);
    return over ? TP_OK : TP_ERR_TIMED_OUT;
}

tp_err tp__gate_wait(tp__gate *gate, int timeout_ms) {
    uint64_t since = tp_clock_ms();
    tp_mutex_lock(&gate->mutex);
    bool stopping = gate->started && gate->stopping;
    bool server_stopped = gate->server_stopped;
    bool client_told = gate->client_told;
    tp_mutex_unlock(&gate->mutex);
    if (!stopping) {
        return TP_ERR_STATE;
    }
    if (!client_told && tp_lanclient_wait(gate->client, 0) == TP_ERR_WRONG_THREAD) {
        return TP_ERR_WRONG_THREAD;
    }
    tp_err error = server_stopped ? TP_OK : wait_for_server(gate, timeout_ms);
    if (!error && !client_told) {
        error = drain(gate, timeout_ms, since);
    }
    if (error) {
        return error;
    }
    tp_lanclient_stop_within(gate->client, tp__left_until(gate->end_by_ms));
    gate->client_told = true;
    error = tp_lanclient_wait(gate->client, tp__left_of(timeout_ms, since));
    if (error == TP_ERR_STATE) {
        error = TP_OK; /* somebody else stopped it, and it is over */
    }
    if (!error) {
        tp_mutex_lock(&gate->mutex);
        gate->started = false;
        tp_mutex_unlock(&gate->mutex);
    }
    return error;
}
