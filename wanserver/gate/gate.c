/*
 * The gate: options, creation, start and stop, and the tick.
 *
 * Start, wait and destroy run on the caller's thread; stop on any. The tick is a task of the
 * server, and at most one is scheduled: only while players wait or are kept, positions are to be
 * sent, or requests to services are queued or in flight.
 *
 * A stop has three parts: the server closes its players; each service gets a LEAVE for each of its
 * players, and the gate waits for the answers, now on the thread that calls wait, since the
 * server's tasks have ended; lanclient stops.
 */
#include "wanserver/gate/gate_api.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "core/base/deadline.h"
#include "core/base/invariant.h"
#include "core/memory/memory.h"
#include "lanclient/client/link_clock.h"
#include "os/clock.h"
#include "twinport/log.h"
#include "wanserver/gate/gate_internal.h"

#define DEFAULT_PORT  7400
#define DRAIN_TICK_MS 10

_Static_assert(TP_GATE_USER_DATA == TP_TOKEN_USER_DATA, "user data is copied as it is");

/* ---- options --------------------------------------------------------------------------------- */

void tp__gate_defaults(tp__gate_options *options) {
    memset(options, 0, sizeof *options);
    tp_lanclient_defaults(&options->bus);
    (void)tp_address_parse("127.0.0.1", &options->bus.address);
    options->bus.address.port = DEFAULT_PORT;
    options->bus.service = TP_GATE_SERVICE;
    options->bus.low_latency = false; /* players' messages do not delay services' */
    options->max_players = 4096;
    options->place_interval_ms = 1000;
    options->keep_players = TP_MAX_SESSIONS;
    options->keep_ms = 30000;
    options->lost_close = TP_CLOSE_SHUTDOWN;
    options->max_services = 64;
    options->drain_ms = 5000;
}

