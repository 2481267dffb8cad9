/*
 * The life of a session: open, join, close or finish, release.
 *
 * Opening and joining run on workers (and the first step of an outgoing connection on any thread);
 * closing on any thread that holds the session; the release on a worker, at the top level of a
 * completion, so that no handler ever runs inside a call of the content's.
 *
 * A slot belongs to its session from open until the end of the release, which gives it back.
 */
#include "core/engine/session_state.h"

#include <string.h>

#include "core/engine/server_state.h"
#include "core/log/refusal.h"
#include "core/packet/packet_internal.h"
#include "os/clock.h"
#include "proto/frame.h"
#include "twinport/log.h"

/* ---- opening --------------------------------------------------------------------------------- */

static bool take_place(tp_server *server) {
    unsigned others = atomic_fetch_add(&server->session_count, 1);
    if (others < server->options.max_sessions) {
        return true;
    }
    atomic_fetch_sub(&server->session_count, 1);
    return false;
}

/* Once: at the beginning of the end, or at the release if there was none. */
static void give_place_back(tp__session *session) {
    if (atomic_exchange(&session->counted, false)) {
        atomic_fetch_sub(&session->server->session_count, 1);
    }
}

tp__session *tp__session_open(tp_server *server, const tp_address *peer, bool outgoing) {
    atomic_fetch_add(&server->slots_used, 1);
    tp__server_make_room(server);
    uint32_t index = tp__slots_take(&server->slots);
    if (index == TP__NO_SLOT) {
        atomic_fetch_sub(&server->slots_used, 1);
        return NULL;
    }

    tp__session *session = &server->sessions[index];
    size_t kept = offsetof(tp__session, server); /* the life word and home: see session_state.h */
    memset((unsigned char *)session + kept, 0, sizeof *session - kept);
    uint64_t number = atomic_fetch_add(&server->next_number, 1);
    session->server = server;
    session->index = index;
    session->id = (number << 20) | index;
    session->peer = *peer;
    session->outgoing = outgoing;
    session->counted = server->layer.begin == NULL && take_place(server);
    session->joined_ms = tp_clock_ms();
    tp_trace(TP_TRACE_OPEN, session->id, outgoing);
    tp__life_open(&session->life, session->id);
    return session;
}

static void give_slot_back(tp__session *session) {
    tp_server *server = session->server;
    give_place_back(session);
    tp__slots_give(&server->slots, session->index);
    atomic_fetch_sub(&server->slots_used, 1);
}

/*
 * Nobody but late callers can have a hold, and what they have is transient. Closing with no socket
 * to wait for, the slot is free again as soon as the count is 0; if a late caller is the last, it
 * is he who releases, and release finds a session that never was anything.
 */
void tp__session_abandon(tp__session *session) {
    session->outgoing = false; /* the caller is told by an error, not by on_leave */
    tp__life_begin_closing(&session->life);
    tp__session_leave(session);
}

/* The port stays while this is in it: a stop waits for `callers`. */
bool tp__session_post(tp__session *session, tp_op *op) {
    tp_server *server = session->server;
    atomic_fetch_add(&server->callers, 1);
    tp_err error = tp_port_post(server->port, &session->socket, op);
    atomic_fetch_sub(&server->callers, 1);
    return error == TP_OK;
}

/* ---- joining --------------------------------------------------------------------------------- */

/* False: it was cut at this moment, and content has not heard of it. */
static bool join(tp__session *session, tp__worker *worker) {
    tp_server *server = session->server;
    /* What the connection took to come about is neither age nor silence. */
    session->joined_ms = tp_clock_ms();
    uint64_t served_ms = tp__session_served_ms(session, session->joined_ms);
    atomic_store_explicit(&session->heard_ms, served_ms, memory_order_relaxed);
    atomic_store_explicit(&session->finish_by_ms, 0, memory_order_relaxed);
    session->joined = true;
    if (!tp__life_joined(&session->life)) {
        session->joined = false;
        return false;
    }
    tp_trace(TP_TRACE_JOIN, session->id, 0);
    TP__COUNT(server, worker, joined, 1);
    if (server->handlers.on_join) {
        server->handlers.on_join(server, session->id);
    }
    return true;
}

