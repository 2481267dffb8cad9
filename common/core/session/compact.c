/*
 * What waits for a slow reader becomes copies that cost their own size. compact.h says who may.
 *
 * Runs on any thread that has `pending`: the flush owner, or a pusher that has taken it. No lock;
 * an allocation from a pool for each run. Where memory is out, packets stay as they are: nothing is
 * lost but the saving.
 */
#include "core/session/compact.h"

#include "core/engine/server_state.h"
#include "core/packet/packet_internal.h"
#include "core/session/pools.h"
#include "core/session/send_batch.h"

/* ---- what is pending ------------------------------------------------------------------------- */

/* Copies of what has memory of its own save nothing, unless it is so small that its struct and its
 * node weigh, or fills less than half of that memory. */
#define SMALL_FRAME ((size_t)4 << 10)

static bool is_a_waste(const tp_packet *packet) {
    size_t size = tp__packet_frame_size(packet);
    return size <= SMALL_FRAME || (size <= TP__RUN_MOST && packet->bytes > 2 * size);
}

static bool is_to_be_moved(const tp__session *session, const tp__send_node *node) {
    const tp_packet *packet = node->packet;
    return node != &session->end_node && tp__packet_is_sealed(packet) && !packet->run &&
           (packet->chunk || is_a_waste(packet));
}

static size_t at_most(size_t value, size_t most) {
    return value < most ? value : most;
}

/* How much of a frame goes behind what the run has. What is left for the next one is nothing, or a
 * header's size at least: a run has no less. */
static size_t part_of(const tp_packet *run, size_t frame) {
    size_t room = run ? tp__run_room(run) : 0;
    return frame <= room ? frame : at_most(room, frame - TP__FRAME_HEADER);
}

/* Each has more room than the one before: little waits, little is kept ready. */
static size_t next_room(const tp_packet *run, size_t least) {
    size_t room = run ? 8 * tp__run_capacity(run) : 0;
    return at_most(room > least ? room : least, TP__RUN_MOST);
}

/*
 * Moves the node's frame behind `last`'s and, where it does not fit, into a run that takes the
 * packet's place. True: nothing is left of the node.
 */
