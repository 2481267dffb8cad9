/*
 * How a layer fills a send batch (layer.h): the oldest packets of the backlog are copied out or
 * moved, and packets of the layer's own are added.
 *
 * Runs inside the layer's `fill`, on the session's flusher, which has the backlog and the batch.
 * What leaves the session's `queued` with the batch is counted when a packet leaves the backlog.
 */
#include <string.h>

#include "core/engine/server_state.h"
#include "core/packet/packet_internal.h"
#include "core/session/compact.h"
#include "core/session/send_batch.h"

_Static_assert(TP__LAYER_FILL_PACKETS == TP_PORT_MAX_BUFFERS, "layer.h states the number");

/* Takes the oldest node off the backlog; returns its packet, or NULL. */
static tp_packet *fill_next_packet(tp__session *session) {
    bool end = false;
    tp_packet *packet = tp__session_next_packet(session, &end);
    session->sending_end = end;
    return packet;
}

/* Takes the oldest packet, a frame or a run, off the backlog: all its bytes have been copied. */
static void fill_complete_frame(tp__session *session, tp__send_batch *batch) {
    tp_packet *packet = fill_next_packet(session);
    size_t messages = tp__packet_messages(packet);
    batch->messages += messages;
    batch->unqueued += messages * TP__QUEUED_ONE + tp__packet_frame_size(packet);
    tp_packet_release(packet);
}

/* Bytes of frames in the backlog, no further than `most`. Only the last node, the session's end,
 * may be without a packet. */
static size_t backlog_measure(const tp__session *session, size_t most) {
    size_t size = 0;
    for (const tp__send_node *node = session->backlog; node && size < most; node = node->next) {
        size += node->packet ? tp__packet_frame_size(node->packet) : 0;
    }
    return size;
}

tp__layer_next tp__layer_fill_next(
    const tp__session *session, size_t skip, size_t most, size_t *size) {
    const tp__send_node *node = session->backlog;
    assert(most > 0 && tp__backlog_is_had(session));
    if (!node) {
        return TP__LAYER_EMPTY;
    }
    if (TP_UNLIKELY(!node->packet)) {
        assert(node == &session->end_node && skip == 0);
        return TP__LAYER_END;
    }
    if (TP_UNLIKELY(!tp__packet_is_sealed(node->packet))) {
        assert(skip == 0);
        return TP__LAYER_RAW;
    }
    size_t found = backlog_measure(session, most);
    assert(found > skip);
    found -= skip;
    *size = found < most ? found : most;
    return TP__LAYER_FRAMES;
}

size_t tp__layer_fill_copy(
    tp__session *session, tp__send_batch *batch, size_t skip, uint8_t *bytes, size_t size) {
    while (size > 0) {
        assert(session->backlog && session->backlog->packet); /* tp__layer_fill_next() counted it */
        assert(tp__packet_is_sealed(session->backlog->packet));
        size_t left = 0;
        const uint8_t *frame = tp__packet_frame(session->backlog->packet, &left);
        assert(skip < left);
        left -= skip;
        size_t copied = left < size ? left : size;
        memcpy(bytes, frame + skip, copied);
        bytes += copied;
        size -= copied;
        if (copied < left) {
            skip += copied;
        } else {
            skip = 0;
            fill_complete_frame(session, batch);
        }
    }
    return skip;
}

void tp__layer_fill_end(tp__session *session) {
    tp_packet *packet = fill_next_packet(session);
    assert(!packet && session->sending_end);
    (void)packet;
}

void tp__layer_fill_raw(tp__session *session, tp__send_batch *batch) {
    tp_packet *packet = fill_next_packet(session);
    assert(packet && !tp__packet_is_sealed(packet));
    batch->unqueued += TP__QUEUED_ONE + tp__packet_frame_size(packet);
    tp__layer_fill_add(batch, packet);
}

void tp__layer_fill_add(tp__send_batch *batch, tp_packet *packet) {
    assert(batch->count == batch->held && batch->count < TP_PORT_MAX_BUFFERS);
    tp_buffer *buffer = &batch->buffers[batch->count];
    buffer->bytes = tp__packet_payload(packet);
    buffer->size = tp_packet_size(packet);
    batch->bytes += buffer->size;
    batch->packets[batch->held++] = packet;
    batch->count++;
    assert(buffer->size > 0);
}
