/*
 * The listener: from the port's accepts to sessions.
 *
 * Opened by start; closed by the sweep when a stop begins, but not before start has finished with
 * it (`open`). Accepts are delivered on workers, several at once, so a worker that is blocked in a
 * handler here delays no other connection. Nothing here belongs to one worker: counters are rows of
 * the workers, a slot is taken by one thread, and the access list and the layer may be asked by any
 * number of threads.
 *
 * A connection that is turned away here is reset. Nothing has been sent to it that could be lost;
 * and the side that ends a connection first keeps it in TIME_WAIT, so a flood would fill the table.
 */
#include "core/engine/server_state.h"
#include "core/log/refusal.h"

static void listener_dismiss(tp_server *server, const tp_address *peer) {
    if (server->layer.dismiss) {
        server->layer.dismiss(server->layer.context, peer);
    }
}

static bool listener_admits(tp_server *server, const tp_address *peer) {
    const tp__layer *layer = &server->layer;
    if (!tp_access_admits(&server->options.access, peer)) {
        TP__REFUSED(TP_LOG_INFO, server->name, peer, "its address is denied or not allowed");
        return false;
    }
    if (layer->admit && !layer->admit(layer->context, peer)) {
        return false; /* the layer has logged it */
    }
    if (server->handlers.on_connection_request &&
        !server->handlers.on_connection_request(server, peer)) {
        TP__REFUSED(TP_LOG_INFO, server->name, peer, "rejected by on_connection_request");
        listener_dismiss(server, peer);
        return false;
    }
    return true;
}

tp_socket_options tp__server_socket_options(const tp_server *server) {
    const tp_socket_options options = {
        .nodelay = server->options.nodelay,
        .send_buffer_zero = server->options.send_buffer_zero,
    };
    return options;
}

static void listener_take(tp_server *server, tp__worker *worker, const tp_completion *completion) {
    const tp_address *peer = &completion->address;
    if (!listener_admits(server, peer)) {
        TP__COUNT(server, worker, denied, 1);
        tp_handle_close(completion->handle, true);
        return;
    }
    tp__session *session = tp__session_open(server, peer, false);
    if (!session) {
        TP__COUNT(server, worker, full, 1);
        TP__REFUSED(TP_LOG_INFO, server->name, peer, "full: no slot left to send CLOSE");
        listener_dismiss(server, peer);
        tp_handle_close(completion->handle, true);
        return;
    }
    const tp_socket_options options = tp__server_socket_options(server);
    tp_err error = tp_socket_attach(server->port, &session->socket, completion->handle, &options);
    if (error) {
        tp__server_error(server, worker, error, tp_os_error(), "attach");
        tp_handle_close(completion->handle, true);
        tp__session_abandon(session);
        return;
    }
    tp__session_start(session, worker);
}

static void listener_accepted(tp_op *op, const tp_completion *completion) {
    tp__listener *listener = TP_CONTAINER_OF(op, tp__listener, accept_op);
    tp_server *server = TP_CONTAINER_OF(listener, tp_server, listener);
    tp__worker *worker = tp_worker_context(completion->worker);
    if (completion->error == TP_OK) {
        assert(completion->handle != TP_NO_HANDLE);
        TP__COUNT(server, worker, accepted, 1);
        if (tp__server_enter_port(server)) {
            listener_take(server, worker, completion);
            tp__server_leave_port(server);
        } else {
            tp_handle_close(completion->handle, true); /* the server is stopping */
        }
    } else if (completion->error != TP_ERR_CANCELLED) {
        TP__COUNT(server, worker, accept_failures, 1);
        if (completion->error != TP_ERR_RESET) { /* closed by the peer before it was accepted */
            tp__server_error(server, worker, completion->error, completion->os_error, "accept");
        }
    }
}

static void listener_closed(tp_op *op, const tp_completion *completion) {
    tp__listener *listener = TP_CONTAINER_OF(op, tp__listener, close_op);
    (void)completion;
    assert(atomic_load(&listener->attached) && !atomic_load(&listener->open));
    atomic_store(&listener->attached, false);
}

void tp__listener_close(tp_server *server) {
    tp__listener *listener = &server->listener;
    if (atomic_load(&listener->open)) {
        atomic_store(&listener->open, false);
        listener->close_op.done = listener_closed;
        tp_socket_close(&listener->socket, &listener->close_op, false);
    }
}

tp_err tp__listener_open(tp_server *server) {
    tp__listener *listener = &server->listener;
    if (!server->options.listen) {
        return TP_OK;
    }
    assert(!atomic_load(&listener->attached) && !atomic_load(&listener->open));
    tp_address bound;
    tp_err error = tp_socket_listen(
        server->port, &listener->socket, &server->options.address, server->options.backlog, &bound);
    if (error) {
        return error;
    }
    tp_mutex_lock(&server->mutex);
    listener->bound = bound;
    tp_mutex_unlock(&server->mutex);
    atomic_store(&listener->attached, true);
    return TP_OK;
}

tp_err tp__listener_accept(tp_server *server, bool called_off) {
    tp__listener *listener = &server->listener;
    if (!atomic_load(&listener->attached)) {
        return TP_OK; /* it does not listen */
    }
    assert(!atomic_load(&listener->open));
    tp_err error = TP_OK;
    if (!called_off) {
        listener->accept_op.done = listener_accepted;
        error = tp_socket_accept(&listener->socket, &listener->accept_op);
    }
    atomic_store(&listener->open, true);
    return error;
}
