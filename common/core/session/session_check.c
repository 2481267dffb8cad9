/*
 * The invariants of a session, as session_state.h, send_batch.h and send_queue.h state them.
 *
 * Each check reads what its caller may read and changes nothing. tp__session_check() is for the
 * flusher while it has the backlog; tp__session_release_check() for the thread that releases the
 * session; tp__receive_check() for the receiver, inside a delivery. They run only in builds with
 * assertions.
 */
#include "core/base/invariant.h"
#include "core/engine/server_state.h"
#include "core/packet/packet_internal.h"
#include "core/session/compact.h"
#include "core/session/send_batch.h"
#include "proto/frame.h"

/* ---- the parts ------------------------------------------------------------------------------- */

/* What has been found in a session: packets and bytes, in the form of `queued`. */
typedef struct found {
    uint64_t packets;
    uint64_t bytes;
} found;

static void add_node(found *sum, const tp__send_node *node) {
    if (node->packet) {
        sum->packets += tp__packet_messages(node->packet);
        sum->bytes += tp__packet_frame_size(node->packet);
    }
}

const char *tp__send_batch_check(const tp__send_batch *batch) {
    size_t unsent = 0;
    TP__INVARIANT(batch->count <= TP_PORT_MAX_BUFFERS);
    TP__INVARIANT(batch->held <= batch->count);
    TP__INVARIANT(batch->first < batch->count || batch->count == 0);
    for (size_t i = batch->first; i < batch->count; i++) {
        TP__INVARIANT(batch->buffers[i].bytes && batch->buffers[i].size > 0);
        unsent += batch->buffers[i].size;
    }
    for (size_t i = 0; i < batch->held; i++) {
        TP__INVARIANT(batch->packets[i]);
    }
    TP__INVARIANT(unsent <= batch->bytes);
    TP__INVARIANT(batch->messages <= batch->unqueued >> TP__QUEUED_SHIFT);
    return NULL;
}

/* The first `most` nodes: one list, which ends in backlog_last; the end node is the last one; what
 * compact.c has looked at is in it. */
static const char *backlog_check(const tp__session *session, size_t most, found *sum) {
    const tp__send_node *last = NULL;
    const tp__send_node *node = session->backlog;
    bool compacted = session->compact_last == NULL;
    for (size_t count = 0; node && count < most; count++) {
        bool end = node == &session->end_node;
        TP__INVARIANT(!end || (session->end_taken && !node->next));
        TP__INVARIANT(end || node->packet);
        add_node(sum, node);
        compacted = compacted || node == session->compact_last;
        last = node;
        node = node->next;
    }
    TP__INVARIANT(node || !session->backlog || session->backlog_last == last);
    TP__INVARIANT(node || compacted);
    return NULL;
}

/* The whole queue, for the thread that releases the session: no other thread pushes any more. The
 * end node is in it once, or it has been taken. */
static const char *queued_check(const tp__session *session, found *sum) {
    uintptr_t newest = atomic_load_explicit(&session->queue.newest, memory_order_relaxed);
    bool end_taken = session->end_taken;
    if (newest <= TP__QUEUE_BUSY) {
        return NULL;
    }
    for (const tp__send_node *node = (const tp__send_node *)newest; node; node = node->next) {
        bool end = node == &session->end_node;
        TP__INVARIANT(!end || !end_taken);
        TP__INVARIANT(end || node->packet);
        end_taken = end_taken || end;
        add_node(sum, node);
    }
    return NULL;
}

/* What the flusher may look at. */
static const char *flusher_check(const tp__session *session, size_t most, found *sum) {
    const tp__send_batch *batch = session->send_batch;
    TP__INVARIANT(!session->sending_end || (session->end_taken && !session->backlog));
    if (batch) {
        const char *broken = tp__send_batch_check(batch);
        if (broken) {
            return broken;
        }
        sum->packets += batch->unqueued >> TP__QUEUED_SHIFT;
        sum->bytes += batch->unqueued & TP__QUEUED_BYTES;
    }
    return backlog_check(session, most, sum);
}

/* ---- the checks ------------------------------------------------------------------------------ */

const char *tp__send_queue_check(const tp__send_queue *queue) {
    uintptr_t newest = atomic_load_explicit(&queue->newest, memory_order_relaxed);
    TP__INVARIANT(newest == TP__QUEUE_IDLE || newest == TP__QUEUE_BUSY);
    return NULL;
}

const char *tp__receive_check(const tp__session *session) {
    const tp__receive_state *receive = &session->receive;
    if (receive->partial) {
        TP__INVARIANT(receive->partial_filled < tp_packet_size(receive->partial));
        TP__INVARIANT(!receive->partial->sealed && !receive->partial->run);
    } else {
        TP__INVARIANT(receive->header_filled < TP_FRAME_HEADER);
    }
    return NULL;
}

/*
 * Every node that the flusher has taken was counted before it was pushed, and only the flusher
 * subtracts what was sent. So `queued` is never below what the batch and the backlog hold; it may
 * be above, by what is in the queue or is being admitted.
 */
const char *tp__session_check(const tp__session *session, size_t most) {
    found sum = {0, 0};
    TP__INVARIANT(
        atomic_load_explicit(&session->backlog_state, memory_order_relaxed) == TP__BACKLOG_OWNED);
    const char *broken = flusher_check(session, most, &sum);
    if (broken) {
        return broken;
    }
    uint64_t queued = tp__queue_size_now(&session->queued);
    TP__INVARIANT(queued >> TP__QUEUED_SHIFT >= sum.packets);
    TP__INVARIANT((queued & TP__QUEUED_BYTES) >= sum.bytes);
    return NULL;
}

static const char *references_check(const tp__session *session) {
#ifdef NDEBUG
    (void)session;
    return NULL;
#else
    return tp__references_check(&session->references);
#endif
}

/* All references are gone: no caller is admitting a packet, no pusher has the backlog, and no
 * worker is the flusher. */
const char *tp__session_release_check(const tp__session *session) {
    found sum = {0, 0};
    uint64_t life = tp__life_read(&session->life);
    TP__INVARIANT(life & TP__LIFE_RELEASED && life & TP__LIFE_CLOSING);
    uint8_t state = atomic_load_explicit(&session->backlog_state, memory_order_relaxed);
    TP__INVARIANT(state == TP__BACKLOG_OWNED || state == TP__BACKLOG_OPEN);
    TP__INVARIANT(atomic_load_explicit(&session->flusher, memory_order_relaxed) == 0);
    const char *broken = references_check(session);
    if (!broken) {
        broken = flusher_check(session, SIZE_MAX, &sum);
    }
    if (!broken) {
        broken = queued_check(session, &sum);
    }
    if (!broken) {
        broken = tp__receive_check(session);
    }
    if (broken) {
        return broken;
    }
    uint64_t queued = tp__queue_size_now(&session->queued);
    TP__INVARIANT(queued == sum.packets * TP__QUEUED_ONE + sum.bytes);
    return NULL;
}
