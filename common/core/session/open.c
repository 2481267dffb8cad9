/*
 * The beginning of a session: open, then join; under a layer it is pending until it may join.
 *
 * Opening and joining run on workers, except the first step of an outgoing connection, which runs
 * on any thread. A slot belongs to its session from the open to the end of the release (end.c).
 */
#include <string.h>

#include "core/engine/server_state.h"
#include "core/log/refusal.h"
#include "os/clock.h"
#include "proto/frame.h"
#include "twinport/log.h"

/* ---- opening --------------------------------------------------------------------------------- */

static bool session_take_quota(tp_server *server) {
    unsigned others = atomic_fetch_add(&server->session_count, 1);
    if (others < server->options.max_sessions) {
        return true;
    }
    atomic_fetch_sub(&server->session_count, 1);
    return false;
}

tp__session *tp__session_open(tp_server *server, const tp_address *peer, bool outgoing) {
    atomic_fetch_add(&server->slots_used, 1);
    tp__server_cut_for_slot(server);
    uint32_t index = tp__slots_take(&server->slots);
    if (index == TP__NO_SLOT) {
        atomic_fetch_sub(&server->slots_used, 1);
        return NULL;
    }

    tp__session *session = &server->sessions[index];
    assert(index < server->slots.count && !atomic_load(&session->owner));
    size_t kept = offsetof(tp__session, server); /* keeps `life` and `owner`: see session_state.h */
    memset((unsigned char *)session + kept, 0, sizeof *session - kept);
    uint64_t number = atomic_fetch_add(&server->next_number, 1);
    session->server = server;
    session->index = index;
    session->peer = *peer;
    session->outgoing = outgoing;
    session->has_quota = server->layer.begin == NULL && session_take_quota(server);
    session->joined_ms = tp_clock_ms();
    tp__session_count_reference(session, TP__REFERENCE_SOCKET);
    tp__life_open(&session->life, number << TP__LIFE_NUMBER_SHIFT);
    tp_trace(TP_TRACE_OPEN, tp__session_id(session), outgoing);
    return session;
}

/*
 * Only late callers can have references, and these are transient. The session closes without a
 * socket to wait for, so the slot is free as soon as the count is 0. If a late caller is the last,
 * it releases a session that never began.
 */
void tp__session_abandon(tp__session *session) {
    assert(!session->joined);
    session->outgoing = false; /* the caller gets an error, not on_leave */
    tp__life_begin_closing(&session->life);
    tp__session_leave(session, TP__REFERENCE_SOCKET);
}

/* ---- joining --------------------------------------------------------------------------------- */

/* False: it was closed at this moment, and the application has not been notified of it. */
static bool session_join(tp__session *session, tp__worker *worker) {
    tp_server *server = session->server;
    assert(!session->joined);
    /* The time in which the connection was established is neither age nor silence. */
    session->joined_ms = tp_clock_ms();
    uint64_t served_ms = tp__session_served_ms(session, session->joined_ms);
    atomic_store_explicit(&session->heard_ms, served_ms, memory_order_relaxed);
    atomic_store_explicit(&session->finish_by_ms, 0, memory_order_relaxed);
    session->joined = true;
    if (!tp__life_joined(&session->life)) {
        session->joined = false;
        return false;
    }
    tp_trace(TP_TRACE_JOIN, tp__session_id(session), 0);
    TP__COUNT(server, worker, joined, 1);
    if (server->handlers.on_join) {
        server->handlers.on_join(server, tp__session_id(session));
    }
    return true;
}

static void session_turn_away_full(tp__session *session, tp__worker *worker) {
    tp_server *server = session->server;
    TP__COUNT(server, worker, full, 1);
    TP__REFUSED(TP_LOG_INFO, server->name, &session->peer, "full: max_sessions reached");
    tp__session_turn_away(session, TP_END_OVERLOAD, TP_CLOSE_FULL);
}

bool tp__session_join(tp__session *session, tp__worker *worker) {
    tp_server *server = session->server;
    TP_ASSERT_WORKER(session);
    assert(server->layer.begin && !session->has_quota);
    session->has_quota = session_take_quota(server);
    if (!session->has_quota) {
        session_turn_away_full(session, worker);
        return false;
    }
    return session_join(session, worker);
}

/* From here on the sweep may cut the session. So the deadline is set only when the socket is
 * attached and this thread has a reference. */
static void session_begin_pending(tp__session *session, tp__worker *worker) {
    const tp__layer *layer = &session->server->layer;
    uint64_t by_ms = tp__session_deadline_ms(session, layer->open_timeout_ms);
    atomic_store_explicit(&session->finish_by_ms, by_ms, memory_order_release);
    layer->begin(session, worker);
}

/* The first step on the worker that serves the socket; then the receive starts. */
static void session_begin(tp__session *session, tp__worker *worker) {
    if (session->server->layer.begin) {
        session_begin_pending(session, worker);
    } else if (!session->has_quota) {
        session_turn_away_full(session, worker);
    } else if (!session_join(session, worker)) {
        return;
    }
    tp__session_receive(session, worker);
}

static void session_start_posted(tp_op *op, const tp_completion *completion) {
    tp__session *session = TP_CONTAINER_OF(op, tp__session, receive_op);
    tp__worker *worker = tp_worker_context(completion->worker);
    TP_ASSERT_WORKER(session);
    TP_ASSERT_ON_WORKER(worker);
    if (tp_port_binds(session->server->port)) {
        atomic_store_explicit(&session->owner, worker, memory_order_relaxed);
    }
    if (!(tp__life_read(&session->life) & TP__LIFE_CLOSING)) {
        session_begin(session, worker);
    }
    tp__session_drop(session, TP__REFERENCE_START, worker);
}

void tp__session_start(tp__session *session, tp__worker *worker) {
    TP_ASSERT_ON_WORKER(worker);
    assert(!session->joined);
    tp__session_retain(session, TP__REFERENCE_START);
    if (tp_port_serves(worker->port_worker, &session->socket)) {
        const tp_completion here = {.worker = worker->port_worker};
        session_start_posted(&session->receive_op, &here);
        return;
    }
    session->receive_op.done = session_start_posted;
    tp_err error = tp_port_post(session->server->port, &session->socket, &session->receive_op);
    if (error) {
        int os_error = tp_os_error();
        tp__server_error(session->server, worker, error, os_error, "join");
        tp__session_close(session, session->outgoing ? TP_END_CONNECT_FAILED : TP_END_OS, os_error);
        tp__session_drop(session, TP__REFERENCE_START, worker);
    }
}
