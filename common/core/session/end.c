/*
 * The end of a session: close, release, and references.
 *
 * Closing runs on any thread that has a reference. The release runs on a worker, at the top level
 * of a completion, so that no handler runs inside a call of the application. It frees the slot;
 * until then the slot belongs to the session.
 */
#include "core/base/invariant.h"
#include "core/engine/server_state.h"
#include "os/clock.h"
#include "twinport/log.h"

/* Once: when the end begins, or at the release if it did not. */
void tp__session_return_quota(tp__session *session) {
    if (atomic_exchange(&session->has_quota, false)) {
        unsigned quotas = atomic_fetch_sub(&session->server->session_count, 1);
        assert(quotas > 0);
        (void)quotas;
    }
}

static void session_return_slot(tp__session *session) {
    tp_server *server = session->server;
    tp__session_return_quota(session);
    tp__slots_give(&server->slots, session->index);
    unsigned used = atomic_fetch_sub(&server->slots_used, 1);
    assert(used > 0);
    (void)used;
}

/* The port stays while this call is in it: a stop waits for `callers`. */
bool tp__session_post(tp__session *session, tp_op *op) {
    tp_server *server = session->server;
    atomic_fetch_add(&server->callers, 1);
    tp_err error = tp_port_post(server->port, &session->socket, op);
    atomic_fetch_sub(&server->callers, 1);
    return error == TP_OK;
}

/* ---- closing --------------------------------------------------------------------------------- */

static void session_closed(tp_op *op, const tp_completion *completion) {
    tp__session *session = TP_CONTAINER_OF(op, tp__session, close_op);
    tp__session_drop(session, TP__REFERENCE_SOCKET, tp_worker_context(completion->worker));
}

/*
 * The side that ends a connection first keeps it in TIME_WAIT. A server that is first therefore
 * resets the connection: otherwise strangers could fill its table. No promised byte is lost by
 * that: what the peer must be told is sent before a finish, which waits for the peer to end its
 * stream; then the end is the peer's, and an orderly close costs nothing here. An outgoing session
 * has a port of its own and ends in order, unless the peer must not take what it has received for
 * the whole.
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

/* `reason` is the caller's. Do not read session->reason here: if the session was already finishing,
 * the thread that began that may still be writing the field. It is safe to read in the release,
 * when all references are gone. */
static void session_close_socket(tp__session *session, tp_end_reason reason) {
    tp_trace(TP_TRACE_CLOSE, tp__session_id(session), reason);
    session->close_op.done = session_closed;
    atomic_fetch_add(&session->server->callers, 1);
    tp_socket_close(&session->socket, &session->close_op, ends_by_reset(session, reason));
    atomic_fetch_sub(&session->server->callers, 1);
}

bool tp__session_close(tp__session *session, tp_end_reason reason, int os_error) {
    assert(reason > TP_END_NONE && (unsigned)reason < TP_END_REASON_COUNT);
    uint64_t before = tp__life_begin_closing(&session->life);
    if (before & TP__LIFE_CLOSING) {
        return false;
    }
    if (!(before & TP__LIFE_FINISHING)) {
        session->reason = (uint8_t)reason;
        session->os_error = os_error;
    }
    session_close_socket(session, reason);
    return true;
}

bool tp__session_close_unjoined(tp__session *session, tp_end_reason reason) {
    assert(reason > TP_END_NONE && (unsigned)reason < TP_END_REASON_COUNT);
    uint64_t before;
    if (!tp__life_begin_closing_unjoined(&session->life, &before)) {
        return false;
    }
    if (!(before & TP__LIFE_FINISHING)) {
        session->reason = (uint8_t)reason;
    }
    session_close_socket(session, reason);
    return true;
}

/* ---- release --------------------------------------------------------------------------------- */

static void session_record_end(
    tp__session *session, uint64_t pending_packets, uint64_t pending_bytes) {
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
        .received_messages = tp__count_read(&numbers->received_messages),
        .received_bytes = tp__count_read(&numbers->received_bytes),
        .sent_messages = tp__count_read(&numbers->sent_messages),
        .sent_bytes = tp__count_read(&numbers->sent_bytes),
        .age_ms = tp_clock_ms() - session->joined_ms,
        .ended_wall_ms = tp_clock_wall_ms(),
    };
    tp__ledger_record(session->server->ledger, &end);
}

static void session_release(tp__session *session, tp__worker *worker) {
    tp_server *server = session->server;
    uint64_t packets, bytes;
    TP_ASSERT_WORKER(session);
    TP_ASSERT_ON_WORKER(worker);
    TP__VERIFY(tp__session_release_check(session));
    tp_trace(TP_TRACE_RELEASE, tp__session_id(session), session->reason);
    atomic_store_explicit(&session->owner, NULL, memory_order_relaxed);
    tp__session_discard(session, &packets, &bytes);
    tp_packet_release(session->receive.partial);
    session->receive.partial = NULL;

    if (server->layer.end) {
        server->layer.end(session);
    }
    if (session->joined || session->outgoing) {
        assert(session->reason > TP_END_NONE && session->reason < TP_END_REASON_COUNT);
        session_record_end(session, packets, bytes);
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
    TP__VERIFY(tp__send_queue_check(&session->queue));
    session_return_slot(session);
}

static void session_release_posted(tp_op *op, const tp_completion *completion) {
    tp__session *session = TP_CONTAINER_OF(op, tp__session, close_op);
    session_release(session, tp_worker_context(completion->worker));
}

static void session_add_orphan(tp__session *session) {
    tp_server *server = session->server;
    tp__session *first = atomic_load_explicit(&server->orphans, memory_order_relaxed);
    do {
        session->next = first;
    } while (!atomic_compare_exchange_weak_explicit(
        &server->orphans, &first, session, memory_order_release, memory_order_relaxed));
}

/* The close op is free: its completion gave the socket's reference back, and no reference is
 * left. */
void tp__session_release_later(tp__session *session) {
    tp_server *server = session->server;
    assert(tp__life_read(&session->life) & TP__LIFE_RELEASED);
    session->close_op.done = session_release_posted;
    atomic_fetch_add(&server->callers, 1);
    if (tp_port_post(server->port, &session->socket, &session->close_op) != TP_OK) {
        session_add_orphan(session);
    }
    atomic_fetch_sub(&server->callers, 1);
}

void tp__session_leave(tp__session *session, tp__reference kind) {
    tp__session_uncount_reference(session, kind);
    if (tp__life_drop(&session->life)) {
        tp__session_release_later(session);
    }
}

void tp__session_drop(tp__session *session, tp__reference kind, tp__worker *worker) {
    tp__session_uncount_reference(session, kind);
    if (tp__life_drop(&session->life)) {
        session_release(session, worker);
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
        tp__session_count_reference(session, TP__REFERENCE_CALL);
        return session;
    case TP__LIFE_TURNED_AWAY_LAST:
        tp__session_release_later(session);
        return NULL;
    case TP__LIFE_TURNED_AWAY:
        break;
    }
    return NULL;
}
