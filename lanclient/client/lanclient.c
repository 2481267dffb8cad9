/*
 * A client's life: options, start, stop, and what can be asked. Any thread, as the public header
 * says.
 *
 * A stop has two parts. First nothing new is taken and what was sent is given time to be confirmed,
 * since the network listens to nobody once it stops; then the network stops, which ends the
 * connection.
 */
#include "lanclient/client/client.h"

#include <stdio.h>
#include <string.h>

#include "core/base/deadline.h"
#include "os/clock.h"
#include "os/process.h"
#include "os/random.h"
#include "twinport/log.h"

#define DRAIN_LOOK_MS 10u

/* Slots of the network: one connection, and room for one that is still leaving. */
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

static bool name_valid(const char *name) {
    return name && tp_bus_name_valid(name, strlen(name));
}

/* What is wrong with the options, or NULL. What the network checks by itself is left to it. */
static const char *fault_of(const tp_lanclient_options *options) {
    if (options->size != sizeof *options) {
        return "not made by tp_lanclient_defaults() of this version";
    }
    if (!name_valid(options->service)) {
        return "service: 1..63 bytes of a-z 0-9 . _ -";
    }
    if (options->instance && !name_valid(options->instance)) {
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

/* What each asks of another, in the range of its own. That max_frame may be above queue_bytes is no
 * mistake: an empty queue takes any message. */
static bool fit_together(const tp_lanclient_options *options) {
    if (options->backoff_min_ms > options->backoff_max_ms) {
        TP_LOG(TP_LOG_ERROR,
            "lanclient options: backoff_min_ms is %u and backoff_max_ms is %u: expected the first "
            "not above the second",
            options->backoff_min_ms, options->backoff_max_ms);
        return false;
    }
    return true;
}

static void copy_names(tp_lanclient *client) {
    tp_lanclient_options *options = &client->options;
    snprintf(client->service, sizeof client->service, "%s", options->service);
    snprintf(client->io, sizeof client->io, "%s", options->io);
    if (options->instance) {
        snprintf(client->instance, sizeof client->instance, "%s", options->instance);
    } else {
        /* Of one name a keyed choice finds only one: the process's number alone would not do, for
         * two clients in one process, or for the process number 1 of every container. */
        uint32_t random;
        tp_random_bytes(&random, sizeof random);
        snprintf(client->instance, sizeof client->instance, "%llu-%08x",
            (unsigned long long)tp_process_id(), (unsigned)random);
    }
    options->service = client->service;
    options->instance = client->instance;
    options->io = client->io;
}

static tp_err create_network(tp_lanclient *client) {
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
    network.queue_policy = TP_QUEUE_REFUSE; /* a full queue is the sender's to know, at once */
    network.idle_timeout_ms = options->idle_timeout_ms;
    network.ping_interval_ms = options->idle_timeout_ms / 2;
    network.connect_timeout_ms = options->connect_timeout_ms;
    network.drain_timeout_ms = options->drain_timeout_ms;
    return tp_server_create(&network, &handlers, &client->network);
}

tp_err tp_lanclient_create(const tp_lanclient_options *options,
    const tp_lanclient_handlers *handlers, tp_lanclient **created) {
    *created = NULL;
    const char *fault = fault_of(options);
    if (fault || handlers->size != sizeof *handlers) {
        TP_LOG(TP_LOG_ERROR, "lanclient options: %s",
            fault ? fault : "handlers are not of this version");
        return TP_ERR_INVALID;
    }
    if (!fit_together(options)) {
        return TP_ERR_INVALID;
    }
    tp_lanclient *client = tp__allocate_zeroed(1, sizeof *client);
    if (!client) {
        return TP_ERR_NO_MEMORY;
    }
    client->options = *options;
    client->handlers = *handlers;
    copy_names(client);
    tp_mutex_init(&client->mutex);
    tp_condition_init(&client->changed);
    tp__unconfirmed_init(&client->unconfirmed, options->max_unconfirmed);
    tp__requests_init(&client->requests, options->max_requests);
    tp__known_init(&client->known);
    tp_err error = create_network(client);
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
    (void)tp_lanclient_wait(client, -1); /* only if a stop is under way, which has its own limit */
    tp_mutex_lock(&client->mutex);
    client->stopping = true; /* the last on_leave connects no more */
    tp_mutex_unlock(&client->mutex);
    tp_server_destroy(client->network);
    tp__known_destroy(&client->known);
    tp__requests_destroy(&client->requests);
    tp__unconfirmed_clear(&client->unconfirmed);
    tp_condition_destroy(&client->changed);
    tp_mutex_destroy(&client->mutex);
    tp__free(client);
}

/* ---- start and stop -------------------------------------------------------------------------- */

/* Under the mutex, like the look at what it follows from: let go of in between, somebody else might
 * stop the network, wait for it and start it again, and the stop would hit that run. */
static void stop_network(tp_lanclient *client) {
    /* What has been handled up to here need not come back to its senders. */
    tp__lanclient_ack_locked(client);
    tp_server_stop_within(client->network, tp__left_until(client->end_by_ms));
    client->network_told = true;
    tp_condition_wake_all(&client->changed);
}

/* The last that a start does: from here on a wait need not wait for it. */
static void end_start(tp_lanclient *client, bool runs) {
    tp_mutex_lock(&client->mutex);
    client->starting = false;
    if (!runs) {
        client->started = false;
        client->state = TP__LINK_OFF;
    } else if (client->stopping) {
        stop_network(client); /* whoever asked for it may have found nothing to stop yet */
    }
    tp_condition_wake_all(&client->changed);
    tp_mutex_unlock(&client->mutex);
}

/* The network runs. With the first tick there is room for all tasks that the client ever has
 * waiting (tick, connect, trim, drain): none of them can be lost for want of memory later. */
static tp_err begin(tp_lanclient *client) {
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
    bool running = client->started;
    if (!running) {
        client->started = true;
        client->starting = true;
        client->stopping = false;
        client->network_told = false;
        client->attempts = 0;
        client->state = TP__LINK_WAITING;
        tp__link_clock_reset(client);
        atomic_store(&client->tick_armed, false);
    }
    tp_mutex_unlock(&client->mutex);
    if (running) {
        return TP_ERR_STATE;
    }
    tp_err error = tp_server_start(client->network);
    if (!error) {
        error = begin(client);
    }
    end_start(client, error == TP_OK);
    return error;
}

/* Comes round until everything is confirmed, or the time is over. */
static void drain(void *context) {
    tp_lanclient *client = context;
    tp_mutex_lock(&client->mutex);
    bool done = client->state != TP__LINK_UP || tp__unconfirmed_count(&client->unconfirmed) == 0 ||
                tp_clock_ms() >= client->stop_by_ms;
    if (done || tp_server_post(client->network, DRAIN_LOOK_MS, drain, client) != TP_OK) {
        stop_network(client);
    }
    tp_mutex_unlock(&client->mutex);
}

static uint64_t earlier(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* Under the mutex. A second call can only bring the times forward. */
static void stop_by(tp_lanclient *client, uint64_t stop_by_ms, uint64_t end_by_ms) {
    if (!client->started) {
        return;
    }
    bool begin = !client->stopping;
    client->stopping = true;
    client->stop_by_ms = begin ? stop_by_ms : earlier(stop_by_ms, client->stop_by_ms);
    client->end_by_ms = begin ? end_by_ms : earlier(end_by_ms, client->end_by_ms);
    if (begin && tp_server_post(client->network, 1, drain, client) != TP_OK) {
        stop_network(client);
    } else if (client->network_told) {
        tp_server_stop_within(client->network, tp__left_until(client->end_by_ms));
    }
}

void tp_lanclient_stop(tp_lanclient *client) {
    uint64_t now = tp_clock_ms();
    tp_mutex_lock(&client->mutex);
    if (!client->stopping) {
        stop_by(client, now + client->options.drain_timeout_ms, UINT64_MAX);
    }
    tp_mutex_unlock(&client->mutex);
}

/* A quarter is the network's, to bring out what is queued and hang up in order. */
void tp_lanclient_stop_within(tp_lanclient *client, unsigned stop_ms) {
    uint64_t now = tp_clock_ms();
    uint64_t confirm_ms = stop_ms - stop_ms / 4;
    tp_mutex_lock(&client->mutex);
    stop_by(client, now + earlier(confirm_ms, client->options.drain_timeout_ms), now + stop_ms);
    tp_mutex_unlock(&client->mutex);
}

bool tp__lanclient_stopping(tp_lanclient *client) {
    tp_mutex_lock(&client->mutex);
    bool stopping = client->stopping;
    tp_mutex_unlock(&client->mutex);
    return stopping;
}

/* Under the mutex. */
static bool is_stopping(const tp_lanclient *client) {
    return client->started && client->stopping;
}

/*
 * Waiting for the drain would hang on a worker of this very client, so the network is asked first:
 * it knows its own threads. It says TP_ERR_STATE as long as it was not told to stop, and again when
 * that is over.
 *
 * A start that is under way is waited for as well, since it would go on in the next run
 * otherwise. If it fails there is nothing left to stop.
 */
tp_err tp_lanclient_wait(tp_lanclient *client, int timeout_ms) {
    uint64_t since = tp_clock_ms();
    tp_err error = client->network ? tp_server_wait(client->network, 0) : TP_ERR_STATE;
    if (error == TP_ERR_WRONG_THREAD) {
        return error;
    }
    tp_mutex_lock(&client->mutex);
    bool asked = is_stopping(client);
    int left = timeout_ms;
    while (is_stopping(client) && (client->starting || !client->network_told) && left != 0) {
        tp_condition_wait(&client->changed, &client->mutex, left);
        left = tp__left_of(timeout_ms, since);
    }
    bool over = !is_stopping(client);
    bool told = !client->starting && client->network_told;
    tp_mutex_unlock(&client->mutex);
    if (over) {
        return asked ? TP_OK : TP_ERR_STATE;
    }
    if (!told) {
        return TP_ERR_TIMED_OUT;
    }
    if (error) {
        error = tp_server_wait(client->network, left);
        error = error == TP_ERR_STATE ? TP_OK : error; /* an earlier look has found its end */
    }
    if (!error) {
        tp_mutex_lock(&client->mutex);
        client->started = false;
        client->state = TP__LINK_OFF;
        tp_mutex_unlock(&client->mutex);
    }
    return error;
}

/* ---- questions ------------------------------------------------------------------------------- */

void *tp_lanclient_context(const tp_lanclient *client) {
    return client->options.context;
}

tp_peer_id tp_lanclient_self(const tp_lanclient *client) {
    return atomic_load_explicit(&client->self, memory_order_acquire);
}

/* A question must take a mutex: that changes nothing the user sees, so the questions are const
 * outside. */
static tp_lanclient *unconst(const tp_lanclient *client) {
    return (tp_lanclient *)(uintptr_t)client;
}

size_t tp_lanclient_max_message(const tp_lanclient *asked) {
    tp_lanclient *client = unconst(asked);
    tp_mutex_lock(&client->mutex);
    bool up = client->state == TP__LINK_UP && client->max_payload > TP_BUS_HEADER;
    size_t most = up ? client->max_payload - TP_BUS_HEADER : 0;
    tp_mutex_unlock(&client->mutex);
    return most;
}

size_t tp_lanclient_peers(
    const tp_lanclient *client, const char *service, tp_peer *peers, size_t room) {
    return tp__known_list(&unconst(client)->known, service, peers, room);
}

bool tp_lanclient_find_peer(const tp_lanclient *client, tp_peer_id id, tp_peer *peer) {
    return tp__known_find(&unconst(client)->known, id, peer);
}

static uint64_t read(const _Atomic uint64_t *counter) {
    return atomic_load_explicit(counter, memory_order_relaxed);
}

void tp_lanclient_get_stats(const tp_lanclient *asked, tp_lanclient_stats *stats) {
    tp_lanclient *client = unconst(asked);
    size_t size = stats->size;
    tp_lanclient_stats now = {.size = size};
    tp_mutex_lock(&client->mutex);
    uint64_t head = tp__unconfirmed_head(&client->unconfirmed);
    now.sent = client->sent;
    now.confirmed = client->confirmed_before + head;
    now.lost = client->lost;
    now.unconfirmed = tp__unconfirmed_tail(&client->unconfirmed) - head;
    now.requests = client->requested;
    tp_mutex_unlock(&client->mutex);
    now.returned = read(&client->returned);
    now.received = read(&client->received);
    now.requests_open = tp__requests_open(&client->requests);
    now.replies = read(&client->replies);
    now.timed_out = read(&client->timed_out);
    now.peers_gone = read(&client->peers_gone);
    now.late = read(&client->late);
    now.connections = read(&client->connections);
    now.connect_failures = read(&client->connect_failures);
    now.trims = read(&client->trims);
    memcpy(stats, &now, size < sizeof now ? size : sizeof now);
}
