/*
 * From frames to records: the sending half.
 *
 * Runs as the session's flush owner, on a worker that serves its socket. Frames are copied into
 * packets of just the records' sizes and sealed there, many frames to a record, and a frame that
 * does not fit goes on in the next. So the messages themselves are released at once, whoever else
 * they are for, while the session's limits count them until the send is done.
 *
 * A sealed record is sent once or the session ends: no counter is ever used for two texts.
 */
#include <assert.h>
#include <string.h>

#include "core/packet/packet_internal.h"
#include "core/session/send_batch.h"
#include "proto/frame.h"
#include "wanserver/wan.h"

_Static_assert(
    TP__SEAL_PLAIN_MOST <= TP_RECORD_PLAIN_MAX, "a record must not be larger than allowed");

static void put(tp__flight *flight, tp_packet *packet) {
    tp_buffer *buffer = &flight->buffers[flight->count];
    buffer->bytes = tp__packet_payload(packet);
    buffer->size = tp_packet_size(packet);
    flight->bytes += buffer->size;
    flight->packets[flight->held++] = packet;
    flight->count++;
}

/* How much of what is pending goes into the next record. Only the last node, the session's end, may
 * be without a packet. */
static size_t measure(const tp__session *session) {
    size_t size = 0;
    for (const tp__send_node *node = session->pending; node && size < TP__SEAL_PLAIN_MOST;
         node = node->next) {
        size += node->packet ? tp__packet_frame_size(node->packet) : 0;
    }
    size -= size > 0 ? tp__player_of(session)->sent : 0;
    return size < TP__SEAL_PLAIN_MOST ? size : TP__SEAL_PLAIN_MOST;
}

/* The oldest pending packet, a frame or a run of them, is in records to its last byte. */
static void complete_frame(tp__session *session, tp__flight *flight, bool *end) {
    tp_packet *packet = tp__session_next_packet(session, end);
    if (packet) {
        size_t messages = tp__packet_messages(packet);
        flight->messages += messages;
        flight->unqueued += messages * TP__QUEUED_ONE + tp__packet_frame_size(packet);
        tp_packet_release(packet);
    }
}

/* Copies `size` bytes of pending frames to `plain`. */
static void copy_frames(
    tp__session *session, tp__flight *flight, uint8_t *plain, size_t size, bool *end) {
    tp__player *player = tp__player_of(session);
    while (size > 0) {
        assert(session->pending && session->pending->packet); /* measure() has counted it */
        assert(tp__packet_is_sealed(session->pending->packet));
        size_t bytes = 0;
        const uint8_t *frame = tp__packet_frame(session->pending->packet, &bytes);
        bytes -= player->sent;
        size_t copied = bytes < size ? bytes : size;
        memcpy(plain, frame + player->sent, copied);
        plain += copied;
        size -= copied;
        if (copied < bytes) {
            player->sent += (uint32_t)copied;
        } else {
            player->sent = 0;
            complete_frame(session, flight, end);
        }
    }
}

/* REPLY is neither a frame nor in a record: the one packet that is queued without a seal. */
static bool is_reply(const tp_packet *packet) {
    return packet && !tp__packet_is_sealed(packet);
}

/* REPLY is the first there is, and goes as it is. It counts as no message. */
static void put_reply(tp__session *session, tp__flight *flight, bool *end) {
    tp_packet *packet = tp__session_next_packet(session, end);
    assert(tp__player_of(session)->sealing.counter == 0 && flight->count == 0);
    flight->unqueued += TP__QUEUED_ONE + tp__packet_frame_size(packet);
    put(flight, packet);
}

static tp_end_reason reason_for(tp__session *session, tp_err error) {
    if (error == TP_ERR_KEY_LIMIT) {
        return TP_END_KEY_LIMIT;
    }
    session->failure = (uint8_t)error;
    return TP_END_OS;
}

static tp_end_reason put_record(
    tp__session *session, tp__worker *worker, tp__flight *flight, size_t plain, bool *end) {
    tp_packet *record = tp__packet_received(plain + TP_RECORD_OVERHEAD);
    if (TP_UNLIKELY(!record)) {
        return TP_END_NO_MEMORY;
    }
    uint8_t *bytes = tp__packet_payload(record);
    copy_frames(session, flight, bytes + TP_RECORD_HEADER, plain, end);
    tp_err error = tp_record_seal(&tp__player_of(session)->sealing, bytes, plain);
    if (TP_UNLIKELY(error != TP_OK)) {
        tp_packet_release(record); /* what is in it is not for the network */
        return reason_for(session, error);
    }
    put(flight, record);
    tp__count_own(&tp__wan_of(session)->workers[worker->index].records_sealed, 1);
    return TP_END_NONE;
}

/* What is pending begins with a REPLY, with bytes for a record, or with an end node that carries
 * none. */
static tp_end_reason put_next(
    tp__session *session, tp__worker *worker, tp__flight *flight, bool *end) {
    if (TP_UNLIKELY(is_reply(session->pending->packet))) {
        put_reply(session, flight, end);
        return TP_END_NONE;
    }
    size_t plain = measure(session);
    if (plain == 0) {
        complete_frame(session, flight, end);
        return TP_END_NONE;
    }
    return put_record(session, worker, flight, plain, end);
}

tp_end_reason tp__seal_fill(
    tp__session *session, tp__worker *worker, struct tp__flight *flight, bool *end) {
    tp_end_reason failure = TP_END_NONE;
    *end = false;
    while (session->pending && !failure && flight->count < TP__SEAL_RECORDS) {
        failure = put_next(session, worker, flight, end);
    }
    /* CLOSE goes behind what is queued: there are counters left for that. */
    if (TP_UNLIKELY(tp_record_near_end(&tp__player_of(session)->sealing))) {
        tp__session_finish(session, TP_END_KEY_LIMIT, TP_CLOSE_KEY_LIMIT);
    }
    return failure;
}
