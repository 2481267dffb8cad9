/*
 * From what is pending to the socket: flushes and gathered sends.
 *
 * Everything here is done by the session's flush owner on a worker that serves its socket. The
 * owner holds the session from the push that made it the owner until it retires, so the session
 * cannot be released under it; of two pushes never more than one becomes owner (send_queue.h).
 *
 * A flush waits on its worker's list until the batch of completions in hand is done, or until
 * TP__FLUSH_BYTES have been received: what is said meanwhile goes out in one call. If it becomes
 * more than one call takes, it goes out at once, from inside the handler that says it.
 */
#include "core/engine/server_state.h"
#include "core/session/compact.h"
#include "core/session/handover.h"
#include "core/session/send_batch.h"
#include "twinport/log.h"

/* ---- the gathered send ----------------------------------------------------------------------- */

/*
 * Everything up to the end node is with the system. The stream is ended, unless the peer is to end
 * it (tp__session_turn_away), and what remains is to wait for the peer to end its own (or for the
 * sweep to lose patience): closing now, with bytes of the peer unread, would make the system send a
 * reset that overtakes our last words. The second of the two, this or the peer's end (peer_closed in
 * receive.c), closes. The owner never retires: the queue takes nothing more.
 */
static void reach_end(tp__session *session, tp__worker *worker) {
    if (!session->turned_away) {
        tp_socket_finish(worker->seat, &session->socket);
    }
    atomic_store(&session->end_reached, true);
    if (atomic_load(&session->receive.ended)) {
        tp__session_close(session, TP_END_PEER_CLOSED, 0);
    }
    tp__session_drop(session, worker);
}

/* The flight stays with the session: its packets count among those that were never sent. */
static void give_up(tp__session *session, tp__worker *worker, tp_end_reason reason, int os_error) {
    tp__session_close(session, reason, os_error);
    tp__session_drop(session, worker);
}

static void tell_sent(tp__session *session) {
    const tp_server *server = session->server;
    uint64_t owed = session->owed;
    session->owed = 0;
    if (server->handlers.on_send && !(tp__life_read(&session->life) & TP__LIFE_CLOSING)) {
        server->handlers.on_send(session->server, tp__session_id(session),
            (size_t)(owed >> TP__QUEUED_SHIFT), (size_t)(owed & TP__QUEUED_BYTES));
    }
}

/* What was taken into a flight is with the system: ends, waits for more, or sends the rest. At the
 * top level of a completion, or of a flush. */
static void go_on(tp__session *session, tp__worker *worker) {
    if (session->owed > 0) {
        tp__session_set_flusher(
            session, worker); /* on_send may send, and more than one send takes */
        tell_sent(session);
    }
    if (session->sending_end) {
        tp__session_set_flusher(session, NULL);
        reach_end(session, worker);
        return;
    }
    if (session->flight || session->pending) {
        tp__session_await_flush(session, worker);
        return;
    }
    /* Before it retires: behind that the session's next owner may be at work on another worker. */
    bool at_home = session->owned_at_home;
    session->owned_at_home = false;
    tp__session_set_flusher(session, NULL);
    if (!tp__send_queue_retire(&session->queue)) {
        session->owned_at_home = at_home;
        tp__session_await_flush(session, worker);
    } else {
        tp__session_drop(session, worker);
    }
}

static void sent(tp_op *op, const tp_completion *completion) {
    tp__session *session = TP_CONTAINER_OF(op, tp__session, send_op);
    tp__worker *worker = tp_worker_context(completion->worker);
    if (completion->error) {
        if (completion->error == TP_ERR_NO_BUFFERS) {
            tp__server_report(
                session->server, worker, completion->error, completion->os_error, "send");
        }
        give_up(session, worker, tp__flight_failure(completion->error), completion->os_error);
        return;
    }

    tp__flight_sent(session, worker);
    /* If it is not, a pusher passes the flush on, with what on_send is owed. */
    if (session->sending_end || tp__pending_own(session)) {
        go_on(session, worker);
    }
}

/* Something failed inside fill(), or in a call of content's. Here, where no call of content's is
 * under way, on_error may hear of it. */
static void report_failure(tp__session *session, tp__worker *worker) {
    tp_err failure = session->failure;
    session->failure = TP_OK;
    if (failure == TP_ERR_NO_MEMORY) {
        TP__COUNT(session->server, worker, no_memory, 1);
    }
    tp__server_report(session->server, worker, failure, 0, "send");
}

static void flush(tp__session *session, tp__worker *worker) {
    tp__session_set_flusher(session, NULL);
    session->blocked_ms = 0;
    if (TP_UNLIKELY(session->failure != TP_OK)) {
        report_failure(session, worker);
    }
    if (tp__life_read(&session->life) & TP__LIFE_CLOSING) {
        tp__session_drop(session, worker); /* still the owner: nobody flushes a closing session */
        return;
    }
    tp__session_collect(session);
    if (TP_UNLIKELY(!session->pending && !session->flight)) {
        go_on(session, worker); /* all that waited has gone out meanwhile */
        return;
    }
    /* There is a flight already if the system has taken a part of it from inside a handler. */
    tp_end_reason failure = session->flight ? TP_END_NONE : tp__flight_fill(session, worker);
    if (TP_UNLIKELY(failure != TP_END_NONE)) {
        if (session->failure != TP_OK) {
            report_failure(session, worker);
        }
        give_up(session, worker, failure, 0);
        return;
    }
    tp__flight *flight = session->flight;
    if (flight->count == 0) {
        /* An end node without a CLOSE and nothing before it, or all has gone out already. */
        tp__flight_release(session);
        go_on(session, worker);
        return;
    }
    tp_trace(TP_TRACE_SEND, tp__session_id(session), flight->bytes);
    session->send_op.done = sent;
    bool lent = !tp_port_binds(session->server->port);
    if (lent) {
        tp__compact_waiting(session); /* behind the call it may be over, and all of this freed */
    }
    tp__flight_waits(session, worker);
    tp_err error = tp_socket_send(worker->seat, &session->socket, &session->send_op,
        flight->buffers + flight->first, flight->count - flight->first);
    if (error) {
        give_up(session, worker, tp__flight_failure(error), tp_os_error());
    } else if (!lent && TP_UNLIKELY(tp_socket_send_waits(worker->seat, &session->socket))) {
        tp__compact_waiting(session);
    }
}

void tp__worker_flush(tp__worker *worker) {
    tp__session *session = worker->flush_first;
    worker->unflushed_bytes = 0;
    worker->flush_first = NULL;
    worker->flush_last = NULL;
    while (session) {
        tp__session *next = session->next;
        flush(session, worker);
        session = next;
    }
}
