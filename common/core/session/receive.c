/*
 * From the port's deliveries to frames, and the end of the stream.
 *
 * Runs on the worker that takes the session's receive delivery. The port never runs two of one
 * socket at a time, so the receive state has no lock. The bytes are lent by the port until the
 * delivery returns. On the LAN they are the frames (frames.c); if the server has a layer, the layer
 * finds the frames in them.
 */
#include "core/engine/server_state.h"
#include "core/engine/session_state.h"

/*
 * The peer has ended its stream, but may still read: it gets what is queued for it. The session is
 * closed by the second of two threads, this one or the flusher at the end node (flush_reach_end()
 * in flush.c). Each sets its own flag and then reads the other's, both sequentially consistent, so
 * that at least one sees both.
 */
static void receive_peer_closed(tp__session *session) {
    atomic_store(&session->receive.ended, true);
    /* Once the session is ending, its input is ignored, so a part of a frame has no meaning. Under
     * a layer only CLOSE is an end in order, because anybody on the network can end a stream. */
    bool begun = session->receive.partial || session->receive.header_filled > 0 ||
                 session->server->layer.take != NULL;
    if (begun && tp__session_takes_input(session)) {
        tp__session_close(session, TP_END_TRUNCATED, 0);
        return;
    }
    tp__session_finish(session, TP_END_PEER_CLOSED, -1);
    if (atomic_load(&session->end_reached)) {
        tp__session_close(session, TP_END_PEER_CLOSED, 0);
    }
}

/* The stream is over, in order or not. */
static void receive_stream_ended(
    tp__session *session, tp__worker *worker, tp_err error, int os_error) {
    switch (error) {
    case TP_ERR_CANCELLED: /* closing has begun already */
        break;
    case TP_ERR_CLOSED:
        receive_peer_closed(session);
        break;
    case TP_ERR_RESET:
        tp__session_close(session, TP_END_PEER_RESET, os_error);
        break;
    case TP_ERR_NO_BUFFERS:
        tp__server_error(session->server, worker, error, os_error, "receive");
        tp__session_close(session, TP_END_OS, os_error);
        break;
    default:
        tp__session_close(session, TP_END_OS, os_error);
        break;
    }
}

/*
 * Answers need not wait for the end of the batch: when many bytes have been received, what was sent
 * in answer to them is flushed. So what is being processed also stays in the processor's
 * second-level cache.
 */
static void receive_flush_if_due(tp__worker *worker, size_t received) {
    worker->unflushed_bytes += received;
    if (worker->unflushed_bytes >= TP__FLUSH_BYTES && worker->flush_first) {
        tp__worker_flush(worker);
    }
}

static void receive_delivered(tp_op *op, const tp_completion *completion) {
    tp__session *session = TP_CONTAINER_OF(op, tp__session, receive_op);
    tp__worker *worker = tp_worker_context(completion->worker);
    TP_ASSERT_WORKER(session);
    if (completion->count > 0) {
        assert(completion->bytes);
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
        receive_flush_if_due(worker, completion->count);
    }
    if (completion->last) {
        receive_stream_ended(session, worker, completion->error, completion->os_error);
    }
}

void tp__session_receive(tp__session *session, tp__worker *worker) {
    TP_ASSERT_WORKER(session);
    session->receive_op.done = receive_delivered;
    tp_err error = tp_socket_receive(worker->port_worker, &session->socket, &session->receive_op);
    if (error) {
        tp__session_close(session, TP_END_OS, tp_os_error());
    }
}
