/*
 * From received bytes to messages.
 *
 * Runs on the worker that has the session's receive delivery. The bytes are lent until the call
 * returns. A whole frame is copied into a packet that is cut from this thread's chunk. A frame that
 * comes in pieces is assembled in its own packet, which is allocated as soon as its header is known
 * and allowed. It may wait long for the rest, so it has memory of its own.
 */
#include <string.h>

#include "core/base/invariant.h"
#include "core/engine/server_state.h"
#include "core/engine/session_state.h"
#include "core/packet/packet_internal.h"
#include "proto/frame.h"

static void frame_reject(tp__session *session) {
    tp__session_turn_away(session, TP_END_PROTOCOL, TP_CLOSE_PROTOCOL);
}

/* The peer closes, and gives a reason. Nothing follows a CLOSE. */
static void frame_take_close(tp__session *session, const uint8_t *payload) {
    uint16_t code = tp_frame_close_reason(payload);
    session->receive.close_code = code;
    tp__session_finish(session, code == TP_CLOSE_NORMAL ? TP_END_PEER_CLOSED : TP_END_REFUSED, -1);
}

static void frame_deliver_data(tp__session *session, tp__worker *worker, tp_packet *packet) {
    tp_server *server = session->server;
    tp__count_own(&session->numbers.received_messages, 1);
    tp__count_own(&worker->counters.received_messages, 1);
    if (server->handlers.on_recv) {
        server->handlers.on_recv(server, tp__session_id(session), packet);
    }
}

TP_NOINLINE static void frame_take_control(tp__session *session, uint8_t type, tp_packet *packet) {
    switch (type) {
    case TP_FRAME_PING:
        tp__session_control(
            session, TP_FRAME_PONG, tp_packet_bytes(packet), tp_packet_size(packet));
        break;
    case TP_FRAME_CLOSE:
        frame_take_close(session, tp_packet_bytes(packet));
        break;
    default: /* PONG, PAD: their arrival is all that counts */
        break;
    }
}

/* Delivers a whole frame. Consumes the packet. */
static inline void frame_deliver(
    tp__session *session, tp__worker *worker, uint8_t type, tp_packet *packet) {
    const tp__layer *layer = &session->server->layer;
    if (TP_LIKELY(layer->permit == NULL) || layer->permit(worker->delivery)) {
        if (TP_LIKELY(type == TP_FRAME_DATA)) {
            frame_deliver_data(session, worker, packet);
        } else {
            frame_take_control(session, type, packet);
        }
    }
    tp_packet_release(packet);
}

void tp__session_out_of_memory(tp__session *session, tp__worker *worker) {
    TP__COUNT(session->server, worker, no_memory, 1);
    tp__server_error(session->server, worker, TP_ERR_NO_MEMORY, 0, "receive");
    tp__session_close(session, TP_END_NO_MEMORY, 0);
}

/* Copies bytes into the frame that is arriving; returns how many. */
TP_NOINLINE static size_t frame_continue(
    tp__session *session, tp__worker *worker, const uint8_t *bytes, size_t count) {
    tp__receive_state *receive = &session->receive;
    assert(receive->partial && receive->partial_filled < tp_packet_size(receive->partial));
    size_t missing = tp_packet_size(receive->partial) - receive->partial_filled;
    size_t taken = count < missing ? count : missing;
    memcpy(tp__packet_payload(receive->partial) + receive->partial_filled, bytes, taken);
    receive->partial_filled += (uint32_t)taken;
    if (taken == missing) {
        tp_packet *packet = receive->partial;
        uint8_t type = receive->partial_type;
        receive->partial = NULL;
        receive->header_filled = 0;
        frame_deliver(session, worker, type, packet);
    }
    return taken;
}

/* Begins a frame of which the header and only a part of the payload have arrived. Returns the
 * payload bytes taken, or SIZE_MAX if the session ends here. */
TP_NOINLINE static size_t frame_begin_partial(tp__session *session, tp__worker *worker,
    tp_frame_header header, const uint8_t *bytes, size_t count) {
    assert(!session->receive.partial && count < header.length);
    tp_packet *packet = tp__packet_kept(header.length);
    if (!packet) {
        tp__session_out_of_memory(session, worker);
        return SIZE_MAX;
    }
    memcpy(tp__packet_payload(packet), bytes, count);
    session->receive.partial = packet;
    session->receive.partial_filled = (uint32_t)count;
    session->receive.partial_type = header.type;
    return count;
}

