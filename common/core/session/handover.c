/*
 * The flush owner's role goes to a worker that serves the session's socket, and waits there on the
 * worker's list until the batch of completions in hand is done.
 *
 * The owner holds the session from the push that made it the owner until it retires (flush.c), so
 * the session cannot be released under it.
 */
#include "core/session/handover.h"
#include "core/engine/server_state.h"

void tp__session_await_flush(tp__session *session, tp__worker *worker) {
    tp__session_set_flusher(session, worker);
    session->next = NULL;
    if (worker->flush_last) {
        worker->flush_last->next = session;
    } else {
        worker->flush_first = session;
    }
    worker->flush_last = session;
}

/* The flush owner's role arrives at this worker. */
static void own(tp__session *session, tp__worker *worker) {
    session->owned_at_home = tp__session_is_at_home(session, worker);
    tp__session_await_flush(session, worker);
}

static void flush_posted(tp_op *op, const tp_completion *completion) {
    own(TP_CONTAINER_OF(op, tp__session, send_op), tp_worker_context(completion->worker));
}

void tp__session_flush(tp__session *session) {
    tp__worker *worker = tp__worker_here(session->server);
    if (worker && tp_port_serves(worker->seat, &session->socket)) {
        own(session, worker);
        return;
    }
    session->send_op.done = flush_posted;
    if (!tp__session_post(session, &session->send_op)) {
        tp__session_close(session, TP_END_OS, tp_os_error());
        tp__session_leave(session);
    }
}
