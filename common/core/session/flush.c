/*
 * From the backlog to the socket: flushes and gathered sends.
 *
 * Everything here runs on the session's flusher, on a worker that serves the socket. The flusher
 * has a reference from the push that made it the flusher until it retires, so the session cannot be
 * released meanwhile; of two concurrent pushes at most one makes a flusher (send_queue.h).
 *
 * A flush waits on its worker's list until the current batch of completions is done, or until
 * TP__FLUSH_BYTES have been received, so that everything sent meanwhile leaves in one call. If it
 * becomes more than one call takes, it is sent at once, from inside the handler (send_now.c).
 */
#include "core/base/invariant.h"
#include "core/engine/server_state.h"
#include "core/session/compact.h"
#include "core/session/handover.h"
#include "core/session/send_batch.h"
#include "twinport/log.h"

/* In a check at the end of a flush: the most nodes of a long backlog. */
#define CHECK_NODES 256u

/* ---- the gathered send ----------------------------------------------------------------------- */

/*
 * Everything up to the end node is with the system. The stream is ended from here, unless the peer
 * is to end it (tp__session_turn_away). What remains is to wait for the peer to end its own, or for
 * the sweep to cut the session: closing now, with bytes of the peer unread, would make the system
 * send a reset that overtakes our last bytes. This function and receive_peer_closed() in receive.c
 * each set their own flag and then read the other's: the second of the two closes. The flusher does
 * not retire: nothing more is taken from the queue.
 */
static void flush_reach_end(tp__session *session, tp__worker *worker) {
    assert(session->end_taken && !session->backlog && !session->send_batch);
    assert(!atomic_load(&session->end_reached));
    if (!session->turned_away) {
        tp_socket_finish(worker->port_worker, &session->socket);
    }
    atomic_store(&session->end_reached, true);
    if (atomic_load(&session->receive.ended)) {
        tp__session_close(session, TP_END_PEER_CLOSED, 0);
    }
    tp__session_drop(session, TP__REFERENCE_FLUSH, worker);
}

/* The send batch stays with the session: its packets are counted as never sent. */
static void flush_abort(
    tp__session *session, tp__worker *worker, tp_end_reason reason, int os_error) {
    tp__session_close(session, reason, os_error);
    tp__session_drop(session, TP__REFERENCE_FLUSH, worker);
}

static void flush_report_sent(tp__session *session) {
    const tp_server *server = session->server;
    uint64_t owed = session->owed;
    session->owed = 0;
    if (server->handlers.on_send && !(tp__life_read(&session->life) & TP__LIFE_CLOSING)) {
        server->handlers.on_send(session->server, tp__session_id(session),
            (size_t)(owed >> TP__QUEUED_SHIFT), (size_t)(owed & TP__QUEUED_BYTES));
    }
}

/* The send batch is with the system, or there is none: ends the stream, has the rest sent, or
 * retires. At the top level of a completion, or of a flush. */
static void flush_continue(tp__session *session, tp__worker *worker) {
    TP_ASSERT_WORKER(session);
    if (session->owed > 0) {
        tp__session_set_flusher(session, worker); /* on_send may send more than one send takes */
        flush_report_sent(session);
    }
    if (session->sending_end) {
        tp__session_set_flusher(session, NULL);
        flush_reach_end(session, worker);
        return;
    }
    TP__VERIFY(tp__session_check(session, CHECK_NODES));
    if (session->send_batch || session->backlog) {
        tp__session_await_flush(session, worker);
        return;
    }
    /* Before it retires: after that the session's next flusher may be at work on another worker. */
    bool owner_flushes = session->owner_flushes;
    session->owner_flushes = false;
    tp__session_set_flusher(session, NULL);
    if (!tp__send_queue_retire(&session->queue)) {
        session->owner_flushes = owner_flushes;
        tp__session_await_flush(session, worker);
    } else {
        tp__session_drop(session, TP__REFERENCE_FLUSH, worker);
    }
}

