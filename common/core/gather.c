/*
 * From the send queue to the socket: flushes and gathered sends.
 *
 * Everything here but the hand-over at the top is done by the session's flush owner on a worker
 * that serves its socket. The owner holds the session from the push that made it the owner until it
 * retires, so the session cannot be released under it; of two pushes never more than one becomes
 * owner (send_queue.h).
 *
 * A flush waits on its worker's list until the batch of completions in hand is done, or until
 * TP__FLUSH_BYTES have been received: what is said meanwhile goes out in one call. If it becomes
 * more than one call takes, it goes out at once, from inside the handler that says it.
 */
#include <assert.h>

#include "core/compact.h"
#include "core/local.h"
#include "core/packet_internal.h"
#include "core/pools.h"
#include "core/server_internal.h"
#include "core/session.h"
#include "os/clock.h"
#include "twinport/log.h"

#define FLIGHTS_AT_ONCE 4u /* that one call from inside a handler sends */

/* ---- handing over to a serving worker -------------------------------------------------------- */

static void set_flusher(tp__session *session, tp__worker *worker) {
    atomic_store_explicit(&session->flusher, worker, memory_order_relaxed);
}

static void put_on_list(tp__worker *worker, tp__session *session) {
    set_flusher(session, worker);
    session->next = NULL;
    if (worker->flush_last) {
        worker->flush_last->next = session;
    } else {
        worker->flush_first = session;
    }
    worker->flush_last = session;
}

static bool at_home(const tp__session *session, const tp__worker *worker) {
    return atomic_load_explicit(&session->home, memory_order_relaxed) == worker;
}

static void append_list(tp__session *session, tp__send_node *first, tp__send_node *last) {
    if (session->pending) {
        session->pending_last->next = first;
    } else {
        session->pending = first;
    }
    session->pending_last = last;
}

/* Into a queue that has an owner: no push makes one. */
static void put_back(tp__session *session, tp__send_node *node) {
    while (node) {
        tp__send_node *next = node->next;
        bool owner = tp__send_queue_push(&session->queue, node);
        assert(!owner);
        (void)owner;
        node = next;
    }
}

/*
 * The end node is the last that is ever pending. A sender that was let in before the end began
 * may push behind it. What it pushed goes back into the queue, from which nothing is taken any
 * more, and the release discards it: so nothing that walks over `pending` meets a node behind the
 * end. tests/model/finish.pml explores it.
 */
static void cut_behind_end(tp__session *session, tp__send_node *first) {
    for (tp__send_node *node = first; node; node = node->next) {
        if (node == &session->end_node) {
            put_back(session, node->next);
            node->next = NULL;
            session->pending_last = node;
            session->end_taken = true;
            return;
        }
    }
}

/* What was pushed goes behind what is pending. FINISHING is set before the end node is pushed: the
 * one who takes that node sees the flag. */
static void collect(tp__session *session) {
    if (session->end_taken || !tp__send_queue_has_more(&session->queue)) {
        return;
    }
    tp__send_node *last;
    tp__send_node *first = tp__send_queue_take(&session->queue, &last);
    append_list(session, first, last);
    if (TP_UNLIKELY(tp__life_read(&session->life) & TP__LIFE_FINISHING)) {
        cut_behind_end(session, first);
    }
}

void tp__session_collect(tp__session *session) {
    collect(session);
}

/* The flush owner's role arrives at this worker. */
static void own(tp__session *session, tp__worker *worker) {
    session->owned_at_home = at_home(session, worker);
    put_on_list(worker, session);
}

static void flush_posted(tp_op *op, const tp_completion *completion) {
    own(TP_CONTAINER_OF(op, tp__session, send_op), tp_worker_context(completion->worker));
}

/*
 * Home needs no atomic step for a packet while it has the flush owner's role. Order: what was pushed
 * before is collected first. That is what home itself pushed while the role was on its way to it, and
 * what others pushed of which home knows, by a mutex or a message: a push that happened before is seen
 * by the relaxed look at the queue. The role leaves home only with nothing pending (sent).
 * tests/model/home.pml explores it.
 */
void tp__session_append(tp__session *session, tp__worker *home, tp__send_node *node) {
    if (!session->owned_at_home) {
        if (!tp__send_queue_seize(&session->queue)) {
            /* Somebody else's push has made a flush set out for here. Until it arrives nobody but
             * home could make the queue idle, so this push cannot make an owner. */
            tp__send_queue_push(&session->queue, node);
            return;
        }
        tp__life_hold(&session->life);
        session->owned_at_home = true;
        put_on_list(home, session);
    }
    if (!tp__pending_is_owned(session)) {
        tp__send_queue_push(&session->queue, node); /* there is an owner, whose send waits */
        tp__compact(session);
        return;
    }
    collect(session);
    node->next = NULL;
    if (TP_UNLIKELY(session->end_taken)) {
        put_back(session, node);
    } else {
        append_list(session, node, node);
    }
}