/* The option that is out of range, with its range, or NULL. lanclient checks its own. */
static const char *gate_options_fault(const tp__gate_options *options) {
    if (!options->service || !tp_bus_name_valid(options->service, strlen(options->service))) {
        return "service: 1..63 bytes of a-z 0-9 . _ -";
    }
    if (options->max_players < 1 || options->max_players > TP_MAX_SESSIONS) {
        return "max_players: 1..1,048,576";
    }
    if (options->max_waiting > TP_MAX_SESSIONS) {
        return "max_waiting: 0..1,048,576";
    }
    if (options->place_interval_ms < 10 || options->place_interval_ms > 3600000) {
        return "place_interval_ms: 10..3,600,000";
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

/* Whether options that are each within their range fit each other. Logs what does not. */
static bool gate_options_consistent(const tp__gate_options *options) {
    if (options->bus.service && strcmp(options->service, options->bus.service) == 0) {
        TP_LOG(TP_LOG_ERROR, "gate: service is %s, which is the service of the gates themselves",
            options->service);
        return false;
    }
    if (options->max_players + options->max_waiting > TP_MAX_SESSIONS) {
        TP_LOG(TP_LOG_ERROR,
            "gate: max_players is %u and max_waiting is %u: their sum is at most %u",
            options->max_players, options->max_waiting, TP_MAX_SESSIONS);
        return false;
    }
    return true;
}

/* ---- creation -------------------------------------------------------------------------------- */

static tp_err gate_make_tables(tp__gate *gate) {
    size_t assignments = TP__GATE_ASSIGNMENTS(&gate->options);
    gate->services = tp__allocate_zeroed(gate->options.max_services, sizeof *gate->services);
    gate->assignments = tp__allocate_zeroed(assignments, sizeof *gate->assignments);
    if (!gate->services || !gate->assignments) {
        return TP_ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < assignments; i++) {
        tp__list_append(&gate->free_assignments, &gate->assignments[i].queue);
    }
    (void)tp__gate_open_service(gate, gate->service_name, strlen(gate->service_name));
    return TP_OK;
}

static tp_err gate_make_client(tp__gate *gate) {
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
    const char *fault = gate_options_fault(options);
    if (fault) {
        TP_LOG(TP_LOG_ERROR, "gate: %s", fault);
        return TP_ERR_INVALID;
    }
    if (!gate_options_consistent(options)) {
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
    tp__lifecycle_init(&gate->lifecycle, &gate->mutex);
    tp_condition_init(&gate->assignment_freed);
    tp_err error = gate_make_tables(gate);
    if (!error) {
        error = gate_make_client(gate);
    }
    if (error) {
        tp__gate_destroy(gate);
        return error;
    }
    *created = gate;
    return TP_OK;
}

static void service_free_peers(tp__gate_service *service) {
    while (service->peers) {
        tp__gate_peer *next = service->peers->next;
        tp__free(service->peers);
        service->peers = next;
    }
}

/* All sessions of the server have had their on_leave, so no entry has a blob. Once lanclient is
 * destroyed it has no pointer to an assignment. */
void tp__gate_destroy(tp__gate *gate) {
    if (!gate) {
        return;
    }
    assert(gate->players == 0 && gate->kept == 0 && gate->waiting_room.list.count == 0);
    tp_lanclient_destroy(gate->client);
    for (unsigned i = 0; gate->services && i < gate->service_count; i++) {
        service_free_peers(&gate->services[i]);
    }
    tp__slot_pages_free(&gate->entries);
    tp__free(gate->services);
    tp__free(gate->assignments);
    tp_condition_destroy(&gate->assignment_freed);
    tp__lifecycle_destroy(&gate->lifecycle);
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

/* ---- the tick -------------------------------------------------------------------------------- */

static void gate_tick(void *context) {
    tp__gate *gate = context;
    uint64_t now = tp_clock_ms();
    uint64_t link_now = tp__lanclient_now_ms(gate->client);
    tp_mutex_lock(&gate->mutex);
    gate->tick_scheduled = false;
    bool more = tp__gate_check_kept(gate, link_now);
    more |= tp__gate_waiting_room_check(gate);
    more |= tp__gate_send_positions(gate, now);
    more |= tp__gate_send_all_due(gate);
    if (more) {
        tp__gate_schedule_tick(gate);
    }
    TP__VERIFY(tp__gate_check(gate));
    tp_mutex_unlock(&gate->mutex);
}

/* The first tick, at start, makes sure that there is memory for all later ones. A server that has
 * stopped takes no task (TP_ERR_STATE); then gate_drain() does the tick's work. A request keeps the
 * tick going from its first attempt on, so nothing has to be scheduled when its answer fails. */
void tp__gate_schedule_tick(tp__gate *gate) {
    TP_ASSERT_LOCKED(&gate->mutex);
    if (gate->tick_scheduled) {
        return;
    }
    tp_err error = tp_server_post(gate->server, TP__GATE_TICK_MS, gate_tick, gate);
    gate->tick_scheduled = error == TP_OK;
    if (error && error != TP_ERR_STATE) {
        TP_LOG(TP_LOG_ERROR, "gate: the tick cannot be scheduled: %s", tp_err_text(error));
    }
}

/* ---- start and stop -------------------------------------------------------------------------- */

static tp_err gate_begin(tp__gate *gate) {
    tp_err error = tp_lanclient_start(gate->client);
    if (error) {
        return error;
    }
    error = tp_server_start(gate->server);
    if (error) {
        tp_lanclient_stop(gate->client);
        (void)tp_lanclient_wait(gate->client, -1);
    }
    return error;
}

static void gate_end_start(tp__gate *gate, bool runs) {
    tp_mutex_lock(&gate->mutex);
    if (runs) {
        tp__gate_schedule_tick(gate);
    }
    if (tp__lifecycle_started(&gate->lifecycle, runs)) {
        tp_server_stop(gate->server); /* tp__gate_stop() may have come before the server ran */
    }
    tp_mutex_unlock(&gate->mutex);
}

tp_err tp__gate_start(tp__gate *gate, tp_server *server) {
    tp_mutex_lock(&gate->mutex);
    tp_err error = tp__lifecycle_start(&gate->lifecycle);
    if (!error) {
        gate->server_stopped = false;
        gate->client_stopping = false;
        gate->tick_scheduled = false;
        gate->server = server;
    }
    tp_mutex_unlock(&gate->mutex);
    if (error) {
        return error;
    }
    error = gate_begin(gate);
    gate_end_start(gate, error == TP_OK);
    return error;
}

/* The mutex is held from the request to tp_server_stop(). Otherwise another thread could stop the
 * gate, wait for it and start it again in between, and this stop would end the new run. */
void tp__gate_stop(tp__gate *gate) {
    uint64_t drain_by_ms = tp_clock_ms() + gate->options.drain_ms;
    tp_mutex_lock(&gate->mutex);
    if (tp__lifecycle_stop(&gate->lifecycle, drain_by_ms, drain_by_ms + TP__STOP_REST_MS)) {
        tp_server_stop(gate->server);
        tp__lifecycle_end(&gate->lifecycle);
    }
    tp_mutex_unlock(&gate->mutex);
}

/* Sets until when the services' answers are awaited: for drain_ms, but half of TP__STOP_REST_MS is
 * left for lanclient. */
static void gate_divide_stop_time(tp__gate *gate, uint64_t now_ms) {
    TP_ASSERT_LOCKED(&gate->mutex);
    uint64_t least_ms = now_ms + TP__STOP_REST_MS; /* the server's drain time-out may be longer */
    gate->lifecycle.end_by_ms =
        gate->lifecycle.end_by_ms > least_ms ? gate->lifecycle.end_by_ms : least_ms;
    uint64_t answers_by_ms = gate->lifecycle.end_by_ms - TP__STOP_REST_MS / 2;
    uint64_t drain_by_ms = now_ms + gate->options.drain_ms;
    gate->lifecycle.drain_by_ms = drain_by_ms < answers_by_ms ? drain_by_ms : answers_by_ms;
}

static tp_err gate_wait_for_server(tp__gate *gate, int timeout_ms) {
    tp_err error = tp_server_wait(gate->server, timeout_ms);
    if (!error) {
        tp_mutex_lock(&gate->mutex);
        gate->server_stopped = true;
        gate_divide_stop_time(gate, tp_clock_ms());
        tp_mutex_unlock(&gate->mutex);
    }
    return error;
}

/* Waits until the services have confirmed that all players have left, until drain_by_ms, or for
 * what is left of timeout_ms. TP_ERR_TIMED_OUT only in the last case. */
static tp_err gate_drain(tp__gate *gate, int timeout_ms, uint64_t since_ms) {
    tp_mutex_lock(&gate->mutex);
    bool busy = tp__gate_send_all_due(gate) || gate->assignments_used > 0;
    while (busy && tp_clock_ms() < gate->lifecycle.drain_by_ms &&
           tp__left_of(timeout_ms, since_ms) != 0) {
        tp_condition_wait(&gate->assignment_freed, &gate->mutex, DRAIN_TICK_MS);
        busy = tp__gate_send_all_due(gate) || gate->assignments_used > 0;
    }
    bool over = !busy || tp_clock_ms() >= gate->lifecycle.drain_by_ms;
    tp_mutex_unlock(&gate->mutex);
    return over ? TP_OK : TP_ERR_TIMED_OUT;
}

/* Carries out the rest of the stop, or as much of it as timeout_ms allows. */
static tp_err gate_wait_for_all(void *context, int timeout_ms) {
    tp__gate *gate = context;
    uint64_t since = tp_clock_ms();
    tp_mutex_lock(&gate->mutex);
    bool server_stopped = gate->server_stopped;
    bool client_stopping = gate->client_stopping;
    tp_mutex_unlock(&gate->mutex);
    tp_err error = server_stopped ? TP_OK : gate_wait_for_server(gate, timeout_ms);
    if (!error && !client_stopping) {
        error = gate_drain(gate, timeout_ms, since);
    }
    if (error) {
        return error;
    }
    tp_mutex_lock(&gate->mutex);
    gate->client_stopping = true;
    uint64_t end_by_ms = gate->lifecycle.end_by_ms; /* a second stop may bring it forward */
    tp_mutex_unlock(&gate->mutex);
    tp_lanclient_stop_within(gate->client, tp__left_until(end_by_ms));
    error = tp_lanclient_wait(gate->client, tp__left_of(timeout_ms, since));
    return error == TP_ERR_STATE ? TP_OK : error; /* another thread has waited for it */
}

/* A handler is turned away before it waits for anything: what it waits for may need its worker. */
tp_err tp__gate_wait(tp__gate *gate, int timeout_ms) {
    if (tp_lanclient_wait(gate->client, 0) == TP_ERR_WRONG_THREAD) {
        return TP_ERR_WRONG_THREAD;
    }
    const tp__lifecycle_owner owner = {.owner = gate, .wait = gate_wait_for_all};
    return tp__lifecycle_wait(&gate->lifecycle, timeout_ms, &owner);
}
