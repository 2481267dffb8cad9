/*
 * Connecting. Started on any thread, completed on the worker that is to serve the socket.
 *
 * connect() is called before the descriptor is registered, because registering an unconnected one
 * would at once report a hang-up. Whether connect() is in progress, has succeeded or has failed at
 * once, the registration then reports an event by itself as soon as there is a result, so all three
 * cases take the same path.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "os/error.h"
#include "os/linux/epoll_port.h"
#include "os/posix/handle.h"

/* The error of a connect, as port.h allows it. */
static tp_err connect_error(int os_error) {
    tp_err error = tp_os_translate(os_error);
    switch (error) {
    case TP_OK:
    case TP_ERR_REFUSED:
    case TP_ERR_UNREACHABLE:
    case TP_ERR_TIMED_OUT:
        return error;
    default:
        return TP_ERR_OS;
    }
}

/*
 * True if TCP has connected the socket to itself. A connect to a free port of this machine may get
 * that very port as its local port. A client that tries again to reach a server which is down would
 * then be its own peer, and occupy the server's port. As nothing listens there, it is a refusal.
 */
static bool is_connected_to_itself(int descriptor) {
    tp__sockaddr system;
    socklen_t size = sizeof system;
    tp_address local, peer;
    if (tp__handle_local_address(descriptor, &local) != TP_OK ||
        getpeername(descriptor, &system.any, &size) != 0) {
        return false;
    }
    tp__sockaddr_to_address(&system, &peer);
    return local.port == peer.port && memcmp(local.ip, peer.ip, sizeof local.ip) == 0;
}

void tp__epoll_connect_done(epoll_worker *worker, epoll_socket *socket) {
    epoll_op *op = socket->output;
    int os_error = op->os_error; /* the result of connect() itself */
    if (os_error == 0) {
        socklen_t size = sizeof os_error;
        if (getsockopt(socket->descriptor, SOL_SOCKET, SO_ERROR, &os_error, &size) != 0) {
            os_error = errno;
        }
    }
    if (os_error == 0 && is_connected_to_itself(socket->descriptor)) {
        os_error = ECONNREFUSED;
    }
    socket->kind = SOCKET_STREAM;
    socket->output = NULL;
    socket->broken = os_error;
    op->os_error = os_error;
    op->error = (uint8_t)connect_error(os_error);
    epoll_list_push(&worker->ready, op);
}

tp_err tp__epoll_connect(tp_port *port, tp_socket *socket, const tp_address *address,
    const tp_socket_options *options, tp_op *connect_op) {
    epoll_op *op = (epoll_op *)connect_op;
    int descriptor;
    tp_err error = tp__handle_open(address, &descriptor);
    if (error != TP_OK) {
        return error;
    }
    error = tp__handle_set_options(descriptor, options);
    if (error == TP_OK) {
        tp__sockaddr system;
        socklen_t size = tp__sockaddr_from_address(address, &system);
        int result = connect(descriptor, &system.any, size);
        /* After EINTR the connect continues in the kernel, as with EINPROGRESS. */
        op->os_error = result == 0 || errno == EINPROGRESS || errno == EINTR ? 0 : errno;
        op->socket = (epoll_socket *)socket;
        op->sent = 0;
        op->error = TP_OK;
        op->kind = OP_RESULT;
        error = tp__epoll_register(tp__epoll_assign_worker(epoll_port_of(port)),
            (epoll_socket *)socket, descriptor, SOCKET_CONNECTING, op);
    }
    if (error != TP_OK) {
        tp__handle_close(descriptor, false);
    }
    return error;
}
