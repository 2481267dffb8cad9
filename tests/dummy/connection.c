/*
 * A connection of the dummy: connect, send, receive, leave, close.
 *
 * Runs on the connection's shard only. A shard's port has one worker, so no two completions of a
 * connection run at the same time. A connection's memory lives as long as its shard, which waits
 * until every socket is closed.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "os/clock.h"
#include "wire.h"

phase connection_phase(const connection *c) {
    return (phase)atomic_load_explicit(&c->shard->load->phase, memory_order_acquire);
}

static const mode *mode_of(const connection *c) {
    return c->shard->load->options->mode;
}

static const wire *wire_of(const connection *c) {
    return c->shard->load->options->wire;
}

static bool is_open(const connection *c) {
    return c->state == OPEN || c->state == LEAVING;
}

static void count_connected(connection *c) {
    if (!c->counted) {
        c->counted = true;
        atomic_fetch_add(&c->shard->load->connected, 1);
    }
}

static void arrived(connection *c) {
    if (c->arriving) {
        c->arriving = false;
        c->shard->connecting--;
    }
}

void connection_answered(connection *c) {
    if (!c->answered_once) {
        c->answered_once = true;
        atomic_fetch_add(&c->shard->load->answered_once, 1);
    }
}

/* The connection is closed, or was never established. */
static void count_closed(connection *c, bool reopens) {
    count_connected(c);
    connection_answered(c);
    if (!reopens) {
        atomic_fetch_add(&c->shard->load->over, 1);
    }
}

/* ---- faults ---------------------------------------------------------------------------------- */

#define FAULT_LINES 10 /* in a run; further ones are only counted */

static void print_fault(const char *format, va_list arguments) {
    static atomic_uint lines;
    if (atomic_fetch_add(&lines, 1) < FAULT_LINES) {
        char text[256];
        (void)vsnprintf(text, sizeof text, format, arguments);
        fprintf(stderr, "tp-dummy: %s\n", text);
    }
}

void shard_fault(shard *s, fault what, const char *format, ...) {
    va_list arguments;
    s->counts.faults[what]++;
    va_start(arguments, format);
    print_fault(format, arguments);
    va_end(arguments);
}

void connection_fault(connection *c, fault what, const char *format, ...) {
    va_list arguments;
    c->shard->counts.faults[what]++;
    va_start(arguments, format);
    print_fault(format, arguments);
    va_end(arguments);
    connection_close(c, true);
}

/* ---- close ----------------------------------------------------------------------------------- */

static void close_done(tp_op *op, const tp_completion *completion) {
    connection *c = TP_CONTAINER_OF(op, connection, close);
    (void)completion;
    wire_of(c)->end(c);
    c->state = CLOSED;
    c->shard->live--;
    count_closed(c, mode_of(c)->closed != NULL);
    if (mode_of(c)->closed != NULL) {
        mode_of(c)->closed(c);
    }
}

void connection_close(connection *c, bool reset) {
    if (c->state == CLOSED || c->state == CLOSING) {
        return;
    }
    c->state = CLOSING;
    c->deadline_ns = 0;
    arrived(c);
    tp_socket_close(&c->socket, &c->close, reset);
}

void connection_leave(connection *c) {
    if (c->state == OPEN) {
        c->state = LEAVING;
        c->deadline_ns = c->shard->now_ns + (uint64_t)(c->shard->load->options->patience * 1e9);
        c->raw_size = (uint32_t)tp_frame_write_close(c->raw, TP_CLOSE_NORMAL);
        connection_flush(c);
    }
}

/* ---- out ------------------------------------------------------------------------------------- */

static size_t gather_messages(connection *c, size_t used) {
    uint32_t window = c->shard->load->options->window;
    uint64_t now = tp_clock_ns();
    size_t left = wire_of(c)->batch;
    for (unsigned i = 0; i < SEND_MESSAGES && c->owed > 0 && left > 0; i++, c->owed--) {
        tp_buffer *head = &c->buffers[used];
        tp_buffer *rest = &c->buffers[used + 1];
        head->bytes = c->heads[i];
        head->size = message_write(c, c->sequence, c->heads[i], rest);
        used += rest->size > 0 ? 2 : 1;
        left -= left < head->size + rest->size ? left : head->size + rest->size;
        c->sent_ns[c->sequence % window] = now;
        c->sequence++;
    }
    return used;
}

static void start_send(connection *c, size_t used) {
    c->sending = true;
    tp_err error = tp_socket_send(c->shard->worker, &c->socket, &c->send, c->buffers, used);
    if (error != TP_OK) {
        c->sending = false;
        connection_fault(
            c, FAULT_SYSTEM, "connection %u: send cannot start: %s", c->number, error_name(error));
    }
}

void connection_send_raw(connection *c, const uint8_t *bytes, size_t size) {
    c->buffers[0] = (tp_buffer){.bytes = bytes, .size = size};
    start_send(c, 1);
}

void connection_flush(connection *c) {
    size_t used = 0;
    bool raw = false;
    if (c->sending || !is_open(c)) {
        return;
    }
    if (c->urgent_size > 0) {
        memcpy(c->urgent_sending, c->urgent, c->urgent_size);
        c->buffers[used++] = (tp_buffer){.bytes = c->urgent_sending, .size = c->urgent_size};
        c->urgent_size = 0;
    }
    if (c->owed > 0) {
        used = gather_messages(c, used);
    }
    if (c->owed == 0 && c->raw_size > 0) {
        c->buffers[used++] = (tp_buffer){.bytes = c->raw, .size = c->raw_size};
        c->raw_size = 0; /* the bytes stay: nothing is written there while a send is in progress */
        raw = true;
    }
    if (used > 0) {
        used = wire_of(c)->wrap(c, used, raw);
        if (used > 0) {
            start_send(c, used);
        }
    } else if (c->state == LEAVING && !c->finished) {
        c->finished = true;
        tp_socket_finish(c->shard->worker, &c->socket);
    }
}

