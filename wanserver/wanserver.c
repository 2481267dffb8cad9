/*
 * A WAN server: creating and destroying it, and the layer that it puts into the core.
 *
 * Create and destroy run on threads of the application, the layer's functions on the server's
 * workers (core/engine/layer.h). The handshake threads run from create to destroy. Between two runs
 * of the server they have no jobs, because every job has a reference to a session.
 */
#include <assert.h>
#include <string.h>

#include "core/memory/memory.h"
#include "os/clock.h"
#include "twinport/log.h"
#include "wanserver/wan.h"

/* ---- a connection's life --------------------------------------------------------------------- */

/* All workers share the limiter, therefore it goes by the stall of all of them. By the asking
 * worker's own one, a worker that has not noticed the stall yet would cut what the address earned
 * in it. */
static tp__admission wan_ask_limiter(tp__wan *wan, const tp_address *peer, uint64_t now_ms) {
    uint64_t stall_ms = tp__server_stall_ms(wan->server, now_ms);
    return tp__limiter_admit(wan->limiter, peer, now_ms, stall_ms);
}

static bool wan_admit(void *context, const tp_address *peer) {
    tp__wan *wan = context;
    uint64_t now_ms = tp_clock_ms();
    if (!tp__bans_admit(wan->bans, peer, now_ms)) {
        tp__wan_refuse(wan, TP__REFUSAL_BANNED, peer);
        return false;
    }
    switch (wan_ask_limiter(wan, peer, now_ms)) {
    case TP__ADMITTED:
        return true;
    case TP__TOO_FAST:
        tp__wan_refuse(wan, TP__REFUSAL_TOO_FAST, peer);
        break;
    case TP__TOO_MANY:
        tp__wan_refuse(wan, TP__REFUSAL_TOO_MANY, peer);
        break;
    case TP__TOO_MANY_ADDRESSES:
        tp__wan_refuse(wan, TP__REFUSAL_TOO_MANY_ADDRESSES, peer);
        break;
    }
    return false;
}

static void wan_dismiss(void *context, const tp_address *peer) {
    tp__wan *wan = context;
    tp__limiter_leave(wan->limiter, peer);
}

static void wan_evict(tp__wan *wan, tp_session_id id) {
    assert(id != TP_NO_SESSION);
    tp__session *session = tp__layer_enter(wan->server, id);
    if (session) {
        if (tp__session_close_unjoined(session, TP_END_OVERLOAD)) {
            tp__wan_refuse(wan, TP__REFUSAL_EVICTED, tp__layer_peer(session));
        }
        tp__session_leave(session, TP__REFERENCE_CALL);
    }
}

static void wan_begin(tp__session *session, tp__worker *worker) {
    assert(atomic_load_explicit(&tp__connection_of(session)->state, memory_order_relaxed) ==
           TP__CONNECTION_NONE);
    tp__wan *wan = tp__wan_of(session);
    tp_session_id evicted;
    (void)worker;
    atomic_store_explicit(
        &tp__connection_of(session)->state, TP__CONNECTION_HELLO, memory_order_release);
    if (!tp__bans_admit(wan->bans, tp__layer_peer(session), tp_clock_ms())) {
        /* banned after it was admitted: see ban.c */
        tp__wan_refuse(wan, TP__REFUSAL_BANNED, tp__layer_peer(session));
        tp__session_close(session, TP_END_KICKED, 0);
        return;
    }
    if (!tp__pending_add(&wan->pending, session, &evicted)) {
        tp__wan_refuse(wan, TP__REFUSAL_CROWDED, tp__layer_peer(session));
        tp__session_close(session, TP_END_OVERLOAD, 0);
    }
    if (evicted != TP_NO_SESSION) {
        wan_evict(wan, evicted);
    }
}

