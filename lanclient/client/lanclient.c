/*
 * A client: options, creation, start, stop, and queries. Threads: as the public header says.
 *
 * A stop has two parts. First the drain: no new message is accepted, and sent messages get time to
 * be acknowledged, because a stopping network receives nothing. Then the network stops, which ends
 * the connection.
 */
#include "lanclient/client/client.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "core/base/deadline.h"
#include "core/base/invariant.h"
#include "os/clock.h"
#include "os/process.h"
#include "os/random.h"
#include "twinport/log.h"

#define DRAIN_CHECK_MS 10u

/* Session slots of the network: one connection, and spare ones for connections that are still
 * ending. */
#define NETWORK_SESSIONS 4u

void tp_lanclient_defaults(tp_lanclient_options *options) {
    memset(options, 0, sizeof *options);
    options->size = sizeof *options;
    options->io = "auto";
    options->workers = 1;
    options->low_latency = true;
    options->request_timeout_ms = 5000;
    options->max_requests = 65536;
    options->max_unconfirmed = 65536;
    options->backoff_min_ms = 50;
    options->backoff_max_ms = 5000;
    options->max_frame = 1u << 20;
    options->queue_bytes = 16u << 20;
    options->queue_packets = 65536;
    options->nodelay = true;
    options->connect_timeout_ms = 5000;
    options->idle_timeout_ms = 60000;
    options->drain_timeout_ms = 5000;
    options->idle_trim_ms = 30000;
}

/* ---- creation -------------------------------------------------------------------------------- */

static bool client_name_valid(const char *name) {
    return name && tp_bus_name_valid(name, strlen(name));
}

/* The first fault of the options, or NULL. Options that the network checks itself are not checked
 * here. */
static const char *client_options_fault(const tp_lanclient_options *options) {
    if (options->size != sizeof *options) {
        return "size: not set by tp_lanclient_defaults() of this version";
    }
    if (!client_name_valid(options->service)) {
        return "service: 1..63 bytes of a-z 0-9 . _ -";
    }
    if (options->instance && !client_name_valid(options->instance)) {
        return "instance: 1..63 bytes of a-z 0-9 . _ -";
    }
    if (!options->io || strlen(options->io) >= sizeof((tp_lanclient *)NULL)->io) {
        return "io: auto, epoll or iocp";
    }
    if (options->address.port == 0) {
        return "address: the hub's, with its port";
    }
    if (options->request_timeout_ms < 1 || options->request_timeout_ms > 86400000) {
        return "request_timeout_ms: 1..86,400,000";
    }
    if (options->max_requests < 1 || options->max_requests > TP_LANCLIENT_MAX_REQUESTS) {
        return "max_requests: 1..1,048,576";
    }
    if (options->max_unconfirmed < 1 || options->max_unconfirmed > TP_BUS_UNCONFIRMED_MAX) {
        return "max_unconfirmed: 1..16,777,216";
    }
    if (options->backoff_min_ms < 1 || options->backoff_max_ms > 3600000) {
        return "backoff_min_ms, backoff_max_ms: 1..3,600,000";
    }
    if (options->max_frame < 1024 || options->workers < 1) {
        return options->workers < 1 ? "workers: 1..64" : "max_frame: from 1,024";
    }
    if (options->idle_trim_ms > 86400000) {
        return "idle_trim_ms: 0..86,400,000";
    }
    return NULL;
}

/* Checks relations between options whose values are in range. max_frame may exceed queue_bytes: an
 * empty queue accepts any message. */
static bool client_options_agree(const tp_lanclient_options *options) {
    if (options->backoff_min_ms > options->backoff_max_ms) {
        TP_LOG(TP_LOG_ERROR,
            "lanclient options: backoff_min_ms is %u and backoff_max_ms is %u: expected "
            "backoff_min_ms not above backoff_max_ms",
            options->backoff_min_ms, options->backoff_max_ms);
        return false;
    }
    return true;
}

