/*
 * Sends inside a handler: what is more than one send takes, or meets a full queue, is sent within
 * the call that queues it, without an operation of the port.
 *
 * Runs on the worker that is the session's flusher, or can take a send in progress back, inside a
 * call of the application. So no handler is called here, and what ends a session is left to the
 * flush.
 */
#include "core/engine/server_state.h"
#include "core/session/compact.h"
#include "core/session/handover.h"
#include "core/session/send_batch.h"
#include "os/clock.h"
#include "twinport/log.h"

#define BATCHES_PER_CALL 4u /* sent by one call at most */

/* The clock's lower half, never 0: see `blocked_ms`. */
static uint32_t clock_low_ms(void) {
    uint32_t now_ms = (uint32_t)tp_clock_ms();
    return now_ms != 0 ? now_ms : 1;
}

/* Gives the system one send batch, as far as it takes it. False: not all of it. The flusher only. A
 * failure ends the session, and the flush that follows reports it. */
static bool send_batch_now(tp__session *session, tp__worker *worker, bool *progress) {
    TP_ASSERT_WORKER(session);
    assert(!session->end_taken);
    tp_end_reason failure =
        session->send_batch ? TP_END_NONE : tp__send_batch_fill(session, worker);
    if (TP_UNLIKELY(failure != TP_END_NONE)) {
        tp__session_close(session, failure, 0);
        return false;
    }
    tp__send_batch *batch = session->send_batch;
    if (batch->count == 0) {
        tp__send_batch_release(session); /* the backlog was empty */
        return false;
    }
    size_t sent = 0;
    tp_err error = tp_socket_send_now(worker->port_worker, &session->socket,
        batch->buffers + batch->first, batch->count - batch->first, &sent);
    *progress = *progress || sent > 0;
    if (TP_UNLIKELY(error != TP_OK)) {
        session->failure = error == TP_ERR_NO_BUFFERS ? (uint8_t)error : (uint8_t)TP_OK;
        tp__session_close(session, tp__send_batch_failure(error), tp_os_error());
        return false;
    }
    tp_trace(TP_TRACE_SEND, tp__session_id(session), sent);
    if (!tp__send_batch_advance(batch, sent)) {
        session->blocked_ms = clock_low_ms();
        tp__send_batch_waits(session, worker);
        return false;
    }
    tp__send_batch_sent(session, worker);
    return true;
}

/*
 * Sends until the system takes no more, or less is queued than one send takes, or BATCHES_PER_CALL
 * have been sent: others may queue as fast as this sends. The rest is left to the flush, and so is
 * an end: what ends a session is done at the top level of a completion.
 */
static bool send_waiting(tp__session *session, tp__worker *worker) {
    bool progress = false;
    for (unsigned i = 0; i < BATCHES_PER_CALL; i++) {
        tp__session_collect(session);
        if (session->end_taken || tp__life_read(&session->life) & TP__LIFE_CLOSING ||
            !send_batch_now(session, worker, &progress) ||
            !tp__exceeds_one_send(session->server, tp__queue_size_now(&session->queued))) {
            break;
        }
    }
    return progress;
}

/* The system's buffers were full a moment ago. Each attempt costs a system call, and a caller that
 * waits for space tries again at once, so the system is asked once per millisecond. The flusher
 * only. */
static bool is_blocked(const tp__session *session) {
    return session->blocked_ms != 0 && session->blocked_ms == clock_low_ms();
}

/* `owed` has 28 bits for packets and 36 for bytes. Once a handler has sent so much that half of
 * either range is used, its sends only fill the queue. One batch is far less than the other half.
 * The flusher only. */
static bool owes_too_much(const tp__session *session) {
    return session->owed >> (TP__QUEUED_SHIFT + 27) != 0 ||
           (session->owed & TP__QUEUED_BYTES) >> (TP__QUEUED_SHIFT - 1) != 0;
}

void tp__session_send_now(tp__session *session, tp__worker *worker) {
    if (tp__session_is_flusher(session, worker) && session->blocked_ms == 0 &&
        !owes_too_much(session) && !session->server->options.send_buffer_zero) {
        (void)send_waiting(session, worker);
    }
}

/* Stops a send in progress where it is, on the owner worker. Not the send of the end node, and not
 * while a pusher has the backlog. *done: everything had been sent already. */
static bool send_take_back(tp__session *session, tp__worker *worker, bool *done) {
    size_t sent = 0;
    if (!tp__session_is_owner(session, worker) || !session->owner_flushes || !session->send_batch ||
        is_blocked(session) || owes_too_much(session) || !tp__backlog_own_if_open(session) ||
        session->end_taken ||
        !tp_socket_send_take_back(
            worker->port_worker, &session->socket, &session->send_op, &sent)) {
        return false;
    }
    assert(tp__backlog_is_owned(session));
    *done = tp__send_batch_advance(session->send_batch, sent);
    if (*done) {
        tp__send_batch_sent(session, worker);
    }
    tp__session_await_flush(session, worker);
    return true;
}

/*
 * A handler that waits for space in a queue waits for the peer to read, and not for its own return:
 * each of its sends continues the send in progress. Without an owner (iocp), a send in progress
 * belongs to the system until another worker takes its completion.
 */
bool tp__session_send_for_space(tp__session *session, tp__worker *worker) {
    bool done = false;
    TP_ASSERT_ON_WORKER(worker);
    if (session->server->options.send_buffer_zero) {
        return false;
    }
    if (tp__session_is_flusher(session, worker) ? is_blocked(session) || owes_too_much(session)
                                                : !send_take_back(session, worker, &done)) {
        return false;
    }
    return send_waiting(session, worker) || done;
}