static void wan_take(tp__session *session, tp__worker *worker, const uint8_t *bytes, size_t count) {
    uint8_t state = atomic_load_explicit(&tp__connection_of(session)->state, memory_order_acquire);
    if (TP_LIKELY(state >= TP__CONNECTION_WELCOMED)) {
        tp__records_take(session, worker, bytes, count);
    } else {
        tp__hello_take(session, worker, bytes, count);
    }
}

/* Counts the ends that other parts decide: those of sessions, and those of pending connections that
 * closed or timed out. */
static void wan_end(tp__session *session) {
    tp__wan *wan = tp__wan_of(session);
    if (atomic_load_explicit(&tp__connection_of(session)->state, memory_order_relaxed) ==
        TP__CONNECTION_NONE) {
        return;
    }
    bool joined = tp__layer_has_joined(session);
    switch (tp__layer_reason(session)) {
    case TP_END_TAMPERED:
        tp__count_shared(&wan->tampered, joined);
        break;
    case TP_END_RATE:
        tp__count_shared(&wan->rate_limited, joined);
        break;
    case TP_END_KEY_LIMIT:
        tp__count_shared(&wan->key_limit, joined);
        break;
    case TP_END_IDLE:
        if (!joined) {
            tp__wan_refuse(wan, TP__REFUSAL_LATE, tp__layer_peer(session));
        }
        break;
    case TP_END_TRUNCATED:
    case TP_END_PEER_RESET:
    case TP_END_OS:
        tp__count_shared(&wan->gone, !joined);
        break;
    default:
        break;
    }
}

/* No reference is left and no operation is in progress: only this thread uses the connection, apart
 * from readers of its identity. */
static void wan_release(tp__session *session, tp__worker *worker) {
    tp__wan *wan = tp__wan_of(session);
    tp__connection *connection = tp__connection_of(session);
    (void)worker;
    tp__identity_clear(&connection->identity);
    tp_record_destroy(&connection->opening);
    tp_record_destroy(&connection->sealing);
    tp_packet_release(connection->partial);
    tp__limiter_leave(wan->limiter, tp__layer_peer(session));
    /* Last: a thread that sees no pending connection finds none of its resources in use either. */
    if (atomic_load_explicit(&connection->state, memory_order_relaxed) != TP__CONNECTION_NONE) {
        tp__pending_remove(&wan->pending, session);
    }
    assert(!connection->counted && !connection->evictable);
    memset((void *)connection, 0, offsetof(tp__connection, identity));
}

tp__wan *tp__wan_of_server(const tp_server *server) {
    const tp__layer *layer = tp__server_layer(server, wan_begin);
    return layer ? layer->context : NULL;
}

/* ---- create and destroy ---------------------------------------------------------------------- */

static void wan_destroy(void *context) {
    tp__wan *wan = context;
    if (wan->handshakes) {
        tp__handshakes_stop(wan->handshakes);
    }
    tp__handshakes_destroy(wan->handshakes);
    tp__replay_destroy(wan->replay);
    tp__limiter_destroy(wan->limiter);
    tp__bans_destroy(wan->bans);
    tp__pending_destroy(&wan->pending);
    tp__token_keys_destroy(&wan->token_keys);
    tp__free(wan->workers);
    tp_secure_wipe(&wan->key, sizeof wan->key);
    tp__free(wan);
}

/* A job that has waited this long is taken by the reserve thread. A full queue of the default size
 * takes less on a processor of its own, and a login is hardly delayed by it. */
#define OVERDUE_MS 200u
/* How long finished handshakes may wait for others to be delivered with them: too short for a user
 * to notice at login. */
#define BATCH_MS 10u

