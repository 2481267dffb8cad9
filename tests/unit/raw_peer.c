/*
 * The raw peer of raw_peer.h. The calling thread is the only worker of the peer's port and
 * dispatches completions until the condition that it waits for holds.
 */
#include "raw_peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/clock.h"
#include "os/compiler.h"
#include "proto/frame.h"

struct raw_peer {
    tp_port *port;
    tp_worker *port_worker;
    tp_socket socket;
    tp_op connect_op;
    tp_op receive_op;
    tp_op send_op;
    tp_op close_op;
    bool connected, connect_done;
    bool sending;
    tp_err send_error;
    bool receiving;
    bool ended;
    tp_err end;
    bool closed;
    uint8_t *received; /* received[from..to-1] is not yet read */
    size_t from, to, capacity;
};

uint64_t raw_deadline(void) {
    const char *factor = getenv("TWINPORT_TIME_FACTOR");
    unsigned long times = factor ? strtoul(factor, NULL, 10) : 1;
    return tp_clock_ms() + RAW_PATIENCE_MS * (times ? times : 1);
}

static void dispatch(raw_peer *peer) {
    if (tp_port_wait(peer->port_worker, 50) == TP_OK) {
        tp_port_dispatch(peer->port_worker);
    }
}

/* Dispatches until *flag has this value. False: the deadline has passed. */
static bool dispatch_until(raw_peer *peer, const bool *flag, bool value, uint64_t deadline) {
    while (*flag != value && tp_clock_ms() < deadline) {
        dispatch(peer);
    }
    return *flag == value;
}

static void on_connected(tp_op *op, const tp_completion *completion) {
    raw_peer *peer = TP_CONTAINER_OF(op, raw_peer, connect_op);
    peer->connected = completion->error == TP_OK;
    peer->connect_done = true;
}

static void on_sent(tp_op *op, const tp_completion *completion) {
    raw_peer *peer = TP_CONTAINER_OF(op, raw_peer, send_op);
    peer->send_error = completion->error;
    peer->sending = false;
}

static void on_closed(tp_op *op, const tp_completion *completion) {
    raw_peer *peer = TP_CONTAINER_OF(op, raw_peer, close_op);
    (void)completion;
    peer->closed = true;
}

static void keep_received(raw_peer *peer, const uint8_t *bytes, size_t count) {
    if (peer->to + count > peer->capacity) {
        peer->capacity = (peer->to + count) * 2;
        peer->received = realloc(peer->received, peer->capacity);
        if (!peer->received) {
            abort();
        }
    }
    memcpy(peer->received + peer->to, bytes, count);
    peer->to += count;
}

static void on_received(tp_op *op, const tp_completion *completion) {
    raw_peer *peer = TP_CONTAINER_OF(op, raw_peer, receive_op);
    if (completion->count > 0) {
        keep_received(peer, completion->bytes, completion->count);
    }
    if (completion->last) {
        peer->ended = true;
        peer->end = completion->error;
    }
}

raw_peer *raw_connect(const tp_address *address) {
    raw_peer *peer = calloc(1, sizeof *peer);
    const tp_port_options options = {.size = sizeof options, .workers = 1};
    if (!peer || tp_port_create(&options, &peer->port) != TP_OK) {
        abort();
    }
    peer->port_worker = tp_port_worker(peer->port, 0);
    peer->connect_op.done = on_connected;
    const tp_socket_options socket_options = {.nodelay = true};
    tp_err error =
        tp_socket_connect(peer->port, &peer->socket, address, &socket_options, &peer->connect_op);
    if (error) {
        tp_port_destroy(peer->port);
        free(peer);
        return NULL;
    }
    dispatch_until(peer, &peer->connect_done, true, raw_deadline());
    if (!peer->connected) {
        raw_close(peer, false);
        return NULL;
    }
    return peer;
}

bool raw_send_for(raw_peer *peer, const void *bytes, size_t count, unsigned ms) {
    if (count == 0) {
        return true;
    }
    const tp_buffer buffer = {bytes, count};
    peer->send_op.done = on_sent;
    peer->sending = true;
    tp_err error = tp_socket_send(peer->port_worker, &peer->socket, &peer->send_op, &buffer, 1);
    if (error) {
        peer->sending = false;
        return false;
    }
    return dispatch_until(peer, &peer->sending, false, tp_clock_ms() + ms) &&
           peer->send_error == TP_OK;
}

bool raw_send(raw_peer *peer, const void *bytes, size_t count) {
    return raw_send_for(peer, bytes, count, (unsigned)(raw_deadline() - tp_clock_ms()));
}

bool raw_send_frame(raw_peer *peer, unsigned type, const void *payload, size_t size) {
    uint8_t *frame = malloc(TP_FRAME_HEADER + size);
    if (!frame) {
        abort();
    }
    tp_frame_write(frame, (tp_frame_type)type, (uint32_t)size);
    if (size > 0) {
        memcpy(frame + TP_FRAME_HEADER, payload, size);
    }
    bool sent = raw_send(peer, frame, TP_FRAME_HEADER + size);
    free(frame);
    return sent;
}

static void start_receiving(raw_peer *peer) {
    if (!peer->receiving) {
        peer->receiving = true;
        peer->receive_op.done = on_received;
        tp_err error = tp_socket_receive(peer->port_worker, &peer->socket, &peer->receive_op);
        if (error) {
            peer->ended = true;
            peer->end = error;
        }
    }
}

static bool has_received(raw_peer *peer, size_t count) {
    start_receiving(peer);
    uint64_t deadline = raw_deadline();
    while (peer->to - peer->from < count && !peer->ended && tp_clock_ms() < deadline) {
        dispatch(peer);
    }
    return peer->to - peer->from >= count;
}

bool raw_receive(raw_peer *peer, void *bytes, size_t count) {
    if (!has_received(peer, count)) {
        return false;
    }
    if (count > 0) {
        memcpy(bytes, peer->received + peer->from, count);
    }
    peer->from += count;
    if (peer->from == peer->to) {
        peer->from = peer->to = 0;
    }
    return true;
}

long raw_receive_frame(raw_peer *peer, unsigned *type, void *payload, size_t size) {
    uint8_t bytes[TP_FRAME_HEADER];
    if (!raw_receive(peer, bytes, sizeof bytes)) {
        return -1;
    }
    tp_frame_header header = tp_frame_read(bytes);
    *type = header.type;
    if (header.length > size || !raw_receive(peer, payload, header.length)) {
        printf(
            "received a frame of %u bytes, for a buffer of %zu\n", (unsigned)header.length, size);
        return -1;
    }
    return (long)header.length;
}

tp_err raw_end(raw_peer *peer) {
    start_receiving(peer);
    uint64_t deadline = raw_deadline();
    while (!peer->ended && tp_clock_ms() < deadline) {
        peer->from = peer->to = 0;
        dispatch(peer);
    }
    return peer->ended ? peer->end : TP_ERR_TIMED_OUT;
}

void raw_finish(raw_peer *peer) {
    tp_socket_finish(peer->port_worker, &peer->socket);
}

void raw_close(raw_peer *peer, bool reset) {
    peer->close_op.done = on_closed;
    tp_socket_close(&peer->socket, &peer->close_op, reset);
    if (!dispatch_until(peer, &peer->closed, true, raw_deadline())) {
        printf("the close of a raw peer did not complete\n");
        abort();
    }
    tp_port_destroy(peer->port);
    free(peer->received);
    free(peer);
}
