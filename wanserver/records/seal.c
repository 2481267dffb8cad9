/*
 * The sending half: puts frames into records.
 *
 * Runs in the session's flusher, on a worker that serves its socket. Frames are copied into packets
 * of exactly the records' sizes and sealed there, many frames to a record; a frame that does not
 * fit continues in the next record. So the messages themselves are released at once, however many
 * other sessions they are for, while the session's limits count them until the send has completed.
 *
 * A sealed record is sent once, or the session ends: no counter is ever used for two plaintexts.
 */
#include <assert.h>
#include <string.h>

#include "core/packet/packet_internal.h"
#include "core/session/send_batch.h"
#include "proto/frame.h"
#include "wanserver/wan.h"

_Static_assert(
    TP__SEAL_PLAIN_MAX <= TP_RECORD_PLAIN_MAX, "a record must not be larger than allowed");

static void seal_put(tp__send_batch *batch, tp_packet *packet) {
    assert(batch->count < TP__SEAL_RECORDS);
    tp_buffer *buffer = &batch->buffers[batch->count];
    buffer->bytes = tp__packet_payload(packet);
    buffer->size = tp_packet_size(packet);
    batch->bytes += buffer->size;
    batch->packets[batch->held++] = packet;
    batch->count++;
}

/* How many bytes of the backlog go into the next record. Only the last node, the session's end, may
 * be without a packet. */
static size_t seal_measure(const tp__session *session) {
    size_t size = 0;
    for (const tp__send_node *node = session->backlog; node && size < TP__SEAL_PLAIN_MAX;
         node = node->next) {
        size += node->packet ? tp__packet_frame_size(node->packet) : 0;
    }
    assert(size == 0 || size > tp__connection_of(session)->sent);
    size -= size > 0 ? tp__connection_of(session)->sent : 0;
    return size < TP__SEAL_PLAIN_MAX ? size : TP__SEAL_PLAIN_MAX;
}

/* Takes the backlog's first packet, a frame or a run, off the list: all its bytes are in
 * records. */
static void seal_complete_frame(tp__session *session, tp__send_batch *batch, bool *end) {
    tp_packet *packet = tp__session_next_packet(session, end);
    if (packet) {
        size_t messages = tp__packet_messages(packet);
        batch->messages += messages;
        batch->unqueued += messages * TP__QUEUED_ONE + tp__packet_frame_size(packet);
        tp_packet_release(packet);
    }
}

/* Copies `size` bytes of the backlog's frames to `plain`. */
static void seal_copy_frames(
    tp__session *session, tp__send_batch *batch, uint8_t *plain, size_t size, bool *end) {
    tp__connection *connection = tp__connection_of(session);
    while (size > 0) {
        assert(session->backlog && session->backlog->packet); /* seal_measure() has counted it */
        assert(tp__packet_is_sealed(session->backlog->packet));
        size_t bytes = 0;
        const uint8_t *frame = tp__packet_frame(session->backlog->packet, &bytes);
        bytes -= connection->sent;
        size_t copied = bytes < size ? bytes : size;
        memcpy(plain, frame + connection->sent, copied);
        plain += copied;
        size -= copied;
        if (copied < bytes) {
            connection->sent += (uint32_t)copied;
        } else {
            connection->sent = 0;
            seal_complete_frame(session, batch, end);
        }
    }
}

/* REPLY is sent as it is, neither as a frame nor in a record: it is the only packet that is queued
 * unsealed. */
static bool is_reply(const tp_packet *packet) {
    return packet && !tp__packet_is_sealed(packet);
}

/* Puts REPLY into the send batch as it is. It is the first packet of a session, and counts as no
 * message. */
static void seal_put_reply(tp__session *session, tp__send_batch *batch, bool *end) {
    tp_packet *packet = tp__session_next_packet(session, end);
    assert(tp__connection_of(session)->sealing.counter == 0 && batch->count == 0);
    batch->unqueued += TP__QUEUED_ONE + tp__packet_frame_size(packet);
    seal_put(batch, packet);
}

static tp_end_reason seal_end_reason(tp__session *session, tp_err error) {
    if (error == TP_ERR_KEY_LIMIT) {
        return TP_END_KEY_LIMIT;
    }
    session->failure = (uint8_t)error;
    return TP_END_OS;
}

static tp_end_reason seal_put_record(
    tp__session *session, tp__worker *worker, tp__send_batch *batch, size_t plain, bool *end) {
    assert(plain >= 1 && plain <= TP__SEAL_PLAIN_MAX);
    tp_packet *record = tp__packet_received(plain + TP_RECORD_OVERHEAD);
    if (TP_UNLIKELY(!record)) {
        return TP_END_NO_MEMORY;
    }
    uint8_t *bytes = tp__packet_payload(record);
    seal_copy_frames(session, batch, bytes + TP_RECORD_HEADER, plain, end);
    tp_err error = tp_record_seal(&tp__connection_of(session)->sealing, bytes, plain);
    if (TP_UNLIKELY(error != TP_OK)) {
        tp_packet_release(record); /* its plaintext must not reach the network */
        return seal_end_reason(session, error);
    }
    seal_put(batch, record);
    tp__count_own(&tp__wan_of(session)->workers[worker->index].records_sealed, 1);
    return TP_END_NONE;
}

/* Puts the next part of the backlog into the send batch: REPLY, a record, or an end node that has
 * no packet. */
static tp_end_reason seal_put_next(
    tp__session *session, tp__worker *worker, tp__send_batch *batch, bool *end) {
    assert(session->backlog);
    if (TP_UNLIKELY(is_reply(session->backlog->packet))) {
        seal_put_reply(session, batch, end);
        return TP_END_NONE;
    }
    size_t plain = seal_measure(session);
    if (plain == 0) {
        seal_complete_frame(session, batch, end);
        return TP_END_NONE;
    }
    return seal_put_record(session, worker, batch, plain, end);
}

tp_end_reason tp__seal_fill(
    tp__session *session, tp__worker *worker, struct tp__send_batch *batch, bool *end) {
    tp_end_reason failure = TP_END_NONE;
    *end = false;
    while (session->backlog && !failure && batch->count < TP__SEAL_RECORDS) {
        failure = seal_put_next(session, worker, batch, end);
    }
    /* CLOSE follows what is queued: enough counters are left for that. */
    if (TP_UNLIKELY(tp_record_near_end(&tp__connection_of(session)->sealing))) {
        tp__session_finish(session, TP_END_KEY_LIMIT, TP_CLOSE_KEY_LIMIT);
    }
    return failure;
}