static tp_err wan_make_guards(tp__wan *wan) {
    const tp_wanserver_options *options = &wan->options;
    const tp__limiter_options limits = {
        .rate = options->accept_rate,
        .burst = options->accept_burst,
        .connections = options->connections_per_address,
        .addresses = options->max_addresses,
    };
    const tp__handshakes_options handshakes = {
        .threads = options->handshake_threads,
        .queue = options->handshake_queue + options->handshake_threads,
        .priority = options->handshake_priority,
        .overdue_ms = OVERDUE_MS,
        .batch_ms = BATCH_MS,
        .run = tp__handshake_job_run,
        .deliver = tp__handshake_job_deliver,
        .drop = tp__handshake_job_drop,
    };
    tp_err error = tp__bans_create(&wan->bans);
    if (!error) {
        error = tp__limiter_create(&limits, &wan->limiter);
    }
    if (!error && wan->mode == TP_MODE_TOKEN) {
        error = tp__replay_create(options->replay_tokens, options->max_token_life_s, &wan->replay);
    }
    if (!error) {
        error = tp__handshakes_create(&handshakes, &wan->handshakes);
    }
    return error;
}

static tp_err wan_make_keys(tp__wan *wan, const tp_wanserver_options *options) {
    tp_err error = tp_secure_init();
    if (!error) {
        error = tp_gateway_key_from_private(options->private_key, &wan->key);
    }
    if (!error && wan->mode == TP_MODE_TOKEN) {
        error = tp__token_keys_set(&wan->token_keys, options->token_keys, options->token_key_count);
    }
    return error;
}

/* Makes all of a tp__wan except what needs the server. */
static tp_err wan_make(const tp_wanserver_options *options, tp__wan **made) {
    tp__wan *wan = tp__allocate_zeroed(1, sizeof *wan);
    if (!wan) {
        return TP_ERR_NO_MEMORY;
    }
    wan->options = *options;
    wan->options.private_key = NULL;
    wan->options.token_keys = NULL;
    wan->mode = options->auth == TP_AUTH_TOKEN ? TP_MODE_TOKEN : TP_MODE_OPEN;
    tp__token_keys_init(&wan->token_keys);
    tp__pending_init(&wan->pending, options->max_pending);
    tp_err error = wan_make_keys(wan, options);
    if (!error) {
        error = wan_make_guards(wan);
    }
    if (error) {
        wan_destroy(wan);
        return error;
    }
    *made = wan;
    return TP_OK;
}

static tp__layer wan_layer(tp__wan *wan) {
    return (tp__layer){
        .context = wan,
        .state_bytes = sizeof(tp__connection),
        .extra_slots = tp__pending_slots(wan->options.max_pending),
        .open_timeout_ms = wan->options.handshake_timeout_ms,
        .fill_bytes = TP__SEAL_RECORDS * TP__SEAL_PLAIN_MAX,
        .admit = wan_admit,
        .dismiss = wan_dismiss,
        .begin = wan_begin,
        .take = wan_take,
        .permit = tp__records_permit,
        .fill = tp__seal_fill,
        .end = wan_end,
        .release = wan_release,
        .destroy = wan_destroy,
    };
}

/* The last step of create, when the server has its layer: what needs the server or runs threads. */
static tp_err wan_complete(tp__wan *wan, tp_server *server) {
    assert(!wan->server && !wan->workers);
    wan->server = server;
    wan->workers =
        tp__allocate_zeroed(tp__layer_server_options(server)->workers, sizeof *wan->workers);
    return wan->workers ? tp__handshakes_start(wan->handshakes) : TP_ERR_NO_MEMORY;
}

tp_err tp_wanserver_create(
    const tp_wanserver_options *options, const tp_handlers *handlers, tp_server **server) {
    *server = NULL;
    tp_err error = tp__wan_check_options(options);
    if (error) {
        return error;
    }
    tp__wan *wan = NULL;
    error = wan_make(options, &wan);
    if (error) {
        return error;
    }
    tp_server *made = NULL;
    const tp__layer layer = wan_layer(wan);
    error = tp__server_create_layered(&options->server, handlers, &layer, &made);
    if (error) {
        wan_destroy(wan);
        return error;
    }
    error = wan_complete(wan, made);
    if (error) {
        tp_server_destroy(made);
        return error;
    }
    *server = made;
    return TP_OK;
}