void tp__session_flush(tp__session *session) {
    tp_server *server = session->server;
    tp__worker *worker = tp__worker_here(server);
    if (worker && tp_port_serves(worker->seat, &session->socket)) {
        own(session, worker);
        return;
    }
    session->send_op.done = flush_posted;
    atomic_fetch_add(&server->callers, 1);
    tp_err error = tp_port_post(server->port, &session->socket, &session->send_op);
    if (error) {
        tp__session_close(session, TP_END_OS, tp_os_error());
        tp__session_leave(session);
    }
    atomic_fetch_sub(&server->callers, 1);
}

/* ---- the gathered send ----------------------------------------------------------------------- */

static void release_flight(tp__session *session) {
    tp__flight *flight = session->flight;
    if (!flight) {
        return;
    }
    session->flight = NULL;
    tp__packets_release(flight->packets, flight->held);
    if (atomic_load_explicit(&session->home, memory_order_relaxed)) {
        tp__queue_size_add_own(&session->queued, UINT64_C(0) - flight->unqueued); /* this is home */
    } else {
        tp__queue_size_take_off(&session->queued, flight->unqueued);
    }
    tp_pool_free(tp__flight_pool(), flight);
}

static inline tp_packet *next_packet(tp__session *session, bool *end) {
    tp__send_node *node = session->pending;
    tp_packet *packet = node->packet;
    session->pending = node->next;
    if (TP_UNLIKELY(session->compact_last == node)) {
        session->compact_last = NULL;
    }
    *end = node == &session->end_node;
    if (*end) {
        assert(!session->pending);
        node->packet = NULL;
    } else {
        tp_pool_free(tp__node_pool(), node);
    }
    return packet;
}

tp_packet *tp__session_next_packet(tp__session *session, bool *end) {
    return next_packet(session, end);
}

/* Moves packets from the pending list into the flight, up to its limits. Returns true if the
 * session's end node was reached. */
static bool fill_flight(tp__session *session, tp__flight *flight) {
    bool end = false;
    size_t messages = 0;
    while (session->pending && flight->count < TP_PORT_MAX_BUFFERS &&
           flight->bytes < TP__SEND_BYTES) {
        tp_packet *packet = next_packet(session, &end);
        if (packet) {
            tp_buffer *buffer = &flight->buffers[flight->count];
            buffer->bytes = tp__packet_frame(packet, &buffer->size);
            flight->packets[flight->count++] = packet;
            flight->bytes += buffer->size;
            messages += tp__packet_messages(packet);
        }
    }
    flight->held = flight->count;
    flight->messages = messages;
    flight->unqueued = messages * TP__QUEUED_ONE + flight->bytes;
    return end;
}

/* Nothing is in it yet. The arrays are long: they stay as they are. */
static tp__flight *new_flight(void) {
    tp__flight *flight = tp_pool_allocate(tp__flight_pool());
    if (flight) {
        flight->count = 0;
        flight->first = 0;
        flight->held = 0;
        flight->bytes = 0;
        flight->messages = 0;
        flight->unqueued = 0;
    }
    return flight;
}

/*
 * Everything up to the end node is with the system. The stream is ended, unless the peer is to end
 * it (tp__session_turn_away), and what remains is to
 * wait for the peer to end its own (or for the sweep to lose patience): closing now, with bytes of
 * the peer unread, would make the system send a reset that overtakes our last words. Whoever comes
 * second, this or the peer's end (peer_closed in receive.c), closes. The owner never retires: the
 * queue takes nothing more.
 */
static void reach_end(tp__session *session, tp__worker *worker) {
    if (!session->turned_away) {
        tp_socket_finish(worker->seat, &session->socket);
    }
    atomic_store(&session->end_reached, true);
    if (atomic_load(&session->receive_ended)) {
        tp__session_close(session, TP_END_PEER_CLOSED, 0);
    }
    tp__session_drop(session, worker);
}

/* The flight stays with the session: its packets count among those that were never sent. */
static void give_up(tp__session *session, tp__worker *worker, tp_end_reason reason, int os_error) {
    tp__session_close(session, reason, os_error);
    tp__session_drop(session, worker);
}

/* The flight waits for the system, which has not taken all of it: by this it is told who is slow,
 * the peer or we (served.c). */
static void note_waiting(tp__session *session, const tp__worker *worker) {
    if (atomic_load_explicit(&session->sending_since_ms, memory_order_relaxed) == 0) {
        atomic_store_explicit(&session->sending_since_ms, worker->served_ms, memory_order_relaxed);
    }
}

