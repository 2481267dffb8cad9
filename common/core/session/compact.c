/*
 * Copies what waits for a slow reader, so that it costs its own size. compact.h describes which
 * thread may do that.
 *
 * Runs on any thread that has the backlog: the flusher, or a pusher that has taken it. No lock; one
 * allocation from a pool for each run. If memory is out, packets stay as they are: only the saving
 * is lost.
 */
#include "core/session/compact.h"

#include <assert.h>

#include "core/engine/server_state.h"
#include "core/packet/packet_internal.h"
#include "core/session/pools.h"
#include "core/session/send_batch.h"

/* ---- copying the backlog --------------------------------------------------------------------- */

/* A packet with memory of its own gains nothing from a copy, unless it is so small that its struct
 * and its node count, or fills less than half of its memory. */
#define SMALL_FRAME ((size_t)4 << 10)

static bool wastes_memory(const tp_packet *packet) {
    size_t size = tp__packet_frame_size(packet);
    return size <= SMALL_FRAME || (size <= TP__RUN_MOST && packet->bytes > 2 * size);
}

static bool should_move(const tp__session *session, const tp__send_node *node) {
    const tp_packet *packet = node->packet;
    return node != &session->end_node && tp__packet_is_sealed(packet) && !packet->run &&
           (packet->chunk || wastes_memory(packet));
}

static size_t min_size(size_t value, size_t most) {
    return value < most ? value : most;
}

/* How much of a frame is appended to the run. What is left for the next run is nothing, or at least
 * a header: a run has no less. */
static size_t part_for_run(const tp_packet *run, size_t frame) {
    size_t capacity = run ? tp__run_space_left(run) : 0;
    return frame <= capacity ? frame : min_size(capacity, frame - TP__FRAME_HEADER);
}

/* Each run has more capacity than the one before, so that little is reserved while little waits. */
static size_t next_run_capacity(const tp_packet *run, size_t least) {
    size_t capacity = run ? 8 * tp__run_capacity(run) : 0;
    return min_size(capacity > least ? capacity : least, TP__RUN_MOST);
}

/*
 * Moves the node's frame to the end of `last`'s run and, where it does not fit, into a new run that
 * replaces the node's packet. True: nothing is left of the node, and the caller frees it.
 */
static bool compact_frame(tp__session *session, tp__send_node *last, tp__send_node *node) {
    tp_packet *run = last && last->packet->run ? last->packet : NULL;
    tp_packet *packet = node->packet;
    size_t size;
    assert(packet && !packet->run);
    const uint8_t *frame = tp__packet_frame(packet, &size);
    size_t part = part_for_run(run, size);
    tp_packet *next = NULL;
    if (part < size) {
        next = tp__packet_run(frame + part, size - part, next_run_capacity(run, size - part));
        if (TP_UNLIKELY(!next)) {
            TP__COUNT(session->server, tp__worker_here(session->server), no_memory, 1);
            return false;
        }
    }
    if (part > 0) {
        tp__run_append(run, frame, part);
    }
    (next ? next : run)->messages++;
    tp_packet_release(packet);
    node->packet = next;
    return !next;
}

/* From the first node that has not been looked at to the end. */
static void compact_backlog(tp__session *session) {
    assert(tp__backlog_is_had(session));
    tp__send_node *last = session->compact_last;
    tp__send_node *node = last ? last->next : session->backlog;
    while (node) {
        tp__send_node *next = node->next;
        if (should_move(session, node) && compact_frame(session, last, node)) {
            assert(last && node != &session->end_node);
            last->next = next;
            tp_pool_free(tp__node_pool(), node);
        } else {
            last = node;
        }
        node = next;
    }
    session->compact_last = last;
    if (last) {
        session->backlog_last = last;
    }
}

/* ---- taking and opening the backlog ---------------------------------------------------------- */

static bool backlog_take(tp__session *session) {
    uint8_t open = TP__BACKLOG_OPEN;
    return atomic_compare_exchange_strong_explicit(&session->backlog_state, &open,
        TP__BACKLOG_TAKEN, memory_order_acquire, memory_order_relaxed);
}

/* False: the flusher has asked for the backlog meanwhile. The acquire is for this case: the flush
 * that is passed on sees what the flusher has done to its part of the session. */
static bool backlog_reopen(tp__session *session) {
    uint8_t taken = TP__BACKLOG_TAKEN;
    return atomic_compare_exchange_strong_explicit(&session->backlog_state, &taken,
        TP__BACKLOG_OPEN, memory_order_seq_cst, memory_order_acquire);
}

/* Is anything queued that no thread has moved? Nothing is moved once the session is ending: the end
 * node may be queued. */
static bool has_unmoved(const tp__session *session) {
    return tp__send_queue_has_more_ordered(&session->queue) &&
           !(tp__life_read(&session->life) & TP__LIFE_ENDING);
}