static void tell_full(tp__session *session, tp__worker *worker) {
    tp_server *server = session->server;
    TP__COUNT(server, worker, full, 1);
    TP__REFUSED(TP_LOG_INFO, server->name, &session->peer, "full: max_sessions are here");
    tp__session_turn_away(session, TP_END_OVERLOAD, TP_CLOSE_FULL);
}

bool tp__session_join(tp__session *session, tp__worker *worker) {
    tp_server *server = session->server;
    session->counted = take_place(server);
    if (!session->counted) {
        tell_full(session, worker);
        return false;
    }
    return join(session, worker);
}

/* From here on the sweep may cut it, which is why it waits until its socket is attached and this
 * thread has a hold. */
static void be_pending(tp__session *session, tp__worker *worker) {
    const tp__layer *layer = &session->server->layer;
    uint64_t by_ms = tp__session_by_ms(session, layer->open_timeout_ms);
    atomic_store_explicit(&session->finish_by_ms, by_ms, memory_order_release);
    layer->begin(session, worker);
}

/* What comes first on the worker that serves the socket; then the receive. */
static void begin(tp__session *session, tp__worker *worker) {
    if (session->server->layer.begin) {
        be_pending(session, worker);
    } else if (!session->counted) {
        tell_full(session, worker);
    } else if (!join(session, worker)) {
        return;
    }
    tp__session_receive(session, worker);
}

static void started_here(tp_op *op, const tp_completion *completion) {
    tp__session *session = TP_CONTAINER_OF(op, tp__session, receive_op);
    tp__worker *worker = tp_worker_context(completion->worker);
    if (tp_port_binds(session->server->port)) {
        atomic_store_explicit(&session->home, worker, memory_order_relaxed);
    }
    if (!(tp__life_read(&session->life) & TP__LIFE_CLOSING)) {
        begin(session, worker);
    }
    tp__session_drop(session, worker);
}

void tp__session_start(tp__session *session, tp__worker *worker) {
    tp__life_hold(&session->life);
    if (tp_port_serves(worker->seat, &session->socket)) {
        const tp_completion here = {.worker = worker->seat};
        started_here(&session->receive_op, &here);
        return;
    }
    session->receive_op.done = started_here;
    tp_err error = tp_port_post(session->server->port, &session->socket, &session->receive_op);
    if (error) {
        int os_error = tp_os_error();
        tp__server_report(session->server, worker, error, os_error, "join");
        tp__session_close(session, session->outgoing ? TP_END_CONNECT_FAILED : TP_END_OS, os_error);
        tp__session_drop(session, worker);
    }
}

/* ---- ending ---------------------------------------------------------------------------------- */

static void closed(tp_op *op, const tp_completion *completion) {
    tp__session *session = TP_CONTAINER_OF(op, tp__session, close_op);
    tp__session_drop(session, tp_worker_context(completion->worker));
}

/*
 * The side that ends a connection first keeps it in TIME_WAIT, so a server that is the first resets
 * it: strangers could fill its table otherwise. Nothing that was promised to the peer is lost by
 * that: what it must be told goes before a finish, which waits for the peer to end its stream; then
 * the end is the peer's, and an orderly close costs nothing here. An outgoing session has a port of
 * its own, and ends in order, unless the peer must not take what it has for the whole.
 */
static bool ends_by_reset(const tp__session *session, tp_end_reason reason) {
    switch (reason) {
    case TP_END_PEER_CLOSED:
    case TP_END_TRUNCATED:
        return false;
    case TP_END_OVERLOAD:
    case TP_END_NO_MEMORY:
        return true;
    default:
        return !session->outgoing;
    }
}

