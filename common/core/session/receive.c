/*
 * From the port's deliveries to frames, and the end of the stream.
 *
 * Runs on whichever worker takes the session's receive delivery; the port never runs two of one
 * socket at a time, so the receive state has no lock. Bytes are lent by the port until the delivery
 * returns. On the LAN they are the frames (frames.c); where the server has a layer, that finds the
 * frames in them.
 */
#include "core/engine/server_state.h"
#include "core/engine/session_state.h"

/*
 * The peer has said its last byte, but may still listen: it gets what is queued for it. The session
 * is closed by whoever comes second, this or the end of its queue (end_reached in flush.c): each
 * sets its own flag and then looks at the other's, both sequentially consistent, so that at least
 * one sees both.
 */
static void peer_closed(tp__session *session) {
    atomic_store(&session->receive.ended, true);
    /* Once the session is ending nobody takes its bytes any more: then a begun frame says nothing.
     * Under a layer only CLOSE is an end: anybody can end a stream. */
    bool begun = session->receive.partial || session->receive.header_filled > 0 ||
                 session->server->layer.take != NULL;
    if (begun && tp__session_listens(session)) {
        tp__session_close(session, TP_END_TRUNCATED, 0);
        return;
    }
    tp__session_finish(session, TP_END_PEER_CLOSED, -1);
    if (atomic_load(&session->end_reached)) {
        tp__session_close(session, TP_END_PEER_CLOSED, 0);
    }
}

/* The stream is over: in order, or not. */
static void stream_ended(tp__session *session, tp__worker *worker, tp_err error, int os_error) {
    switch (error) {
    case TP_ERR_CANCELLED: /* closing has begun already */
        break;
    case TP_ERR_CLOSED:
        peer_closed(session);
        break;
    case TP_ERR_RESET:
        tp__session_close(session, TP_END_PEER_RESET, os_error);
        break;
    case TP_ERR_NO_BUFFERS:
        tp__server_report(session->server, worker, error, os_error, "receive");
        tp__session_close(session, TP_END_OS, os_error);
        break;
    default:
        tp__session_close(session, TP_END_OS, os_error);
        break;
    }
}

/*
 * Answers need not wait until the whole batch is done: what has been said to the bytes received so
 * far goes out when these are many. The batch then also stays in the processor's second cache.
 */
static void flush_if_due(tp__worker *worker, size_t received) {
    worker->unflushed_bytes += received;
    if (worker->unflushed_bytes >= TP__FLUSH_BYTES && worker->flush_first) {
        tp__worker_flush(worker);
    }
}

static void received(tp_op *op, const tp_completion *completion) {
    tp__session *session = TP_CONTAINER_OF(op, tp__session, receive_op);
    tp__worker *worker = tp_worker_context(completion->worker);
    if (completion->count > 0) {
        atomic_store_explicit(&session->heard_ms, worker->served_ms, memory_order_relaxed);
        atomic_store_explicit(&session->pinged_ms, 0, memory_order_relaxed);
        tp__count_own(&session->numbers.received_bytes, completion->count);
        tp__count_own(&worker->counters.received_bytes, completion->count);
        const tp__layer *layer = &session->server->layer;
        if (TP_UNLIKELY(layer->take != NULL)) {
            layer->take(session, worker, completion->bytes, completion->count);
        } else {
            tp__session_take_frames(session, worker, completion->bytes, completion->count);
        }
        flush_if_due(worker, completion->count);
    }
    if (completion->last) {
        stream_ended(session, worker, completion->error, completion->os_error);
    }
}

void tp__session_receive(tp__session *session, tp__worker *worker) {
    session->receive_op.done = received;
    tp_err error = tp_socket_receive(worker->seat, &session->socket, &session->receive_op);
    if (error) {
        tp__session_close(session, TP_END_OS, tp_os_error());
    }
}