static void flush_sent(tp_op *op, const tp_completion *completion) {
    tp__session *session = TP_CONTAINER_OF(op, tp__session, send_op);
    tp__worker *worker = tp_worker_context(completion->worker);
    TP_ASSERT_WORKER(session);
    assert(session->send_batch);
    if (completion->error) {
        if (completion->error == TP_ERR_NO_BUFFERS) {
            tp__server_error(
                session->server, worker, completion->error, completion->os_error, "send");
        }
        flush_abort(
            session, worker, tp__send_batch_failure(completion->error), completion->os_error);
        return;
    }

    tp__send_batch_sent(session, worker);
    /* If a pusher has the backlog, it passes the flush on, and `owed` is reported there. */
    if (session->sending_end || tp__backlog_own(session)) {
        flush_continue(session, worker);
    }
}

/* Something failed in the layer's `fill`, or inside a call of the application. No call of the
 * application is in progress here, so on_error may be called. */
static void flush_report_failure(tp__session *session, tp__worker *worker) {
    tp_err failure = session->failure;
    session->failure = TP_OK;
    if (failure == TP_ERR_NO_MEMORY) {
        TP__COUNT(session->server, worker, no_memory, 1);
    }
    tp__server_error(session->server, worker, failure, 0, "send");
}

static void flush_session(tp__session *session, tp__worker *worker) {
    TP_ASSERT_WORKER(session);
    assert(tp__session_is_flusher(session, worker));
    tp__session_set_flusher(session, NULL);
    session->blocked_ms = 0;
    if (TP_UNLIKELY(session->failure != TP_OK)) {
        flush_report_failure(session, worker);
    }
    if (tp__life_read(&session->life) & TP__LIFE_CLOSING) {
        tp__session_drop(session, TP__REFERENCE_FLUSH,
            worker); /* no retiring: a closing session is flushed no more */
        return;
    }
    assert(tp__backlog_is_owned(session) && !session->sending_end);
    tp__session_collect(session);
    if (TP_UNLIKELY(!session->backlog && !session->send_batch)) {
        flush_continue(session, worker); /* everything queued has been sent meanwhile */
        return;
    }
    /* There is a batch already if the system has taken a part of it from inside a handler. */
    tp_end_reason failure =
        session->send_batch ? TP_END_NONE : tp__send_batch_fill(session, worker);
    if (TP_UNLIKELY(failure != TP_END_NONE)) {
        if (session->failure != TP_OK) {
            flush_report_failure(session, worker);
        }
        flush_abort(session, worker, failure, 0);
        return;
    }
    tp__send_batch *batch = session->send_batch;
    if (batch->count == 0) {
        /* The end node was alone and has no CLOSE, or everything has been sent already. */
        tp__send_batch_release(session);
        flush_continue(session, worker);
        return;
    }
    TP__VERIFY(tp__session_check(session, CHECK_NODES));
    tp_trace(TP_TRACE_SEND, tp__session_id(session), batch->bytes);
    session->send_op.done = flush_sent;
    bool lent = !tp_port_binds(session->server->port);
    if (lent) {
        /* Before the call: when it returns the send may be over, and the session freed. */
        tp__compact_waiting(session);
    }
    tp__send_batch_waits(session, worker);
    tp_err error = tp_socket_send(worker->port_worker, &session->socket, &session->send_op,
        batch->buffers + batch->first, batch->count - batch->first);
    if (error) {
        flush_abort(session, worker, tp__send_batch_failure(error), tp_os_error());
    } else if (!lent && TP_UNLIKELY(tp_socket_send_waits(worker->port_worker, &session->socket))) {
        tp__compact_waiting(session);
    }
}

void tp__worker_flush(tp__worker *worker) {
    TP_ASSERT_ON_WORKER(worker);
    tp__session *session = worker->flush_first;
    worker->unflushed_bytes = 0;
    worker->flush_first = NULL;
    worker->flush_last = NULL;
    while (session) {
        tp__session *next = session->next;
        flush_session(session, worker);
        session = next;
    }
}