/* `reason` is the closer's own. The session's is not his to look at if it was finishing: who began that may
 * be writing it at this moment, and is done when his hold is given back, before the release. */
static void close_socket(tp__session *session, tp_end_reason reason) {
    tp_trace(TP_TRACE_CLOSE, session->id, reason);
    session->close_op.done = closed;
    atomic_fetch_add(&session->server->callers, 1);
    tp_socket_close(&session->socket, &session->close_op, ends_by_reset(session, reason));
    atomic_fetch_sub(&session->server->callers, 1);
}

bool tp__session_close(tp__session *session, tp_end_reason reason, int os_error) {
    uint64_t before = tp__life_begin_closing(&session->life);
    if (before & TP__LIFE_CLOSING) {
        return false;
    }
    if (!(before & TP__LIFE_FINISHING)) {
        session->reason = (uint8_t)reason;
        session->os_error = os_error;
    }
    close_socket(session, reason);
    return true;
}

bool tp__session_close_unjoined(tp__session *session, tp_end_reason reason) {
    uint64_t before;
    if (!tp__life_begin_closing_unjoined(&session->life, &before)) {
        return false;
    }
    if (!(before & TP__LIFE_FINISHING)) {
        session->reason = (uint8_t)reason;
    }
    close_socket(session, reason);
    return true;
}

static tp_packet *close_packet(int close_code) {
    tp_packet *packet = tp__packet_kept(TP_FRAME_CLOSE_MIN); /* it waits for all before it */
    if (packet) {
        tp_packet_clear(packet);
        tp_packet_put_u16(packet, (uint16_t)close_code);
        tp__packet_seal(packet, TP_FRAME_CLOSE);
    }
    return packet; /* without memory the stream just ends: the peer sees that as well */
}

/* When it is cut if it takes so long to end. Who is pending has no more time to be told that it cannot join
 * than it had to join. */
static uint64_t finish_by(const tp__session *session) {
    uint64_t by_ms = tp__session_by_ms(session, session->server->options.drain_timeout_ms);
    uint64_t join_by_ms = atomic_load_explicit(&session->finish_by_ms, memory_order_relaxed);
    bool pending = join_by_ms != 0 && tp__life_read(&session->life) & TP__LIFE_OPENING;
    return pending && join_by_ms < by_ms ? join_by_ms : by_ms;
}

static bool finish(tp__session *session, tp_end_reason reason, int close_code, bool turned_away) {
    if (tp__life_read(&session->life) & (TP__LIFE_FINISHING | TP__LIFE_CLOSING)) {
        return false;
    }
    /* Before the flag, which releases it: whoever sees the session finishing sees until when. Of
     * several who come at once all write, and about the same. */
    atomic_store_explicit(&session->finish_by_ms, finish_by(session), memory_order_relaxed);
    uint64_t before = tp__life_begin_finishing(&session->life);
    if (before & (TP__LIFE_FINISHING | TP__LIFE_CLOSING)) {
        return false;
    }
    session->reason = (uint8_t)reason;
    session->turned_away = turned_away;
    give_place_back(session);
    tp_trace(TP_TRACE_FINISH, session->id, session->reason);
    session->end_node.packet = close_code < 0 ? NULL : close_packet(close_code);
    if (session->end_node.packet) {
        size_t bytes = tp__packet_frame_size(session->end_node.packet);
        (void)tp__queue_size_add(&session->queued, TP__QUEUED_ONE | bytes);
    }
    if (tp__send_queue_push(&session->queue, &session->end_node)) {
        tp__life_hold(&session->life);
        tp__session_flush(session);
    }
    return true;
}

bool tp__session_finish(tp__session *session, tp_end_reason reason, int close_code) {
    return finish(session, reason, close_code, false);
}

bool tp__session_turn_away(tp__session *session, tp_end_reason reason, int close_code) {
    return finish(session, reason, close_code, true);
}

/* ---- release --------------------------------------------------------------------------------- */