static void client_copy_names(tp_lanclient *client) {
    tp_lanclient_options *options = &client->options;
    snprintf(client->service, sizeof client->service, "%s", options->service);
    snprintf(client->io, sizeof client->io, "%s", options->io);
    if (options->instance) {
        snprintf(client->instance, sizeof client->instance, "%s", options->instance);
    } else {
        /* Of several instances of one name, a choice by key finds only one. The process id alone is
         * not unique: two clients in one process share it, and in a container it is often 1. */
        uint32_t random;
        tp_random_bytes(&random, sizeof random);
        snprintf(client->instance, sizeof client->instance, "%llu-%08x",
            (unsigned long long)tp_process_id(), (unsigned)random);
    }
    options->service = client->service;
    options->instance = client->instance;
    options->io = client->io;
}

static tp_err client_create_network(tp_lanclient *client) {
    static const tp_handlers handlers = {.size = sizeof handlers,
        .on_join = tp__link_on_join,
        .on_leave = tp__link_on_leave,
        .on_recv = tp__link_on_recv};
    const tp_lanclient_options *options = &client->options;
    tp_server_options network;
    tp_server_defaults(&network);
    network.name = "lanclient";
    network.context = client;
    network.listen = false;
    network.io = client->io;
    network.workers = options->workers;
    network.low_latency = options->low_latency;
    network.nodelay = options->nodelay;
    network.max_sessions = NETWORK_SESSIONS;
    network.max_frame = options->max_frame;
    network.queue_bytes = options->queue_bytes;
    network.queue_packets = options->queue_packets;
    network.queue_policy = TP_QUEUE_REFUSE; /* the sender gets the error at once */
    network.idle_timeout_ms = options->idle_timeout_ms;
    network.ping_interval_ms = options->idle_timeout_ms / 2;
    network.connect_timeout_ms = options->connect_timeout_ms;
    network.drain_timeout_ms = options->drain_timeout_ms;
    return tp_server_create(&network, &handlers, &client->network);
}

tp_err tp_lanclient_create(const tp_lanclient_options *options,
    const tp_lanclient_handlers *handlers, tp_lanclient **created) {
    *created = NULL;
    const char *fault = client_options_fault(options);
    if (fault || handlers->size != sizeof *handlers) {
        TP_LOG(TP_LOG_ERROR, "lanclient options: %s",
            fault ? fault : "handlers.size: not of this version");
        return TP_ERR_INVALID;
    }
    if (!client_options_agree(options)) {
        return TP_ERR_INVALID;
    }
    tp_lanclient *client = tp__allocate_zeroed(1, sizeof *client);
    if (!client) {
        return TP_ERR_NO_MEMORY;
    }
    client->options = *options;
    client->handlers = *handlers;
    client_copy_names(client);
    tp_mutex_init(&client->mutex);
    tp__lifecycle_init(&client->lifecycle, &client->mutex);
    tp__unconfirmed_init(&client->unconfirmed, options->max_unconfirmed);
    tp__requests_init(&client->requests, options->max_requests);
    tp__peer_table_init(&client->peers);
    tp_err error = client_create_network(client);
    if (error) {
        tp_lanclient_destroy(client);
        return error;
    }
    *created = client;
    return TP_OK;
}

void tp_lanclient_destroy(tp_lanclient *client) {
    if (!client) {
        return;
    }
    (void)tp_lanclient_wait(client, -1); /* a stop in progress has its own limit */
    tp_mutex_lock(&client->mutex);
    atomic_store(&client->lifecycle.stopping, true); /* the last on_leave must not reconnect */
    TP__VERIFY(tp__lanclient_check(client));
    tp_mutex_unlock(&client->mutex);
    tp_server_destroy(client->network);
    tp__peer_table_destroy(&client->peers);
    tp__requests_destroy(&client->requests);
    tp__unconfirmed_clear(&client->unconfirmed);
    tp__lifecycle_destroy(&client->lifecycle);
    tp_mutex_destroy(&client->mutex);
    tp__free(client);
}

/* ---- start and stop -------------------------------------------------------------------------- */

/* Stops the network. Under the mutex, together with the check that led here: if it were released in
 * between, another thread might stop the network, wait for it and start it again, and this call
 * would stop the new run. */