static void send_done(tp_op *op, const tp_completion *completion) {
    connection *c = TP_CONTAINER_OF(op, connection, send);
    c->sending = false;
    if (!is_open(c)) {
        return;
    }
    if (completion->error != TP_OK) {
        /* The end of the stream tells the reason: wait for it there. */
        connection_read(c);
        return;
    }
    if (mode_of(c)->sent != NULL) {
        mode_of(c)->sent(c);
    }
    connection_flush(c);
}

/* ---- in -------------------------------------------------------------------------------------- */

static void stream_ended(connection *c, const tp_completion *completion) {
    c->receiving = false;
    if (c->state == CLOSING || c->state == CLOSED) {
        return;
    }
    if (!c->close_seen) {
        c->shard->counts.ends_without_close += c->state == OPEN ? 1 : 0;
    }
    if (c->state == LEAVING) {
        connection_close(c, false);
        return;
    }
    if (c->state == HANDSHAKE && !c->forbidden) {
        connection_fault(c, FAULT_HANDSHAKE, "connection %u: ended before it was welcome: %s",
            c->number, error_name(completion->error));
        return;
    }
    mode_of(c)->ended(c, completion->error);
    connection_close(c, false); /* unless the mode has closed it */
}

static void receive_done(tp_op *op, const tp_completion *completion) {
    connection *c = TP_CONTAINER_OF(op, connection, receive);
    if (completion->last) {
        stream_ended(c, completion);
        return;
    }
    if (!is_open(c) && c->state != HANDSHAKE) {
        return;
    }
    uint64_t before = c->answered;
    c->shard->now_ns = tp_clock_ns();
    if (!wire_of(c)->take(c, completion->bytes, completion->count) || !is_open(c)) {
        return;
    }
    if (mode_of(c)->delivered != NULL) {
        mode_of(c)->delivered(c);
    }
    if (c->answered != before && c->state == OPEN && mode_of(c)->answers != NULL) {
        mode_of(c)->answers(c, c->answered - before);
    }
    connection_flush(c);
}

void connection_read(connection *c) {
    if (!is_open(c) && c->state != HANDSHAKE) {
        return;
    }
    if (c->paused) {
        c->paused = false;
        tp_socket_resume(c->shard->worker, &c->socket);
    }
    if (c->receiving) {
        return;
    }
    c->receiving = true;
    tp_err error = tp_socket_receive(c->shard->worker, &c->socket, &c->receive);
    if (error != TP_OK) {
        c->receiving = false;
        connection_fault(c, FAULT_SYSTEM, "connection %u: receive cannot start: %s", c->number,
            error_name(error));
    }
}

/* ---- connect --------------------------------------------------------------------------------- */

void connection_establish(connection *c) {
    if (c->state != HANDSHAKE) {
        return;
    }
    arrived(c);
    c->state = OPEN;
    c->deadline_ns = 0;
    c->shard->counts.connects++;
    count_connected(c);
    if (connection_phase(c) == STOPPING) {
        connection_close(c, false);
        return;
    }
    mode_of(c)->begin(c);
    connection_flush(c);
}

static void connect_done(tp_op *op, const tp_completion *completion) {
    connection *c = TP_CONTAINER_OF(op, connection, connect);
    if (c->state != OPENING) {
        return;
    }
    if (completion->error != TP_OK) {
        connection_fault(c, FAULT_CONNECT, "connection %u to %s: %s (%d)", c->number,
            c->shard->load->options->address_text, error_name(completion->error),
            completion->os_error);
        return;
    }
    c->state = HANDSHAKE;
    wire_of(c)->connected(c);
}

/* A HELLO that was spoilt on purpose counts as arrived: no welcome is expected. */
void connection_spoil(connection *c) {
    c->forbidden = true;
    arrived(c);
    count_connected(c);
    if (mode_of(c)->spoilt != NULL) {
        mode_of(c)->spoilt(c);
    }
}

static void forget_last_life(connection *c) {
    memset(&c->socket, 0, sizeof c->socket);
    c->receiving = false;
    c->sending = false;
    c->finished = false;
    c->forbidden = false;
    c->no_close = false;
    c->sequence = 0;
    c->owed = 0;
    c->answered = 0;
    c->urgent_size = 0;
    c->raw_size = 0;
    c->header_have = 0;
    c->frame_have = 0;
    c->close_seen = false;
    c->deadline_ns = 0;
    c->due_ns = 0;
    c->choice = 0;
    c->paused = false;
}

void connection_open(connection *c) {
    shard *s = c->shard;
    const tp_socket_options options = {.nodelay = true};
    forget_last_life(c);
    if (!wire_of(c)->begin(c)) {
        count_closed(c, false);
        return;
    }
    c->connect.done = connect_done;
    c->receive.done = receive_done;
    c->send.done = send_done;
    c->close.done = close_done;
    c->life++;
    c->state = OPENING;
    tp_err error =
        tp_socket_connect(s->port, &c->socket, &s->load->options->address, &options, &c->connect);
    if (error != TP_OK) {
        c->state = CLOSED;
        wire_of(c)->end(c);
        count_closed(c, false);
        shard_fault(s, FAULT_CONNECT, "connection %u to %s cannot start: %s (%d)", c->number,
            s->load->options->address_text, error_name(error), tp_os_error());
        return;
    }
    c->arriving = true;
    s->connecting++;
    s->live++;
}
