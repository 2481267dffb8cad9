/*
 * The functions of port.h: finds the back end by name, checks the arguments once for all back ends,
 * and calls through the back end's table.
 *
 * Runs on the caller's thread. Owns only the list of back end names, which is written once, before
 * it is first read.
 *
 * The choice at run time costs one indirect call per operation. The functions called for each
 * message (wait, dispatch, receive, send) find the table in the worker, whose first cache line is
 * loaded anyway.
 */
#include <assert.h>
#include <string.h>

#include "os/compiler.h"
#include "os/error.h"
#include "os/port_backend.h"
#include "os/thread.h"

#define MAX_BACKENDS 8

enum {
    DEFAULT_RECEIVE_BUFFER = 65536,
    MIN_RECEIVE_BUFFER = 4096,
    MAX_RECEIVE_BUFFER = 1048576,
};

static const char *backend_names[MAX_BACKENDS + 1];
static tp_once backend_names_once;

static void fill_backend_names(void) {
    for (size_t i = 0; i < MAX_BACKENDS && tp__port_backend_list[i] != NULL; i++) {
        backend_names[i] = tp__port_backend_list[i]->name;
    }
}

const char *const *tp_port_backends(void) {
    tp_once_run(&backend_names_once, fill_backend_names);
    return backend_names;
}

/* An error that does not come from the system: tp_os_error() is 0. */
static tp_err port_refuse(tp_err error) {
    (void)tp_os_fail(0);
    return error;
}

/* Checks `given` and copies it, with each default replaced by its value. */
static tp_err complete_options(const tp_port_options *given, tp_port_options *complete) {
    if (given == NULL || given->size != sizeof(tp_port_options)) {
        return port_refuse(TP_ERR_INVALID);
    }
    *complete = *given;
    if (complete->backend == NULL) {
        complete->backend = "auto";
    }
    if (complete->workers < 1 || complete->workers > TP_PORT_MAX_WORKERS) {
        return port_refuse(TP_ERR_INVALID);
    }
    if (complete->running == 0) {
        complete->running = complete->workers;
    }
    if (complete->receive_buffer == 0) {
        complete->receive_buffer = DEFAULT_RECEIVE_BUFFER;
    }
    if (complete->receive_buffer < MIN_RECEIVE_BUFFER ||
        complete->receive_buffer > MAX_RECEIVE_BUFFER) {
        return port_refuse(TP_ERR_INVALID);
    }
    return TP_OK;
}

tp_err tp_port_create(const tp_port_options *options, tp_port **port) {
    tp_port_options complete;
    *port = NULL;
    tp_err error = complete_options(options, &complete);
    if (error == TP_OK) {
        error = tp__port_platform_start();
    }
    if (error != TP_OK) {
        return error;
    }
    bool any = strcmp(complete.backend, "auto") == 0;
    for (size_t i = 0; tp__port_backend_list[i] != NULL; i++) {
        const tp__port_backend *backend = tp__port_backend_list[i];
        if (!any && strcmp(complete.backend, backend->name) != 0) {
            continue;
        }
        error = backend->create(&complete, port);
        if (error != TP_ERR_UNSUPPORTED) {
            return error;
        }
    }
    return port_refuse(TP_ERR_UNSUPPORTED);
}

const char *tp_port_backend(const tp_port *port) {
    return port->backend->name;
}

void tp_port_destroy(tp_port *port) {
    if (port != NULL) {
        port->backend->destroy(port);
    }
}

tp_worker *tp_port_worker(tp_port *port, unsigned index) {
    assert(index < port->workers);
    return port->backend->worker(port, index);
}

void tp_worker_set_context(tp_worker *worker, void *context) {
    worker->context = context;
}

void *tp_worker_context(const tp_worker *worker) {
    return worker->context;
}

tp_err tp_port_wait(tp_worker *worker, int timeout_ms) {
    return worker->backend->wait(worker, timeout_ms);
}

size_t tp_port_dispatch(tp_worker *worker) {
    return worker->backend->dispatch(worker);
}

tp_err tp_port_post(tp_port *port, tp_socket *socket, tp_op *op) {
    assert(op->done != NULL);
    return port->backend->post(port, socket, op);
}

void tp_port_wake(tp_port *port) {
    port->backend->wake(port);
}

/* ---- sockets --------------------------------------------------------------------------------- */

/* The table of an attached socket, whose owner begins with a pointer to it. */
static const tp__port_backend *backend_of(const tp_socket *socket) {
    const tp__port_backend *const *owner = tp__socket_owner(socket);
    assert(owner != NULL);
    return *owner;
}

bool tp_port_binds(const tp_port *port) {
    return port->backend->binds;
}

bool tp_port_serves(const tp_worker *worker, const tp_socket *socket) {
    return worker->backend->serves(worker, socket);
}

tp_err tp_socket_listen(tp_port *port, tp_socket *socket, const tp_address *address,
    unsigned backlog, tp_address *bound) {
    return port->backend->listen(port, socket, address, backlog, bound);
}

tp_err tp_socket_attach(
    tp_port *port, tp_socket *socket, tp_handle handle, const tp_socket_options *options) {
    return port->backend->attach(port, socket, handle, options);
}

tp_err tp_socket_connect(tp_port *port, tp_socket *socket, const tp_address *address,
    const tp_socket_options *options, tp_op *op) {
    assert(op->done != NULL);
    return port->backend->connect(port, socket, address, options, op);
}

tp_err tp_socket_accept(tp_socket *listener, tp_op *op) {
    assert(op->done != NULL);
    return backend_of(listener)->accept(listener, op);
}

tp_err tp_socket_receive(tp_worker *worker, tp_socket *socket, tp_op *op) {
    assert(op->done != NULL);
    return worker->backend->receive(worker, socket, op);
}

void tp_socket_pause(tp_worker *worker, tp_socket *socket) {
    worker->backend->pause(worker, socket);
}

void tp_socket_resume(tp_worker *worker, tp_socket *socket) {
    worker->backend->resume(worker, socket);
}

tp_err tp_socket_send(
    tp_worker *worker, tp_socket *socket, tp_op *op, const tp_buffer *buffers, size_t count) {
    assert(op->done != NULL);
    if (TP_UNLIKELY(count < 1 || count > TP_PORT_MAX_BUFFERS)) {
        return port_refuse(TP_ERR_INVALID);
    }
    return worker->backend->send(worker, socket, op, buffers, count);
}

tp_err tp_socket_send_now(
    tp_worker *worker, tp_socket *socket, const tp_buffer *buffers, size_t count, size_t *sent) {
    *sent = 0;
    if (count < 1 || count > TP_PORT_MAX_BUFFERS) {
        return port_refuse(TP_ERR_INVALID);
    }
    return worker->backend->send_now(worker, socket, buffers, count, sent);
}

bool tp_socket_send_take_back(tp_worker *worker, tp_socket *socket, tp_op *op, size_t *sent) {
    return worker->backend->send_take_back(worker, socket, op, sent);
}

bool tp_socket_send_waits(const tp_worker *worker, const tp_socket *socket) {
    return worker->backend->send_waits != NULL && worker->backend->send_waits(worker, socket);
}

void tp_socket_finish(tp_worker *worker, tp_socket *socket) {
    worker->backend->finish(worker, socket);
}

void tp_socket_close(tp_socket *socket, tp_op *op, bool reset) {
    assert(op->done != NULL);
    backend_of(socket)->close(socket, op, reset);
}