static void client_stop_network(tp_lanclient *client) {
    TP_ASSERT_LOCKED(&client->mutex);
    assert(tp__lifecycle_stopping(&client->lifecycle));
    /* Deliveries processed up to here need not return to their senders. */
    tp__lanclient_ack_locked(client);
    tp_server_stop_within(client->network, tp__left_until(client->lifecycle.end_by_ms));
    tp__lifecycle_end(&client->lifecycle);
}

/* The last step of a start. */
static void client_end_start(tp_lanclient *client, bool runs) {
    tp_mutex_lock(&client->mutex);
    if (!runs) {
        client->state = TP__LINK_OFF;
    }
    if (tp__lifecycle_started(&client->lifecycle, runs)) {
        client_stop_network(client); /* the stop came before the start */
    }
    tp_mutex_unlock(&client->mutex);
}

/* Continues a start when the network runs. Once the first tick is posted, the task table has a free
 * entry for every task that the client ever has waiting (tick, connect, trim, drain): none can fail
 * later for lack of memory. */
static tp_err client_begin(tp_lanclient *client) {
    tp_err error = tp__tick_start(client);
    if (error && error != TP_ERR_STATE) {
        tp_server_stop(client->network);
        (void)tp_server_wait(client->network, -1);
        return error;
    }
    tp__trim_start(client);
    tp__link_schedule(client, true);
    return TP_OK;
}

tp_err tp_lanclient_start(tp_lanclient *client) {
    tp_mutex_lock(&client->mutex);
    tp_err error = tp__lifecycle_start(&client->lifecycle);
    if (!error) {
        client->attempts = 0;
        client->state = TP__LINK_WAITING;
        tp__link_clock_reset(client);
        atomic_store(&client->tick_armed, false);
    }
    tp_mutex_unlock(&client->mutex);
    if (error) {
        return error;
    }
    error = tp_server_start(client->network);
    if (!error) {
        error = client_begin(client);
    }
    client_end_start(client, error == TP_OK);
    return error;
}

/* Runs every DRAIN_CHECK_MS until all messages are acknowledged or the drain's time is over. */
static void client_drain(void *context) {
    tp_lanclient *client = context;
    tp_mutex_lock(&client->mutex);
    bool done = client->state != TP__LINK_UP || tp__unconfirmed_count(&client->unconfirmed) == 0 ||
                tp_clock_ms() >= client->lifecycle.drain_by_ms;
    if (done || tp_server_post(client->network, DRAIN_CHECK_MS, client_drain, client) != TP_OK) {
        client_stop_network(client);
    }
    tp_mutex_unlock(&client->mutex);
}

/* Begins a stop, or shortens one in progress: a second call can only bring the times forward. */
static void client_stop_by(tp_lanclient *client, uint64_t drain_by_ms, uint64_t end_by_ms) {
    TP_ASSERT_LOCKED(&client->mutex);
    bool begin = tp__lifecycle_stop(&client->lifecycle, drain_by_ms, end_by_ms);
    if (begin && tp_server_post(client->network, 1, client_drain, client) != TP_OK) {
        client_stop_network(client);
    } else if (client->lifecycle.started && client->lifecycle.ending) {
        tp_server_stop_within(client->network, tp__left_until(client->lifecycle.end_by_ms));
    }
}

void tp_lanclient_stop(tp_lanclient *client) {
    uint64_t now = tp_clock_ms();
    tp_mutex_lock(&client->mutex);
    if (!tp__lifecycle_stopping(&client->lifecycle)) {
        client_stop_by(client, now + client->options.drain_timeout_ms, UINT64_MAX);
    }
    tp_mutex_unlock(&client->mutex);
}

/* A quarter of the time is left for the network, to send what is queued and close the connection in
 * order. */
void tp_lanclient_stop_within(tp_lanclient *client, unsigned stop_ms) {
    uint64_t now = tp_clock_ms();
    unsigned confirm_ms = stop_ms - stop_ms / 4;
    unsigned most_ms = client->options.drain_timeout_ms;
    tp_mutex_lock(&client->mutex);
    client_stop_by(client, now + (confirm_ms < most_ms ? confirm_ms : most_ms), now + stop_ms);
    tp_mutex_unlock(&client->mutex);
}