/* The flight is with the system. on_send will hear of it (go_on). */
static void flight_sent(tp__session *session, tp__worker *worker) {
    const tp__flight *flight = session->flight;
    atomic_store_explicit(&session->sending_since_ms, 0, memory_order_relaxed);
    if (flight->told) {
        session->owed_messages += flight->messages;
        session->owed_bytes += flight->bytes;
    }
    tp__count_own(&session->numbers.sent_messages, flight->messages);
    tp__count_own(&session->numbers.sent_bytes, flight->bytes);
    tp__count_own(&worker->counters.sent_messages, flight->messages);
    tp__count_own(&worker->counters.sent_bytes, flight->bytes);
    tp__count_own(&worker->counters.sends, 1);
    release_flight(session);
}

static tp_end_reason send_failure(tp_err error) {
    return error == TP_ERR_RESET || error == TP_ERR_CLOSED ? TP_END_PEER_RESET : TP_END_OS;
}

static void tell_sent(tp__session *session) {
    const tp_server *server = session->server;
    size_t messages = session->owed_messages;
    size_t bytes = session->owed_bytes;
    session->owed_messages = 0;
    session->owed_bytes = 0;
    if (server->handlers.on_send && !(tp__life_read(&session->life) & TP__LIFE_CLOSING)) {
        server->handlers.on_send(session->server, session->id, messages, bytes);
    }
}

/* What was taken into a flight is with the system: ends, waits for more, or sends the rest. At the
 * top level of a completion, or of a flush. */
static void go_on(tp__session *session, tp__worker *worker) {
    if (session->owed_messages > 0) {
        set_flusher(session, worker); /* on_send may send, and more than one send takes */
        tell_sent(session);
    }
    if (session->sending_end) {
        set_flusher(session, NULL);
        reach_end(session, worker);
        return;
    }
    if (session->flight || session->pending) {
        put_on_list(worker, session);
        return;
    }
    /* Before it retires: behind that the session's next owner may be at work on another worker. */
    bool at_home = session->owned_at_home;
    session->owned_at_home = false;
    set_flusher(session, NULL);
    if (!tp__send_queue_retire(&session->queue)) {
        session->owned_at_home = at_home;
        put_on_list(worker, session);
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
        give_up(session, worker, send_failure(completion->error), completion->os_error);
        return;
    }

    flight_sent(session, worker);
    /* If it is not, a pusher passes the flush on, with what on_send is owed. */
    if (session->sending_end || tp__pending_own(session)) {
        go_on(session, worker);
    }
}

/* Takes what is pending into the session's flight. TP_END_NONE, or why the session must end. */
static tp_end_reason fill(tp__session *session, tp__worker *worker) {
    const tp__layer *layer = &session->server->layer;
    tp__flight *flight = new_flight();
    session->flight = flight;
    assert(!session->sending_end); /* nothing follows the end */
    if (TP_UNLIKELY(!flight)) {
        session->failure = TP_ERR_NO_MEMORY;
        return TP_END_NO_MEMORY;
    }
    flight->told = session->joined;
    if (TP_UNLIKELY(layer->fill != NULL)) {
        tp_end_reason failure = layer->fill(session, worker, flight, &session->sending_end);
        if (TP_UNLIKELY(failure == TP_END_NO_MEMORY)) {
            session->failure = TP_ERR_NO_MEMORY;
        }
        return failure;
    }
    session->sending_end = fill_flight(session, flight);
    return TP_END_NONE;
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
    set_flusher(session, NULL);
    session->blocked = false;
    if (TP_UNLIKELY(session->failure != TP_OK)) {
        report_failure(session, worker);
    }
    if (tp__life_read(&session->life) & TP__LIFE_CLOSING) {
        tp__session_drop(session, worker); /* still the owner: nobody flushes a closing session */
        return;
    }
    collect(session);
    if (TP_UNLIKELY(!session->pending && !session->flight)) {
        go_on(session, worker); /* all that waited has gone out meanwhile */
        return;
    }
    /* There is a flight already if the system has taken a part of it from inside a handler. */
    tp_end_reason failure = session->flight ? TP_END_NONE : fill(session, worker);
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
        release_flight(session);
        go_on(session, worker);
        return;
    }
    tp_trace(TP_TRACE_SEND, session->id, flight->bytes);
    session->send_op.done = sent;
    bool lent = !tp_port_binds(session->server->port);
    if (lent) {
        tp__compact_waiting(session); /* behind the call it may be over, and all of this freed */
    }
    note_waiting(session, worker);
    tp_err error = tp_socket_send(
        worker->seat, &session->socket, &session->send_op, flight->buffers + flight->first,
        flight->count - flight->first);
    if (error) {
        give_up(session, worker, send_failure(error), tp_os_error());
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

/* ---- from inside a handler ------------------------------------------------------------------- */

/* `sent` more bytes are with the system. True: nothing is left. */
static bool advance(tp__flight *flight, size_t sent) {
    while (flight->first < flight->count && sent >= flight->buffers[flight->first].size) {
        sent -= flight->buffers[flight->first].size;
        flight->first++;
    }
    if (flight->first == flight->count) {
        return true;
    }
    flight->buffers[flight->first].bytes += sent;
    flight->buffers[flight->first].size -= sent;
    return false;
}

/* Gives the system one flight, as far as it takes it. False: not all of it. The owner's. What
 * fails ends the session; the flush, which comes, reports it. */
static bool send_flight_now(tp__session *session, tp__worker *worker, bool *progress) {
    tp_end_reason failure = session->flight ? TP_END_NONE : fill(session, worker);
    if (TP_UNLIKELY(failure != TP_END_NONE)) {
        tp__session_close(session, failure, 0);
        return false;
    }
    tp__flight *flight = session->flight;
    if (flight->count == 0) {
        release_flight(session); /* nothing was pending */
        return false;
    }
    size_t sent = 0;
    tp_err error = tp_socket_send_now(worker->seat, &session->socket,
        flight->buffers + flight->first, flight->count - flight->first, &sent);
    *progress = *progress || sent > 0;
    if (TP_UNLIKELY(error != TP_OK)) {
        session->failure = error == TP_ERR_NO_BUFFERS ? (uint8_t)error : (uint8_t)TP_OK;
        tp__session_close(session, send_failure(error), tp_os_error());
        return false;
    }
    tp_trace(TP_TRACE_SEND, session->id, sent);
    if (!advance(flight, sent)) {
        session->blocked = true;
        session->blocked_ms = tp_clock_ms();
        note_waiting(session, worker);
        return false;
    }
    flight_sent(session, worker);
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
        collect(session);
        if (session->end_taken || tp__life_read(&session->life) & TP__LIFE_CLOSING ||
            !send_flight_now(session, worker, &progress) ||
            !tp__passes_one_send(session->server, tp__queue_size_now(&session->queued))) {
            break;
        }
    }
    return progress;
}

