/*
 * The port that fails on request (faulty_port.h). Its functions run on the thread that calls the
 * port.
 */
#undef tp_port_create
#include "faulty_port.h"

#include <string.h>

#include "os/error.h"
#include "os/port_backend.h"

#define SYSTEM_CODE 5 /* tp_os_error() after a failure made here */

tp_err faulty_port_create(const tp_port_options *options, tp_port **port);

faulty_port faulty;
static const tp__port_backend *real;
static tp__port_backend table;

static struct {
    tp_port *port;
    tp_socket *socket;
    tp_address address;
    tp_socket_options options;
    tp_op *op;
} held_connect;

static bool fails(atomic_uint *left) {
    unsigned now = atomic_load(left);
    while (now > 0) {
        if (atomic_compare_exchange_weak(left, &now, now - 1)) {
            (void)tp_os_fail(SYSTEM_CODE);
            return true;
        }
    }
    return false;
}

static tp_err faulty_wait(tp_worker *worker, int timeout_ms) {
    atomic_fetch_add(&faulty.waits_seen, 1);
    return fails(&faulty.waits) ? TP_ERR_OS : real->wait(worker, timeout_ms);
}

static tp_err faulty_post(tp_port *port, tp_socket *socket, tp_op *op) {
    atomic_fetch_add(&faulty.posts_seen, 1);
    return fails(&faulty.posts) ? TP_ERR_OS : real->post(port, socket, op);
}

static tp_err faulty_attach(
    tp_port *port, tp_socket *socket, tp_handle handle, const tp_socket_options *options) {
    return fails(&faulty.attaches) ? TP_ERR_NO_BUFFERS
                                   : real->attach(port, socket, handle, options);
}

static tp_err faulty_connect(tp_port *port, tp_socket *socket, const tp_address *address,
    const tp_socket_options *options, tp_op *op) {
    if (fails(&faulty.connects)) {
        return TP_ERR_NO_DESCRIPTORS;
    }
    if (atomic_load(&faulty.hold_connect)) {
        held_connect.port = port;
        held_connect.socket = socket;
        held_connect.address = *address;
        held_connect.options = *options;
        held_connect.op = op;
        atomic_store(&faulty.held, true);
        return TP_OK;
    }
    return real->connect(port, socket, address, options, op);
}

tp_err faulty_port_connect_now(void) {
    atomic_store(&faulty.held, false);
    return real->connect(held_connect.port, held_connect.socket, &held_connect.address,
        &held_connect.options, held_connect.op);
}

static tp_err faulty_accept(tp_socket *listener, tp_op *op) {
    if (faulty.on_accept) {
        faulty.on_accept();
    }
    return fails(&faulty.accepts) ? TP_ERR_OS : real->accept(listener, op);
}

static tp_err faulty_receive(tp_worker *worker, tp_socket *socket, tp_op *op) {
    return fails(&faulty.receives) ? TP_ERR_OS : real->receive(worker, socket, op);
}

static tp_err faulty_send(
    tp_worker *worker, tp_socket *socket, tp_op *op, const tp_buffer *buffers, size_t count) {
    return fails(&faulty.sends) ? TP_ERR_OS : real->send(worker, socket, op, buffers, count);
}

static void faulty_close(tp_socket *socket, tp_op *op, bool reset) {
    atomic_fetch_add(&faulty.closes_seen, 1);
    if (faulty.on_close) {
        faulty.on_close();
    }
    real->close(socket, op, reset);
}

tp_err faulty_port_create(const tp_port_options *options, tp_port **port) {
    bool watched = atomic_exchange(&faulty.watched, false);
    if (watched && faulty.on_create) {
        faulty.on_create();
    }
    tp_err error = tp_port_create(options, port);
    if (error || !watched) {
        return error;
    }
    real = (*port)->backend;
    table = *real;
    table.wait = faulty_wait;
    table.post = faulty_post;
    table.attach = faulty_attach;
    table.connect = faulty_connect;
    table.accept = faulty_accept;
    table.receive = faulty_receive;
    table.send = faulty_send;
    table.close = faulty_close;
    (*port)->backend = &table;
    for (unsigned i = 0; i < options->workers; i++) {
        real->worker(*port, i)->backend = &table;
    }
    return TP_OK;
}

void faulty_port_reset(void) {
    memset(&faulty, 0, sizeof faulty);
    atomic_store(&faulty.watched, true);
}