/* A header has arrived: delivers the frame, or begins it with the part of the payload that is
 * present. Returns the payload bytes taken, or SIZE_MAX if the session ends here. */
static inline size_t frame_begin(tp__session *session, tp__worker *worker,
    const uint8_t *header_bytes, const uint8_t *bytes, size_t count) {
    tp_frame_header header = tp_frame_read(header_bytes);
    if (TP_UNLIKELY(!tp_frame_allowed(header, (uint32_t)session->server->options.max_frame))) {
        frame_reject(session);
        return SIZE_MAX;
    }
    if (TP_UNLIKELY(count < header.length)) {
        return frame_begin_partial(session, worker, header, bytes, count);
    }
    tp_packet *packet = tp__packet_received(header.length);
    if (TP_UNLIKELY(!packet)) {
        tp__session_out_of_memory(session, worker);
        return SIZE_MAX;
    }
    memcpy(tp__packet_payload(packet), bytes, header.length);
    frame_deliver(session, worker, header.type, packet);
    return header.length;
}

/* Copies bytes into a header that comes in pieces; returns how many were taken. *whole: it is
 * complete, and the next bytes begin another one. */
static size_t header_collect(
    tp__receive_state *receive, const uint8_t *bytes, size_t count, bool *whole) {
    assert(!receive->partial && receive->header_filled < TP_FRAME_HEADER);
    size_t missing = TP_FRAME_HEADER - receive->header_filled;
    size_t taken = count < missing ? count : missing;
    memcpy(receive->header + receive->header_filled, bytes, taken);
    *whole = taken == missing;
    receive->header_filled = *whole ? 0 : (uint8_t)(receive->header_filled + taken);
    return taken;
}

/* The same, and begins the frame when its header is complete. */
TP_NOINLINE static size_t frame_continue_header(
    tp__session *session, tp__worker *worker, const uint8_t *bytes, size_t count) {
    tp__receive_state *receive = &session->receive;
    bool whole = false;
    size_t taken = header_collect(receive, bytes, count, &whole);
    if (!whole) {
        return taken;
    }
    size_t payload = frame_begin(session, worker, receive->header, bytes + taken, count - taken);
    return payload == SIZE_MAX ? count : taken + payload;
}

void tp__session_take_frames(
    tp__session *session, tp__worker *worker, const uint8_t *bytes, size_t count) {
    const tp__receive_state *receive = &session->receive;
    TP_ASSERT_WORKER(session);
    while (count > 0 && tp__session_takes_input(session)) {
        size_t taken;
        if (TP_UNLIKELY(receive->partial != NULL)) {
            taken = frame_continue(session, worker, bytes, count);
        } else if (TP_LIKELY(receive->header_filled == 0 && count >= TP_FRAME_HEADER)) {
            size_t payload = frame_begin(
                session, worker, bytes, bytes + TP_FRAME_HEADER, count - TP_FRAME_HEADER);
            taken = payload == SIZE_MAX ? count : TP_FRAME_HEADER + payload;
        } else {
            taken = frame_continue_header(session, worker, bytes, count);
        }
        assert(taken > 0 && taken <= count);
        bytes += taken;
        count -= taken;
    }
    TP__VERIFY(tp__receive_check(session));
}

/* ---- for a layer ----------------------------------------------------------------------------- */

void tp__layer_take_frames(
    tp__session *session, tp__worker *worker, void *delivery, const uint8_t *bytes, size_t count) {
    worker->delivery = delivery;
    tp__session_take_frames(session, worker, bytes, count);
    worker->delivery = NULL;
}

size_t tp__layer_take_header(tp__session *session, const uint8_t *bytes, size_t count, bool *whole,
    tp_frame_header *header) {
    TP_ASSERT_WORKER(session);
    size_t taken = header_collect(&session->receive, bytes, count, whole);
    if (*whole) {
        *header = tp_frame_read(session->receive.header);
    }
    return taken;
}
