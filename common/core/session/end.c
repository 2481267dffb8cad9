/*
 * A session ends: close and release, and the holds that come before.
 *
 * Closing runs on any thread that holds the session; the release on a worker, at the top level of a
 * completion, so that no handler ever runs inside a call of the content's. The release gives the
 * slot back; until then it belongs to its session.
 */
#include "core/engine/server_state.h"
#include "os/clock.h"
#include "twinport/log.h"

/* Once: at the beginning of the end, or at the release if there was none. */
void tp__session_give_place_back(tp__session *session) {
    if (atomic_exchange(&session->counted, false)) {
        atomic_fetch_sub(&session->server->session_count, 1);
    }
}

static void give_slot_back(tp__session *session) {
    tp_server *server = session->server;
    tp__session_give_place_back(session);
    tp__slots_give(&server->slots, session->index);
    atomic_fetch_sub(&server->slots_used, 1);
}

/* The port stays while this is in it: a stop waits for `callers`. */
bool tp__session_post(tp__session *session, tp_op *op) {
    tp_server *server = session->server;
    atomic_fetch_add(&server->callers, 1);
    tp_err error = tp_port_post(server->port, &session->socket, op);
    atomic_fetch_sub(&server->callers, 1);
    return error == TP_OK;
}

/* ---- closing --------------------------------------------------------------------------------- */

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

/* `reason` is the closer's own. The session's is not his to look at if it was finishing: who began
 * that may be writing it at this moment, and is done when his hold is given back, before the
 * release. */
static void close_socket(tp__session *session, tp_end_reason reason) {
    tp_trace(TP_TRACE_CLOSE, tp__session_id(session), reason);
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

/* ---- release --------------------------------------------------------------------------------- */

static void record_end(tp__session *session, uint64_t pending_packets, uint64_t pending_bytes) {
    tp__session_numbers *numbers = &session->numbers;
    const tp_session_end end = {
        .size = sizeof end,
        .session = tp__session_id(session),
        .peer = session->peer,
        .reason = (tp_end_reason)session->reason,
        .os_error = session->os_error,
        .close_code = session->receive.close_code,
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
    tp_trace(TP_TRACE_RELEASE, tp__session_id(session), session->reason);
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
            server->handlers.on_leave(
                server, tp__session_id(session), (tp_end_reason)session->reason);
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
