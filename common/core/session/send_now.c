/*
 * Sends from inside a handler: what is more than one send takes, or finds its queue full, goes out
 * within the call that says it, without an operation of the port's.
 *
 * Runs on the worker that has the session's flush owner's role, or can take it back, inside a call
 * of content's: so no handler is called here, and what ends a session is left to the flush.
 */
#include "core/engine/server_state.h"
#include "core/session/compact.h"
#include "core/session/handover.h"
#include "core/session/send_batch.h"
#include "os/clock.h"
#include "twinport/log.h"

#define FLIGHTS_AT_ONCE 4u /* that one call sends */

/* The clock's lower half, and never 0: `blocked_ms`. */
static uint32_t this_ms(void) {
    uint32_t now_ms = (uint32_t)tp_clock_ms();
    return now_ms != 0 ? now_ms : 1;
}

/* Gives the system one flight, as far as it takes it. False: not all of it. The owner's. What
 * fails ends the session; the flush, which comes, reports it. */
static bool send_flight_now(tp__session *session, tp__worker *worker, bool *progress) {
    tp_end_reason failure = session->flight ? TP_END_NONE : tp__flight_fill(session, worker);
    if (TP_UNLIKELY(failure != TP_END_NONE)) {
        tp__session_close(session, failure, 0);
        return false;
    }
    tp__flight *flight = session->flight;
    if (flight->count == 0) {
        tp__flight_release(session); /* nothing was pending */
        return false;
    }
    size_t sent = 0;
    tp_err error = tp_socket_send_now(worker->seat, &session->socket,
        flight->buffers + flight->first, flight->count - flight->first, &sent);
    *progress = *progress || sent > 0;
    if (TP_UNLIKELY(error != TP_OK)) {
        session->failure = error == TP_ERR_NO_BUFFERS ? (uint8_t)error : (uint8_t)TP_OK;
        tp__session_close(session, tp__flight_failure(error), tp_os_error());
        return false;
    }
    tp_trace(TP_TRACE_SEND, tp__session_id(session), sent);
    if (!tp__flight_advance(flight, sent)) {
        session->blocked_ms = this_ms();
        tp__flight_waits(session, worker);
        return false;
    }
    tp__flight_sent(session, worker);
    return true;
}

/*
 * Sends until the system takes no more, or less waits than one send takes, or it has been enough
 * for one call: others may queue as fast as this sends. The rest goes with the flush, and so does
 * an end: what ends a session is done at the top level of a completion.
 */
static bool send_what_waits(tp__session *session, tp__worker *worker) {
    bool progress = false;
    for (unsigned i = 0; i < FLIGHTS_AT_ONCE; i++) {
        tp__session_collect(session);
        if (session->end_taken || tp__life_read(&session->life) & TP__LIFE_CLOSING ||
            !send_flight_now(session, worker, &progress) ||
            !tp__passes_one_send(session->server, tp__queue_size_now(&session->queued))) {
            break;
        }
    }
    return progress;
}

/* The system gave its buffers no room a moment ago. Asking again costs a call, and who waits for
 * room asks again at once: so it is asked once in a millisecond. The flush owner's. */
static bool is_blocked(const tp__session *session) {
    return session->blocked_ms != 0 && session->blocked_ms == this_ms();
}

/* A handler that has sent so much that what on_send is owed would soon need more bits than there
 * are only fills the queue from there on. One flight is far less than the other half. */
static bool owes_much(const tp__session *session) {
    return session->owed >> (TP__QUEUED_SHIFT + 27) != 0 ||
           (session->owed & TP__QUEUED_BYTES) >> (TP__QUEUED_SHIFT - 1) != 0;
}

void tp__session_send_now(tp__session *session, tp__worker *worker) {
    if (tp__session_is_flusher(session, worker) && session->blocked_ms == 0 &&
        !owes_much(session) && !session->server->options.send_buffer_zero) {
        (void)send_what_waits(session, worker);
    }
}

/* A send is in progress, at home: stops it where it is. Not the last one, nor while a pusher has
 * what is pending. *done: it was done already. */
static bool take_back(tp__session *session, tp__worker *worker, bool *done) {
    size_t sent = 0;
    if (!tp__session_is_at_home(session, worker) || !session->owned_at_home || !session->flight ||
        is_blocked(session) || !tp__pending_own_if_open(session) || session->end_taken ||
        !tp_socket_send_take_back(worker->seat, &session->socket, &session->send_op, &sent)) {
        return false;
    }
    *done = tp__flight_advance(session->flight, sent);
    if (*done) {
        tp__flight_sent(session, worker);
    }
    tp__session_await_flush(session, worker);
    return true;
}

/*
 * A handler that waits for room waits for the peer to read, not for itself to return: each of its
 * sends goes on with what is under way. Without a home (iocp) a send in progress is the system's
 * until another worker takes its completion.
 */
bool tp__session_make_room(tp__session *session, tp__worker *worker) {
    bool done = false;
    if (session->server->options.send_buffer_zero || owes_much(session)) {
        return false;
    }
    if (tp__session_is_flusher(session, worker) ? is_blocked(session)
                                                : !take_back(session, worker, &done)) {
        return false;
    }
    return send_what_waits(session, worker) || done;
}