bool tp__lanclient_stopping(tp_lanclient *client) {
    return tp__lifecycle_stopping(&client->lifecycle);
}

/* An earlier call may have seen the network's end. */
static tp_err client_wait_for_network(void *context, int timeout_ms) {
    tp_lanclient *client = context;
    tp_err error = tp_server_wait(client->network, timeout_ms);
    return error == TP_ERR_STATE ? TP_OK : error;
}

static void client_on_over(void *context) {
    tp_lanclient *client = context;
    TP_ASSERT_LOCKED(&client->mutex);
    assert(tp_lanclient_self(client) == TP_NO_PEER); /* the network's last session has left */
    client->state = TP__LINK_OFF;
}

/* A worker of this client that waited for the drain would hang, so the network is asked first: it
 * recognises its own threads. */
tp_err tp_lanclient_wait(tp_lanclient *client, int timeout_ms) {
    const tp__lifecycle_owner owner = {
        .owner = client, .wait = client_wait_for_network, .over = client_on_over};
    if (client->network && tp_server_wait(client->network, 0) == TP_ERR_WRONG_THREAD) {
        return TP_ERR_WRONG_THREAD;
    }
    return tp__lifecycle_wait(&client->lifecycle, timeout_ms, &owner);
}

/* ---- queries --------------------------------------------------------------------------------- */

void *tp_lanclient_context(const tp_lanclient *client) {
    return client->options.context;
}

tp_peer_id tp_lanclient_self(const tp_lanclient *client) {
    return atomic_load_explicit(&client->self, memory_order_acquire);
}

/* Queries are const in the public header, although they take the mutex: that changes nothing
 * visible. */
static tp_lanclient *unconst(const tp_lanclient *client) {
    return (tp_lanclient *)(uintptr_t)client;
}

size_t tp_lanclient_max_message(const tp_lanclient *asked) {
    tp_lanclient *client = unconst(asked);
    tp_mutex_lock(&client->mutex);
    bool up = client->state == TP__LINK_UP && client->max_payload > TP_BUS_HEADER;
    size_t size = up ? client->max_payload - TP_BUS_HEADER : 0;
    tp_mutex_unlock(&client->mutex);
    return size;
}

size_t tp_lanclient_peers(
    const tp_lanclient *client, const char *service, tp_peer *peers, size_t capacity) {
    return tp__peer_table_list(&unconst(client)->peers, service, peers, capacity);
}

bool tp_lanclient_find_peer(const tp_lanclient *client, tp_peer_id id, tp_peer *peer) {
    return tp__peer_table_find(&unconst(client)->peers, id, peer);
}

struct client_stats_listed {
    size_t size;
    TP__CLIENT_STATS(TP__STATS_FIELD, TP__STATS_FIELD)
};
#define TIE(name) TP__STATS_TIE_FIELD(struct client_stats_listed, tp_lanclient_stats, name)
TP__STATS_TIE(struct client_stats_listed, tp_lanclient_stats);
TP__CLIENT_STATS(TIE, TIE)
#undef TIE

void tp_lanclient_get_stats(const tp_lanclient *asked, tp_lanclient_stats *stats) {
    tp_lanclient *client = unconst(asked);
    size_t size = stats->size;
    tp_lanclient_stats now = {.size = size};
    tp_mutex_lock(&client->mutex);
    uint64_t acknowledged = tp__unconfirmed_acknowledged(&client->unconfirmed);
    now.sent = client->sent;
    now.confirmed = client->confirmed_before + acknowledged;
    now.lost = client->lost;
    now.unconfirmed = tp__unconfirmed_tail(&client->unconfirmed) - acknowledged;
    now.requests = client->requested;
    tp_mutex_unlock(&client->mutex);
    now.requests_open = tp__requests_open(&client->requests);
#define READ(name) now.name = tp__count_read(&client->name);
    TP__CLIENT_STATS(READ, TP__STATS_NONE)
#undef READ
    memcpy(stats, &now, size < sizeof now ? size : sizeof now);
}
