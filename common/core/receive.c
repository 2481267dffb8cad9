/*
 * From bytes to messages.
 *
 * Runs on whichever worker takes the session's receive delivery; the port never runs two of one
 * socket at a time, so the receive state has no lock. Bytes are lent by the port until the delivery
 * returns: whole frames are copied into packets cut from this thread's chunk, and a frame that
 * comes in pieces is assembled straight in its packet, which exists as soon as its header is known
 * and allowed.
 */
#include <string.h>

#include "core/packet_internal.h"
#include "core/server_internal.h"
#include "core/session.h"
#include "proto/frame.h"

/* Is the content still to hear of this session? Not after its end has begun. */
static bool listening(tp__session *session) {
    return !(tp__life_read(&session->life) & TP__LIFE_ENDING);
}

static void broke_protocol(tp__session *session) {
    tp__session_finish(session, TP_END_PROTOCOL, TP_CLOSE_PROTOCOL);
}

/* The peer says it closes, and why. Nothing follows a CLOSE. */
static void peer_closes(tp__session *session, const uint8_t *payload) {
    uint16_t code = tp_frame_close_reason(payload);
    session->close_code = code;
    tp__session_finish(session, code == TP_CLOSE_NORMAL ? TP_END_PEER_CLOSED : TP_END_REFUSED, -1);
}

static void deliver_data(tp__session *session, tp__worker *worker, tp_packet *packet) {
    tp_server *server = session->server;
    tp__count_own(&session->numbers.received_messages, 1);
    tp__count_own(&worker->counters.received_messages, 1);
    if (server->handlers.on_recv) {
        server->handlers.on_recv(server, session->id, packet);
    }
}

/* A whole frame. Consumes the packet. */
static void deliver(tp__session *session, tp__worker *worker, uint8_t type, tp_packet *packet) {
    switch (type) {
    case TP_FRAME_DATA:
        deliver_data(session, worker, packet);
        break;
    case TP_FRAME_PING:
        tp__session_control(
            session, TP_FRAME_PONG, tp_packet_bytes(packet), tp_packet_size(packet));
        break;
    case TP_FRAME_CLOSE:
        peer_closes(session, tp_packet_bytes(packet));
        break;
    default: /* PONG, PAD: that they came is all they say */
        break;
    }
    tp_packet_release(packet);
}

static void out_of_memory(tp__session *session, tp__worker *worker) {
    TP__COUNT(session->server, worker, no_memory, 1);
    tp__server_report(session->server, worker, TP_ERR_NO_MEMORY, 0, "receive");
    tp__session_close(session, TP_END_NO_MEMORY, 0);
}

/* Takes bytes into the frame that is arriving; returns how many. */
static size_t continue_frame(
    tp__session *session, tp__worker *worker, const uint8_t *bytes, size_t count) {
    tp__receive_state *receive = &session->receive;
    size_t missing = tp_packet_size(receive->partial) - receive->partial_filled;
    size_t taken = count < missing ? count : missing;
    memcpy(tp__packet_payload(receive->partial) + receive->partial_filled, bytes, taken);
    receive->partial_filled += (uint32_t)taken;
    if (taken == missing) {
        tp_packet *packet = receive->partial;
        receive->partial = NULL;
        deliver(session, worker, receive->partial_type, packet);
    }
    return taken;
}

/* A header is there: what of the payload is there too is delivered or begun. Returns the payload
 * bytes taken, or SIZE_MAX if the session ends here. */
static size_t begin_frame(tp__session *session, tp__worker *worker, const uint8_t *header_bytes,
    const uint8_t *bytes, size_t count) {
    tp_frame_header header = tp_frame_read(header_bytes);
    if (!tp_frame_allowed(header, (uint32_t)session->server->options.max_frame)) {
        broke_protocol(session);
        return SIZE_MAX;
    }
    tp_packet *packet = tp__packet_received(header.length);
    if (!packet) {
        out_of_memory(session, worker);
        return SIZE_MAX;
    }
    if (count >= header.length) {
        memcpy(tp__packet_payload(packet), bytes, header.length);
        deliver(session, worker, header.type, packet);
        return header.length;
    }
    memcpy(tp__packet_payload(packet), bytes, count);
    session->receive.partial = packet;
    session->receive.partial_filled = (uint32_t)count;
    session->receive.partial_type = header.type;
    return count;
}