static bool move_frame(tp__session *session, tp__send_node *last, tp__send_node *node) {
    tp_packet *run = last && last->packet->run ? last->packet : NULL;
    tp_packet *packet = node->packet;
    size_t size;
    const uint8_t *frame = tp__packet_frame(packet, &size);
    size_t part = part_of(run, size);
    tp_packet *next = NULL;
    if (part < size) {
        next = tp__packet_run(frame + part, size - part, next_room(run, size - part));
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
static void compact_pending(tp__session *session) {
    tp__send_node *last = session->compact_last;
    tp__send_node *node = last ? last->next : session->pending;
    while (node) {
        tp__send_node *next = node->next;
        if (is_to_be_moved(session, node) && move_frame(session, last, node)) {
            last->next = next;
            tp_pool_free(tp__node_pool(), node);
        } else {
            last = node;
        }
        node = next;
    }
    session->compact_last = last;
    if (last) {
        session->pending_last = last;
    }
}

/* ---- who has it ------------------------------------------------------------------------------ */

static bool take(tp__session *session) {
    uint8_t open = TP__PENDING_OPEN;
    return atomic_compare_exchange_strong_explicit(&session->pending_state, &open,
        TP__PENDING_TAKEN, memory_order_acquire, memory_order_relaxed);
}

/* False: the flush owner has asked for it meanwhile. Acquire: what the owner has done to its part
 * of the session goes on to the flush that is passed on. */
static bool open_again(tp__session *session) {
    uint8_t taken = TP__PENDING_TAKEN;
    return atomic_compare_exchange_strong_explicit(&session->pending_state, &taken,
        TP__PENDING_OPEN, memory_order_seq_cst, memory_order_acquire);
}

/* Is there something that nobody has moved? Behind the end node nothing is moved. */
static bool is_behind(const tp__session *session) {
    return tp__send_queue_holds_more(&session->queue) &&
           !(tp__life_read(&session->life) & TP__LIFE_ENDING);
}

/* The queue's limits bound how often this goes round, however many push meanwhile. */
void tp__compact_slowly(tp__session *session) {
    while (is_behind(session) && take(session)) {
        tp__session_collect(session);
        compact_pending(session);
        if (!open_again(session)) {
            atomic_store_explicit(&session->pending_state, TP__PENDING_OWNED, memory_order_release);
            tp__session_flush(session);
            return;
        }
    }
}

bool tp__pending_own_if_open(tp__session *session) {
    uint8_t open = TP__PENDING_OPEN;
    return atomic_compare_exchange_strong_explicit(&session->pending_state, &open,
               TP__PENDING_OWNED, memory_order_acquire, memory_order_relaxed) ||
           open == TP__PENDING_OWNED;
}

bool tp__pending_own_again(tp__session *session) {
    for (;;) {
        if (tp__pending_own_if_open(session)) {
            return true;
        }
        uint8_t taken = TP__PENDING_TAKEN;
        if (atomic_compare_exchange_strong_explicit(&session->pending_state, &taken,
                TP__PENDING_WANTED, memory_order_acq_rel, memory_order_relaxed)) {
            return false;
        }
    }
}

/* ---- the flight ------------------------------------------------------------------------------ */

/* Unsent bytes of the flight that lie in chunks, and in *held how much these chunks are: as much if
 * the packets were cut one behind the other, up to a chunk for each if others were cut in
 * between. */
static size_t in_chunks(const tp__flight *flight, size_t *held) {
    const tp__chunk *last = NULL;
    size_t bytes = 0;
    *held = 0;
    for (size_t i = 0; i < flight->count; i++) {
        const tp__chunk *chunk = flight->packets[i]->chunk;
        if (chunk) {
            bytes += i >= flight->first ? flight->buffers[i].size : 0;
            *held += chunk != last ? TP__CHUNK_BYTES : 0;
            last = chunk;
        }
    }
    return bytes;
}

/* Memory for the bytes of several buffers, and for this one in any case; NULL if it is out. Bytes
 * they are, not frames: what is left of a buffer may be a single one. */
static tp_packet *new_block(size_t left, size_t least) {
    size_t room = at_most(left, TP__KEPT_MOST);
    tp_packet *block = tp__packet_kept(room > least ? room : least);
    if (block) {
        block->size = 0;
    }
    return block;
}

static void move_buffer(tp_buffer *buffer, tp_packet *block) {
    const uint8_t *copy = tp__packet_payload(block) + block->size;
    tp__run_append(block, buffer->bytes, buffer->size);
    buffer->bytes = copy;
}

/* The buffers keep their sizes: a send may be in the middle of one. What comes before `first` is
 * sent, and needs nothing to hold it. `left` bytes of the others lie in chunks. */
static void copy_flight(tp__flight *flight, size_t left) {
    tp_packet *released[TP_PORT_MAX_BUFFERS];
    size_t releases = 0;
    size_t held = 0;
    tp_packet *block = NULL;
    for (size_t i = 0; i < flight->count; i++) {
        tp_packet *packet = flight->packets[i];
        tp_buffer *buffer = &flight->buffers[i];
        bool moves = packet->chunk && i >= flight->first;
        if (moves && (!block || tp__run_room(block) < buffer->size)) {
            tp_packet *next = new_block(left, buffer->size);
            moves = next != NULL;
            block = next ? next : block;
            if (next) {
                flight->packets[held++] = next;
            }
        }
        if (moves) {
            move_buffer(buffer, block);
            left -= buffer->size;
            released[releases++] = packet;
        } else if (i < flight->first) {
            released[releases++] = packet;
        } else {
            flight->packets[held++] = packet;
        }
    }
    flight->held = held;
    tp__packets_release(released, releases);
}

static void compact_flight(tp__flight *flight) {
    size_t held = 0;
    /* What has been copied once holds no chunk: its packets are no longer one for each buffer. */
    size_t bytes = flight->held == flight->count ? in_chunks(flight, &held) : 0;
    if (held > 2 * bytes) {
        copy_flight(flight, bytes);
    }
}

void tp__compact_waiting(tp__session *session) {
    compact_flight(session->flight);
    tp__session_collect(session);
    compact_pending(session);
    atomic_store_explicit(&session->pending_state, TP__PENDING_OPEN, memory_order_seq_cst);
    if (is_behind(session)) {
        tp__compact_slowly(session);
    }
}
