/*
 * A flight: what one gathered send carries, from the list of what is pending to the system.
 *
 * All of it is the session's flush owner's, but for the release, which discards what was never sent
 * when nobody else is there any more.
 */
#include "core/session/send_batch.h"

#include <assert.h>

#include "core/engine/server_state.h"
#include "core/memory/block.h"
#include "core/packet/packet_internal.h"
#include "core/session/pools.h"

/* ---- filling --------------------------------------------------------------------------------- */

/* `local`: the record of the thread that this is. */
static inline tp_packet *next_packet(tp__session *session, tp__local *local, bool *end) {
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
        tp__pool_free_on(local, tp__node_pool(), node);
    }
    return packet;
}

tp_packet *tp__session_next_packet(tp__session *session, bool *end) {
    return next_packet(session, tp__local_get(), end);
}

/* Moves packets from the pending list into the flight, up to its limits. Returns true if the
 * session's end node was reached. */
static bool fill_flight(tp__session *session, tp__local *local, tp__flight *flight) {
    bool end = false;
    size_t count = 0;
    size_t bytes = 0;
    size_t messages = 0;
    while (session->pending && count < TP_PORT_MAX_BUFFERS && bytes < TP__SEND_BYTES) {
        tp_packet *packet = next_packet(session, local, &end);
        if (packet) {
            size_t size;
            flight->buffers[count].bytes = tp__packet_frame(packet, &size);
            flight->buffers[count].size = size;
            flight->packets[count++] = packet;
            bytes += size;
            messages += tp__packet_messages(packet);
        }
    }
    flight->count = count;
    flight->held = count;
    flight->bytes = bytes;
    flight->messages = messages;
    flight->unqueued = messages * TP__QUEUED_ONE + bytes;
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

tp_end_reason tp__flight_fill(tp__session *session, tp__worker *worker) {
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
    session->sending_end = fill_flight(session, worker->local, flight);
    return TP_END_NONE;
}

/* ---- sending --------------------------------------------------------------------------------- */

bool tp__flight_advance(tp__flight *flight, size_t sent) {
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

void tp__flight_waits(tp__session *session, const tp__worker *worker) {
    if (atomic_load_explicit(&session->sending_since_ms, memory_order_relaxed) == 0) {
        atomic_store_explicit(&session->sending_since_ms, worker->served_ms, memory_order_relaxed);
    }
}

void tp__flight_release(tp__session *session) {
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

void tp__flight_sent(tp__session *session, tp__worker *worker) {
    const tp__flight *flight = session->flight;
    atomic_store_explicit(&session->sending_since_ms, 0, memory_order_relaxed);
    if (flight->told) {
        session->owed += flight->messages * TP__QUEUED_ONE + flight->bytes;
    }
    tp__count_own(&session->numbers.sent_messages, flight->messages);
    tp__count_own(&session->numbers.sent_bytes, flight->bytes);
    tp__count_own(&worker->counters.sent_messages, flight->messages);
    tp__count_own(&worker->counters.sent_bytes, flight->bytes);
    tp__count_own(&worker->counters.sends, 1);
    tp__flight_release(session);
}

tp_end_reason tp__flight_failure(tp_err error) {
    return error == TP_ERR_RESET || error == TP_ERR_CLOSED ? TP_END_PEER_RESET : TP_END_OS;
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
    tp__flight_release(session);
    discard_list(session, session->pending, packets, bytes);
    session->pending = NULL;
    tp__send_node *last;
    discard_list(session, tp__send_queue_take(&session->queue, &last), packets, bytes);
}