/* The system gave its buffers no room a moment ago. Asking again costs a call, and who waits for
 * room asks again at once: so it is asked once in a millisecond. */
static bool is_blocked(const tp__session *session) {
    return session->blocked && tp_clock_ms() == session->blocked_ms;
}

static bool is_flusher(const tp__session *session, const tp__worker *worker) {
    return atomic_load_explicit(&session->flusher, memory_order_relaxed) == worker;
}

void tp__session_send_now(tp__session *session, tp__worker *worker) {
    if (is_flusher(session, worker) && !session->blocked &&
        !session->server->options.send_buffer_zero) {
        (void)send_what_waits(session, worker);
    }
}

/* A send is in progress, at home: stops it where it is. Not the last one, nor while a pusher has
 * what is pending. *done: it was done already. */
static bool take_back(tp__session *session, tp__worker *worker, bool *done) {
    size_t sent = 0;
    if (!at_home(session, worker) || !session->owned_at_home || !session->flight ||
        session->end_taken || !tp__pending_own_if_open(session) ||
        !tp_socket_send_take_back(worker->seat, &session->socket, &session->send_op, &sent)) {
        return false;
    }
    *done = advance(session->flight, sent);
    if (*done) {
        flight_sent(session, worker);
    }
    put_on_list(worker, session);
    return true;
}

/*
 * A handler that waits for room waits for the peer to read, not for itself to return: each of its
 * sends goes on with what is under way. Without a home (iocp) a send in progress is the system's
 * until another worker takes its completion.
 */
bool tp__session_make_room(tp__session *session, tp__worker *worker) {
    bool done = false;
    if (is_blocked(session) || session->server->options.send_buffer_zero ||
        (!is_flusher(session, worker) && !take_back(session, worker, &done))) {
        return false;
    }
    return send_what_waits(session, worker) || done;
}

/* ---- what was never sent --------------------------------------------------------------------- */

static void discard_list(
    tp__session *session, tp__send_node *node, uint64_t *packets, uint64_t *bytes) {
    while (node) {
        tp__send_node *next = node->next;
        if (node->packet) {
            *packets += tp__packet_messages(node->packet);
            *bytes += tp__packet_frame_size(node->packet);
            tp_packet_release(node->packet);
        }
        if (node != &session->end_node) {
            tp_pool_free(tp__node_pool(), node);
        }
        node = next;
    }
}

void tp__session_discard(tp__session *session, uint64_t *packets, uint64_t *bytes) {
    uint64_t in_flight = session->flight ? session->flight->unqueued : 0;
    *packets = in_flight >> TP__QUEUED_SHIFT;
    *bytes = in_flight & TP__QUEUED_BYTES;
    release_flight(session);
    discard_list(session, session->pending, packets, bytes);
    session->pending = NULL;
    tp__send_node *last;
    discard_list(session, tp__send_queue_take(&session->queue, &last), packets, bytes);
}