/* The queue's limits bound the number of rounds, however many threads push meanwhile. */
void tp__compact_slow(tp__session *session) {
    while (has_unmoved(session) && backlog_take(session)) {
        tp__session_collect(session);
        compact_backlog(session);
        if (!backlog_reopen(session)) {
            atomic_store_explicit(&session->backlog_state, TP__BACKLOG_OWNED, memory_order_release);
            tp__session_flush(session);
            return;
        }
    }
}

bool tp__backlog_own_if_open(tp__session *session) {
    TP_ASSERT_WORKER(session);
    uint8_t open = TP__BACKLOG_OPEN;
    return atomic_compare_exchange_strong_explicit(&session->backlog_state, &open,
               TP__BACKLOG_OWNED, memory_order_acquire, memory_order_relaxed) ||
           open == TP__BACKLOG_OWNED;
}

bool tp__backlog_own_again(tp__session *session) {
    for (;;) {
        if (tp__backlog_own_if_open(session)) {
            return true;
        }
        uint8_t taken = TP__BACKLOG_TAKEN;
        if (atomic_compare_exchange_strong_explicit(&session->backlog_state, &taken,
                TP__BACKLOG_WANTED, memory_order_acq_rel, memory_order_relaxed)) {
            return false;
        }
    }
}

/* ---- copying the send batch ------------------------------------------------------------------ */

/* Returns how many unsent bytes of the send batch are in chunks; *held is the size of these chunks:
 * about as much if the packets were cut one behind the other, up to one chunk for each if others
 * were cut in between. */
static size_t bytes_in_chunks(const tp__send_batch *batch, size_t *held) {
    const tp__chunk *last = NULL;
    size_t bytes = 0;
    *held = 0;
    for (size_t i = 0; i < batch->count; i++) {
        const tp__chunk *chunk = batch->packets[i]->chunk;
        if (chunk) {
            bytes += i >= batch->first ? batch->buffers[i].size : 0;
            *held += chunk != last ? TP__CHUNK_BYTES : 0;
            last = chunk;
        }
    }
    return bytes;
}

/* Memory for the bytes of several buffers, and in any case for `least`; NULL if it is out. It holds
 * bytes, not frames: what is left of a buffer may be a single byte. */
static tp_packet *block_new(size_t left, size_t least) {
    size_t capacity = min_size(left, TP__KEPT_MOST);
    tp_packet *block = tp__packet_kept(capacity > least ? capacity : least);
    if (block) {
        block->size = 0;
    }
    return block;
}

static void compact_buffer(tp_buffer *buffer, tp_packet *block) {
    const uint8_t *copy = tp__packet_payload(block) + block->size;
    tp__run_append(block, buffer->bytes, buffer->size);
    buffer->bytes = copy;
}

/* The buffers keep their sizes: a send may be in the middle of one. Buffers before `first` are
 * sent, and their packets are released. `left` is how many bytes of the others are in chunks. */
static void copy_batch(tp__send_batch *batch, size_t left) {
    tp_packet *released[TP_PORT_MAX_BUFFERS];
    size_t releases = 0;
    size_t held = 0;
    tp_packet *block = NULL;
    for (size_t i = 0; i < batch->count; i++) {
        tp_packet *packet = batch->packets[i];
        tp_buffer *buffer = &batch->buffers[i];
        bool moves = packet->chunk && i >= batch->first;
        if (moves && (!block || tp__run_space_left(block) < buffer->size)) {
            tp_packet *next = block_new(left, buffer->size);
            moves = next != NULL;
            block = next ? next : block;
            if (next) {
                batch->packets[held++] = next;
            }
        }
        if (moves) {
            assert(left >= buffer->size);
            compact_buffer(buffer, block);
            left -= buffer->size;
            released[releases++] = packet;
        } else if (i < batch->first) {
            released[releases++] = packet;
        } else {
            batch->packets[held++] = packet;
        }
    }
    assert(held <= batch->count);
    batch->held = held;
    tp__packets_release(released, releases);
}

static void compact_batch(tp__send_batch *batch) {
    size_t held = 0;
    /* A batch that has been copied references no chunk; its packets are no longer one for each
     * buffer. */
    size_t bytes = batch->held == batch->count ? bytes_in_chunks(batch, &held) : 0;
    if (held > 2 * bytes) {
        copy_batch(batch, bytes);
    }
}

void tp__compact_waiting(tp__session *session) {
    assert(session->send_batch && tp__backlog_is_owned(session));
    compact_batch(session->send_batch);
    tp__session_collect(session);
    compact_backlog(session);
    atomic_store_explicit(&session->backlog_state, TP__BACKLOG_OPEN, memory_order_seq_cst);
    if (has_unmoved(session)) {
        tp__compact_slow(session);
    }
}
