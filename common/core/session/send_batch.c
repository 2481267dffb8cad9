/*
 * Send batches: filled from the backlog, handed to the system, discarded if never sent.
 *
 * Everything here runs on the session's flusher, except the release's discard of what was never
 * sent, which runs when no other thread uses the session.
 */
#include "core/session/send_batch.h"

#include <assert.h>

#include "core/engine/server_state.h"
#include "core/memory/block.h"
#include "core/packet/packet_internal.h"
#include "core/session/compact.h"
#include "core/session/pools.h"

/* ---- filling --------------------------------------------------------------------------------- */

/* `thread`: the calling thread's cache. */
static inline tp_packet *backlog_next_packet(
    tp__session *session, tp__thread_cache *thread, bool *end) {
    tp__send_node *node = session->backlog;
    assert(node && tp__backlog_is_had(session));
    tp_packet *packet = node->packet;
    session->backlog = node->next;
    if (TP_UNLIKELY(session->compact_last == node)) {
        session->compact_last = NULL;
    }
    *end = node == &session->end_node;
    if (*end) {
        assert(!session->backlog && session->end_taken);
        node->packet = NULL;
    } else {
        tp__pool_free_on(thread, tp__node_pool(), node);
    }
    return packet;
}

tp_packet *tp__session_next_packet(tp__session *session, bool *end) {
    return backlog_next_packet(session, tp__thread_cache_get(), end);
}

/* Moves packets from the backlog into the send batch, up to its limits. True: the session's end
 * node was reached. */
static bool batch_fill(tp__session *session, tp__thread_cache *thread, tp__send_batch *batch) {
    bool end = false;
    size_t count = 0;
    size_t bytes = 0;
    size_t messages = 0;
    while (session->backlog && count < TP_PORT_MAX_BUFFERS && bytes < TP__SEND_BYTES) {
        tp_packet *packet = backlog_next_packet(session, thread, &end);
        if (packet) {
            size_t size;
            batch->buffers[count].bytes = tp__packet_frame(packet, &size);
            batch->buffers[count].size = size;
            batch->packets[count++] = packet;
            bytes += size;
            messages += tp__packet_messages(packet);
        }
    }
    batch->count = count;
    batch->held = count;
    batch->bytes = bytes;
    batch->messages = messages;
    batch->unqueued = messages * TP__QUEUED_ONE + bytes;
    return end;
}

/* An empty batch. The arrays are long, and stay uninitialised. */
static tp__send_batch *batch_new(void) {
    tp__send_batch *batch = tp_pool_allocate(tp__send_batch_pool());
    if (batch) {
        batch->count = 0;
        batch->first = 0;
        batch->held = 0;
        batch->bytes = 0;
        batch->messages = 0;
        batch->unqueued = 0;
    }
    return batch;
}

tp_end_reason tp__send_batch_fill(tp__session *session, tp__worker *worker) {
    const tp__layer *layer = &session->server->layer;
    TP_ASSERT_WORKER(session);
    assert(!session->send_batch); /* there is at most one */
    tp__send_batch *batch = batch_new();
    session->send_batch = batch;
    assert(!session->sending_end); /* nothing follows the end node */
    if (TP_UNLIKELY(!batch)) {
        session->failure = TP_ERR_NO_MEMORY;
        return TP_END_NO_MEMORY;
    }
    batch->reported = session->joined;
    if (TP_UNLIKELY(layer->fill != NULL)) {
        tp_err error = TP_OK;
        tp_end_reason failure = layer->fill(session, worker, batch, &error);
        assert(!error || failure);
        if (TP_UNLIKELY(failure != TP_END_NONE)) {
            session->failure = (uint8_t)(failure == TP_END_NO_MEMORY ? TP_ERR_NO_MEMORY : error);
        }
        return failure;
    }
    session->sending_end = batch_fill(session, worker->thread_cache, batch);
    return TP_END_NONE;
}

/* ---- sending --------------------------------------------------------------------------------- */

bool tp__send_batch_advance(tp__send_batch *batch, size_t sent) {
    while (batch->first < batch->count && sent >= batch->buffers[batch->first].size) {
        sent -= batch->buffers[batch->first].size;
        batch->first++;
    }
    if (batch->first == batch->count) {
        assert(sent == 0); /* no more than the batch had */
        return true;
    }
    batch->buffers[batch->first].bytes += sent;
    batch->buffers[batch->first].size -= sent;
    return false;
}

void tp__send_batch_waits(tp__session *session, const tp__worker *worker) {
    if (atomic_load_explicit(&session->sending_since_ms, memory_order_relaxed) == 0) {
        atomic_store_explicit(&session->sending_since_ms, worker->served_ms, memory_order_relaxed);
    }
}

void tp__send_batch_release(tp__session *session) {
    tp__send_batch *batch = session->send_batch;
    if (!batch) {
        return;
    }
    session->send_batch = NULL;
    tp__packets_release(batch->packets, batch->held);
    if (atomic_load_explicit(&session->owner, memory_order_relaxed)) {
        tp__queue_size_add_own(
            &session->queued, UINT64_C(0) - batch->unqueued); /* this is the owner */
    } else {
        tp__queue_size_subtract(&session->queued, batch->unqueued);
    }
    tp_pool_free(tp__send_batch_pool(), batch);
}

void tp__send_batch_sent(tp__session *session, tp__worker *worker) {
    const tp__send_batch *batch = session->send_batch;
    TP_ASSERT_WORKER(session);
    assert(batch && batch->count > 0);
    atomic_store_explicit(&session->sending_since_ms, 0, memory_order_relaxed);
    if (batch->reported) {
        session->owed += batch->messages * TP__QUEUED_ONE + batch->bytes;
    }
    tp__count_own(&session->numbers.sent_messages, batch->messages);
    tp__count_own(&session->numbers.sent_bytes, batch->bytes);
    tp__count_own(&worker->counters.sent_messages, batch->messages);
    tp__count_own(&worker->counters.sent_bytes, batch->bytes);
    tp__count_own(&worker->counters.sends, 1);
    tp__send_batch_release(session);
}

tp_end_reason tp__send_batch_failure(tp_err error) {
    return error == TP_ERR_RESET || error == TP_ERR_CLOSED ? TP_END_PEER_RESET : TP_END_OS;
}

/* ---- discarding what was never sent ---------------------------------------------------------- */

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
    uint64_t in_flight = session->send_batch ? session->send_batch->unqueued : 0;
    *packets = in_flight >> TP__QUEUED_SHIFT;
    *bytes = in_flight & TP__QUEUED_BYTES;
    tp__send_batch_release(session);
    discard_list(session, session->backlog, packets, bytes);
    session->backlog = NULL;
    tp__send_node *last;
    discard_list(session, tp__send_queue_take(&session->queue, &last), packets, bytes);
}
