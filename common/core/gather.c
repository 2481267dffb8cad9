/*
 * From the send queue to the socket: flushes and gathered sends.
 *
 * Everything here but the hand-over at the top is done by the session's flush owner on a worker
 * that serves its socket. The owner holds the session from the push that made it the owner until it
 * retires, so the session cannot be released under it; of two pushes never more than one becomes
 * owner (send_queue.h).
 *
 * A flush waits on its worker's list until the batch of completions in hand is done: everything
 * said in one batch goes out in one call.
 */
#include <assert.h>

#include "core/compact.h"
#include "core/local.h"
#include "core/packet_internal.h"
#include "core/pools.h"
#include "core/server_internal.h"
#include "core/session.h"
#include "twinport/log.h"

#define GATHER_BYTES ((size_t)256 * 1024) /* a send takes no further packet beyond this */

/* ---- handing over to a serving worker -------------------------------------------------------- */

static void put_on_list(tp__worker *worker, tp__session *session) {
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
    atomic_fetch_sub_explicit(&session->queued, flight->unqueued, memory_order_relaxed);
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
           flight->bytes < GATHER_BYTES) {
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

static void count_sent(tp__session *session, tp__worker *worker, const tp__flight *flight) {
    tp__count_own(&session->numbers.sent_messages, flight->messages);
    tp__count_own(&session->numbers.sent_bytes, flight->bytes);
    tp__count_own(&worker->counters.sent_messages, flight->messages);
    tp__count_own(&worker->counters.sent_bytes, flight->bytes);
    tp__count_own(&worker->counters.sends, 1);
}

static tp_end_reason send_failure(tp_err error) {
    return error == TP_ERR_RESET || error == TP_ERR_CLOSED ? TP_END_PEER_RESET : TP_END_OS;
}

/* The flush owner, with no send in progress: sends what is there, or retires. */
static void go_on(tp__session *session, tp__worker *worker) {
    /* Before it retires: behind that the session's next owner may be at work on another worker. */
    bool at_home = session->owned_at_home;
    session->owned_at_home = false;
    if (session->pending || !tp__send_queue_retire(&session->queue)) {
        session->owned_at_home = at_home;
        put_on_list(worker, session);
    } else {
        tp__session_drop(session, worker);
    }
}

static void sent(tp_op *op, const tp_completion *completion) {
    tp__session *session = TP_CONTAINER_OF(op, tp__session, send_op);
    tp__worker *worker = tp_worker_context(completion->worker);
    tp_server *server = session->server;
    if (completion->error) {
        if (completion->error == TP_ERR_NO_BUFFERS) {
            tp__server_report(server, worker, completion->error, completion->os_error, "send");
        }
        give_up(session, worker, send_failure(completion->error), completion->os_error);
        return;
    }

    size_t count = session->flight->messages;
    size_t bytes = session->flight->bytes;
    bool told = session->flight->told;
    count_sent(session, worker, session->flight);
    release_flight(session);
    if (server->handlers.on_send && told && !(tp__life_read(&session->life) & TP__LIFE_CLOSING)) {
        server->handlers.on_send(server, session->id, count, bytes);
    }
    if (session->sending_end) {
        reach_end(session, worker);
        return;
    }
    if (!tp__pending_own(session)) {
        return;
    }
    go_on(session, worker);
}

/* Takes what is pending into the session's flight. TP_END_NONE, or why the session must end. */
static tp_end_reason fill(tp__session *session, tp__worker *worker) {
    const tp__layer *layer = &session->server->layer;
    tp__flight *flight = new_flight();
    session->flight = flight;
    if (TP_UNLIKELY(!flight)) {
        return TP_END_NO_MEMORY;
    }
    flight->told = session->joined;
    if (TP_UNLIKELY(layer->fill != NULL)) {
        return layer->fill(session, worker, flight, &session->sending_end);
    }
    session->sending_end = fill_flight(session, flight);
    return TP_END_NONE;
}

static void flush(tp__session *session, tp__worker *worker) {
    if (tp__life_read(&session->life) & TP__LIFE_CLOSING) {
        tp__session_drop(session, worker); /* still the owner: nobody flushes a closing session */
        return;
    }
    collect(session);
    if (TP_UNLIKELY(!session->pending)) {
        go_on(session, worker); /* passed on by one who has found all of it sent already */
        return;
    }
    tp_end_reason failure = fill(session, worker);
    if (TP_UNLIKELY(failure != TP_END_NONE)) {
        if (failure == TP_END_NO_MEMORY) {
            TP__COUNT(session->server, worker, no_memory, 1);
            tp__server_report(session->server, worker, TP_ERR_NO_MEMORY, 0, "send");
        }
        give_up(session, worker, failure, 0);
        return;
    }
    tp__flight *flight = session->flight;
    if (flight->count == 0) {
        release_flight(session);
        reach_end(session, worker); /* an end node without a CLOSE, and nothing before it */
        return;
    }
    tp_trace(TP_TRACE_SEND, session->id, flight->bytes);
    session->send_op.done = sent;
    bool lent = !tp_port_binds(session->server->port);
    if (lent) {
        tp__compact_waiting(session); /* behind the call it may be over, and all of this freed */
    }
    tp_err error = tp_socket_send(
        worker->seat, &session->socket, &session->send_op, flight->buffers, flight->count);
    if (error) {
        give_up(session, worker, send_failure(error), tp_os_error());
    } else if (!lent && TP_UNLIKELY(tp_socket_send_waits(worker->seat, &session->socket))) {
        tp__compact_waiting(session);
    }
}

void tp__worker_flush(tp__worker *worker) {
    tp__session *session = worker->flush_first;
    worker->flush_first = NULL;
    worker->flush_last = NULL;
    while (session) {
        tp__session *next = session->next;
        flush(session, worker);
        session = next;
    }
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
