/*
 * A WAN server: create and destroy, and the layer that it is to the core.
 *
 * Create and destroy run on the content's threads; the layer's functions on the server's workers
 * (core/engine/layer.h). The handshake threads live from the one to the other: between two runs
 * they have nothing to do, for what they work on holds a session.
 */
#include <string.h>

#include "core/memory/memory.h"
#include "os/clock.h"
#include "twinport/log.h"
#include "wanserver/wan.h"

/* ---- a connection comes and goes ------------------------------------------------------------- */

/* Who comes too fast may have waited while a handler held up the worker that takes him. */
static tp__admission ask_limiter(tp__wan *wan, const tp_address *peer, uint64_t now_ms) {
    tp__worker *worker = tp__worker_here(wan->server);
    uint64_t stall_ms = worker ? worker->stall_ms : 0;
    tp__admission admission = tp__limiter_admit(wan->limiter, peer, now_ms, stall_ms);
    if (admission == TP__TOO_FAST && worker && tp__worker_looks_again(worker)) {
        admission = tp__limiter_admit(wan->limiter, peer, now_ms, worker->stall_ms);
    }
    return admission;
}

static bool admit(void *context, const tp_address *peer) {
    tp__wan *wan = context;
    uint64_t now_ms = tp_clock_ms();
    if (!tp__bans_admit(wan->bans, peer, now_ms)) {
        tp__wan_refuse(wan, TP__REFUSAL_BANNED, peer);
        return false;
    }
    switch (ask_limiter(wan, peer, now_ms)) {
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

static void dismiss(void *context, const tp_address *peer) {
    tp__wan *wan = context;
    tp__limiter_leave(wan->limiter, peer);
}

static void evict(tp__wan *wan, tp_session_id id) {
    tp__session *session = tp__session_enter(wan->server, id, TP__LIFE_CLOSING);
    if (session) {
        if (tp__session_close_unjoined(session, TP_END_OVERLOAD)) {
            tp__wan_refuse(wan, TP__REFUSAL_EVICTED, &session->peer);
        }
        tp__session_leave(session);
    }
}

static void begin(tp__session *session, tp__worker *worker) {
    tp__wan *wan = tp__wan_of(session);
    tp_session_id in_its_place;
    (void)worker;
    atomic_store_explicit(&tp__player_of(session)->stage, TP__PLAYER_HELLO, memory_order_release);
    if (!tp__bans_admit(wan->bans, &session->peer, tp_clock_ms())) {
        /* since it was admitted: see ban.c */
        tp__wan_refuse(wan, TP__REFUSAL_BANNED, &session->peer);
        tp__session_close(session, TP_END_KICKED, 0);
        return;
    }
    if (!tp__pending_add(&wan->pending, session, &in_its_place)) {
        tp__wan_refuse(wan, TP__REFUSAL_CROWDED, &session->peer);
        tp__session_close(session, TP_END_OVERLOAD, 0);
    }
    if (in_its_place != TP_NO_SESSION) {
        evict(wan, in_its_place);
    }
}

static void take(tp__session *session, tp__worker *worker, const uint8_t *bytes, size_t count) {
    uint8_t stage = atomic_load_explicit(&tp__player_of(session)->stage, memory_order_acquire);
    if (TP_LIKELY(stage >= TP__PLAYER_WELCOMED)) {
        tp__records_take(session, worker, bytes, count);
    } else {
        tp__hello_take(session, worker, bytes, count);
    }
}

/* Ends that are decided elsewhere: those of sessions, and of pending connections that went or were
 * late. */
static void end(tp__session *session) {
    tp__wan *wan = tp__wan_of(session);
    if (atomic_load_explicit(&tp__player_of(session)->stage, memory_order_relaxed) ==
        TP__PLAYER_NONE) {
        return;
    }
    switch (session->reason) {
    case TP_END_TAMPERED:
        tp__count_shared(&wan->tampered, session->joined);
        break;
    case TP_END_RATE:
        tp__count_shared(&wan->rate_limited, session->joined);
        break;
    case TP_END_KEY_LIMIT:
        tp__count_shared(&wan->key_limit, session->joined);
        break;
    case TP_END_IDLE:
        if (!session->joined) {
            tp__wan_refuse(wan, TP__REFUSAL_LATE, &session->peer);
        }
        break;
    case TP_END_TRUNCATED:
    case TP_END_PEER_RESET:
    case TP_END_OS:
        tp__count_shared(&wan->gone, !session->joined);
        break;
    default:
        break;
    }
}

/* Nobody has a hold, and nothing of the session is in progress: the player is this thread's alone,
 * but for readers of its identity. */
static void release(tp__session *session, tp__worker *worker) {
    tp__wan *wan = tp__wan_of(session);
    tp__player *player = tp__player_of(session);
    (void)worker;
    tp__identity_clear(&player->identity);
    tp_record_destroy(&player->opening);
    tp_record_destroy(&player->sealing);
    tp_packet_release(player->partial);
    tp__limiter_leave(wan->limiter, &session->peer);
    /* last, so that who sees no connection counted finds nothing of theirs either */
    if (atomic_load_explicit(&player->stage, memory_order_relaxed) != TP__PLAYER_NONE) {
        tp__pending_remove(&wan->pending, session);
    }
    memset((void *)player, 0, offsetof(tp__player, identity));
}

tp__wan *tp__wan_of_server(const tp_server *server) {
    const tp__layer *layer = tp__server_layer(server, begin);
    return layer ? layer->context : NULL;
}

/* ---- create and destroy ---------------------------------------------------------------------- */

static void destroy(void *context) {
    tp__wan *wan = context;
    if (wan->handshakes) {
        tp__handshakes_stop(wan->handshakes);
    }
    tp__handshakes_destroy(wan->handshakes);
    tp__replay_destroy(wan->replay);
    tp__limiter_destroy(wan->limiter);
    tp__bans_destroy(wan->bans);
    tp__pending_destroy(&wan->pending);
    tp__ring_destroy(&wan->ring);
    tp__free(wan->workers);
    tp_secure_wipe(&wan->key, sizeof wan->key);
    tp__free(wan);
}

/* What waits so long is taken by the reserve thread: more than a full queue of the standard size
 * takes on a processor of its own, and little in a login. */
#define OVERDUE_MS 200u
/* Handshakes that are done and wait for others to go with them: no more than who logs in would
 * notice. */
#define TOGETHER_MS 10u

static tp_err make_guards(tp__wan *wan) {
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
        .together_ms = TOGETHER_MS,
        .run = tp__welcome_run,
        .deliver = tp__welcome_deliver,
        .drop = tp__welcome_drop,
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

static tp_err make_keys(tp__wan *wan, const tp_wanserver_options *options) {
    tp_err error = tp_secure_init();
    if (!error) {
        error = tp_gateway_key_from_private(options->private_key, &wan->key);
    }
    if (!error && wan->mode == TP_MODE_TOKEN) {
        error = tp__ring_set(&wan->ring, options->token_keys, options->token_key_count);
    }
    return error;
}

/* All of it but the server. */
static tp_err make_wan(const tp_wanserver_options *options, tp__wan **made) {
    tp__wan *wan = tp__allocate_zeroed(1, sizeof *wan);
    if (!wan) {
        return TP_ERR_NO_MEMORY;
    }
    wan->options = *options;
    wan->options.private_key = NULL;
    wan->options.token_keys = NULL;
    wan->mode = options->auth == TP_AUTH_TOKEN ? TP_MODE_TOKEN : TP_MODE_OPEN;
    tp__ring_init(&wan->ring);
    tp__pending_init(&wan->pending, options->max_pending);
    tp_err error = make_keys(wan, options);
    if (!error) {
        error = make_guards(wan);
    }
    if (error) {
        destroy(wan);
        return error;
    }
    *made = wan;
    return TP_OK;
}

static tp__layer layer_of(tp__wan *wan) {
    return (tp__layer){
        .context = wan,
        .state_bytes = sizeof(tp__player),
        .extra_slots = tp__pending_slots(wan->options.max_pending),
        .open_timeout_ms = wan->options.handshake_timeout_ms,
        .fill_bytes = TP__SEAL_RECORDS * TP__SEAL_PLAIN_MOST,
        .admit = admit,
        .dismiss = dismiss,
        .begin = begin,
        .take = take,
        .permit = tp__records_permit,
        .fill = tp__seal_fill,
        .end = end,
        .release = release,
        .destroy = destroy,
    };
}

/* The server has its layer; what needs to know the server, or runs, comes last. */
static tp_err complete(tp__wan *wan, tp_server *server) {
    wan->server = server;
    wan->workers = tp__allocate_zeroed(server->options.workers, sizeof *wan->workers);
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
    error = make_wan(options, &wan);
    if (error) {
        return error;
    }
    tp_server *made = NULL;
    const tp__layer layer = layer_of(wan);
    error = tp__server_create_layered(&options->server, handlers, &layer, &made);
    if (error) {
        destroy(wan);
        return error;
    }
    error = complete(wan, made);
    if (error) {
        tp_server_destroy(made);
        return error;
    }
    *server = made;
    return TP_OK;
}
