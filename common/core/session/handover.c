/*
 * Passes the flusher's role to a worker that serves the session's socket. There it waits on the
 * worker's list until the current batch of completions is done.
 *
 * The flusher has a reference from the push that made it the flusher until it retires (flush.c), so
 * the session cannot be released meanwhile.
 */
#include "core/session/handover.h"
#include "core/engine/server_state.h"

void tp__session_await_flush(tp__session *session, tp__worker *worker) {
    TP_ASSERT_WORKER(session);
    assert(!worker->flush_first == !worker->flush_last);
    assert(worker->flush_last != session);
    tp__session_set_flusher(session, worker);
    session->next = NULL;
    if (worker->flush_last) {
        worker->flush_last->next = session;
    } else {
        worker->flush_first = session;
    }
    worker->flush_last = session;
}

/* The flusher's role arrives at this worker. */
static void handover_arrive(tp__session *session, tp__worker *worker) {
    session->owner_flushes = tp__session_is_owner(session, worker);
    tp__session_await_flush(session, worker);
}

static void handover_posted(tp_op *op, const tp_completion *completion) {
    handover_arrive(
        TP_CONTAINER_OF(op, tp__session, send_op), tp_worker_context(completion->worker));
}

void tp__session_flush(tp__session *session) {
    tp__worker *worker = tp__worker_here(session->server);
    if (worker && tp_port_serves(worker->port_worker, &session->socket)) {
        handover_arrive(session, worker);
        return;
    }
    session->send_op.done = handover_posted;
    if (!tp__session_post(session, &session->send_op)) {
        tp__session_close(session, TP_END_OS, tp_os_error());
        tp__session_leave(session, TP__REFERENCE_FLUSH);
    }
}