static void record_end(tp__session *session, uint64_t pending_packets, uint64_t pending_bytes) {
    tp__session_numbers *numbers = &session->numbers;
    const tp_session_end end = {
        .size = sizeof end,
        .session = session->id,
        .peer = session->peer,
        .reason = (tp_end_reason)session->reason,
        .os_error = session->os_error,
        .close_code = session->close_code,
        .pending_packets = (uint32_t)pending_packets,
        .pending_bytes = pending_bytes,
        .received_messages =
            atomic_load_explicit(&numbers->received_messages, memory_order_relaxed),
        .received_bytes = atomic_load_explicit(&numbers->received_bytes, memory_order_relaxed),
        .sent_messages = atomic_load_explicit(&numbers->sent_messages, memory_order_relaxed),
        .sent_bytes = atomic_load_explicit(&numbers->sent_bytes, memory_order_relaxed),
        .age_ms = tp_clock_ms() - session->joined_ms,
        .ended_wall_ms = tp_clock_wall_ms(),
    };
    tp__ledger_record(session->server->ledger, &end);
}

static void release(tp__session *session, tp__worker *worker) {
    tp_server *server = session->server;
    uint64_t packets, bytes;
    tp_trace(TP_TRACE_RELEASE, session->id, session->reason);
    atomic_store_explicit(&session->home, NULL, memory_order_relaxed);
    tp__session_discard(session, &packets, &bytes);
    tp_packet_release(session->receive.partial);
    session->receive.partial = NULL;

    if (server->layer.end) {
        server->layer.end(session);
    }
    if (session->joined || session->outgoing) {
        record_end(session, packets, bytes);
        TP__COUNT(server, worker, left, 1);
        TP__COUNT(server, worker, ends[session->reason], 1);
        if (server->handlers.on_leave) {
            server->handlers.on_leave(server, session->id, (tp_end_reason)session->reason);
        }
    }
    if (server->layer.release) {
        server->layer.release(session, worker);
    }
    give_slot_back(session);
}

static void release_here(tp_op *op, const tp_completion *completion) {
    tp__session *session = TP_CONTAINER_OF(op, tp__session, close_op);
    release(session, tp_worker_context(completion->worker));
}

static void leave_to_sweep(tp__session *session) {
    tp_server *server = session->server;
    tp__session *first = atomic_load_explicit(&server->orphans, memory_order_relaxed);
    do {
        session->next = first;
    } while (!atomic_compare_exchange_weak_explicit(
        &server->orphans, &first, session, memory_order_release, memory_order_relaxed));
}

/* The close op is free: its completion gave back the socket's hold, and no hold is left. */
void tp__session_release_later(tp__session *session) {
    tp_server *server = session->server;
    session->close_op.done = release_here;
    atomic_fetch_add(&server->callers, 1);
    if (tp_port_post(server->port, &session->socket, &session->close_op) != TP_OK) {
        leave_to_sweep(session);
    }
    atomic_fetch_sub(&server->callers, 1);
}

void tp__session_leave(tp__session *session) {
    if (tp__life_drop(&session->life)) {
        tp__session_release_later(session);
    }
}

void tp__session_drop(tp__session *session, tp__worker *worker) {
    if (tp__life_drop(&session->life)) {
        release(session, worker);
    }
}

tp__session *tp__session_enter(tp_server *server, tp_session_id id, uint64_t barred) {
    uint32_t index = (uint32_t)id & (TP_MAX_SESSIONS - 1);
    if (index >= server->slots.count || (id & TP__LIFE_NUMBER) == 0) {
        return NULL;
    }
    tp__session *session = &server->sessions[index];
    switch (tp__life_enter(&session->life, id, barred | TP__LIFE_RELEASED)) {
    case TP__LIFE_ENTERED:
        return session;
    case TP__LIFE_TURNED_AWAY_LAST:
        tp__session_release_later(session);
        return NULL;
    case TP__LIFE_TURNED_AWAY:
        break;
    }
    return NULL;
}