/* Completes a header that comes in pieces; returns the bytes taken. */
static size_t continue_header(tp__receive_state *receive, const uint8_t *bytes, size_t count) {
    size_t missing = TP_FRAME_HEADER - receive->header_filled;
    size_t taken = count < missing ? count : missing;
    memcpy(receive->header + receive->header_filled, bytes, taken);
    receive->header_filled = (uint8_t)(receive->header_filled + taken);
    return taken;
}

static void take_bytes(
    tp__session *session, tp__worker *worker, const uint8_t *bytes, size_t count) {
    tp__receive_state *receive = &session->receive;
    while (count > 0 && listening(session)) {
        size_t taken;
        if (receive->partial) {
            taken = continue_frame(session, worker, bytes, count);
        } else if (receive->header_filled == 0 && count >= TP_FRAME_HEADER) {
            size_t payload = begin_frame(
                session, worker, bytes, bytes + TP_FRAME_HEADER, count - TP_FRAME_HEADER);
            taken = payload == SIZE_MAX ? count : TP_FRAME_HEADER + payload;
        } else {
            taken = continue_header(receive, bytes, count);
            if (receive->header_filled == TP_FRAME_HEADER) {
                receive->header_filled = 0;
                size_t payload =
                    begin_frame(session, worker, receive->header, bytes + taken, count - taken);
                taken = payload == SIZE_MAX ? count : taken + payload;
            }
        }
        bytes += taken;
        count -= taken;
    }
}

/*
 * The peer has said its last byte, but may still listen: it gets what is queued for it. The session
 * is closed by whoever comes second, this or the end of its queue (end_reached in gather.c): each
 * sets its own flag and then looks at the other's, both sequentially consistent, so that at least
 * one sees both.
 */
static void peer_closed(tp__session *session) {
    atomic_store(&session->receive_ended, true);
    /* Once the session is ending nobody takes its bytes any more: then a begun frame says nothing. */
    bool begun = session->receive.partial || session->receive.header_filled > 0;
    if (begun && listening(session)) {
        tp__session_close(session, TP_END_TRUNCATED, 0);
        return;
    }
    tp__session_finish(session, TP_END_PEER_CLOSED, -1);
    if (atomic_load(&session->end_reached)) {
        tp__session_close(session, TP_END_PEER_CLOSED, 0);
    }
}

/* The stream is over: in order, or not. */
static void stream_ended(tp__session *session, tp__worker *worker, tp_err error, int os_error) {
    switch (error) {
    case TP_ERR_CANCELLED: /* closing has begun already */
        break;
    case TP_ERR_CLOSED:
        peer_closed(session);
        break;
    case TP_ERR_RESET:
        tp__session_close(session, TP_END_PEER_RESET, os_error);
        break;
    case TP_ERR_NO_BUFFERS:
        tp__server_report(session->server, worker, error, os_error, "receive");
        tp__session_close(session, TP_END_OS, os_error);
        break;
    default:
        tp__session_close(session, TP_END_OS, os_error);
        break;
    }
}

static void received(tp_op *op, const tp_completion *completion) {
    tp__session *session = TP_CONTAINER_OF(op, tp__session, receive_op);
    tp__worker *worker = tp_worker_context(completion->worker);
    if (completion->count > 0) {
        atomic_store_explicit(&session->heard_ms, worker->now_ms, memory_order_relaxed);
        atomic_store_explicit(&session->pinged, false, memory_order_relaxed);
        tp__count_own(&session->numbers.received_bytes, completion->count);
        tp__count_own(&worker->counters.received_bytes, completion->count);
        take_bytes(session, worker, completion->bytes, completion->count);
    }
    if (completion->last) {
        stream_ended(session, worker, completion->error, completion->os_error);
    }
}

void tp__session_receive(tp__session *session, tp__worker *worker) {
    session->receive_op.done = received;
    tp_err error = tp_socket_receive(worker->seat, &session->socket, &session->receive_op);
    if (error) {
        tp__session_close(session, TP_END_OS, tp_os_error());
    }
}
