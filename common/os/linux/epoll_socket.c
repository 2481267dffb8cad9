/*
 * A connection's life at the epoll back end: attached to a worker, finished. Its end is in
 * epoll_close.c. Listeners are registered and closed in epoll_listen.c.
 *
 * Attaching runs on any thread: the socket is filled before it is registered, and the kernel orders
 * the registration before the first event that carries the socket's pointer. From then on only the
 * worker's thread touches the socket, except for `closing`.
 */
#include <assert.h>
#include <errno.h>

#include "os/error.h"
#include "os/linux/epoll_port.h"
#include "os/posix/handle.h"

void tp__epoll_fill(epoll_worker *worker, epoll_socket *socket, int descriptor,
    epoll_socket_kind kind, epoll_op *output) {
    socket->descriptor = descriptor;
    socket->broken = 0;
    socket->input = NULL;
    socket->output = output;
    socket->listener = NULL;
    socket->kind = (uint8_t)kind;
    socket->readable = false;
    socket->ended = false;
    socket->paused = false;
    socket->closed = false;
    atomic_init(&socket->closing, false);
    tp__socket_set_owner((tp_socket *)socket, worker);
}

tp_err tp__epoll_register_error(int os_error) {
    /* ENOSPC: the system's limit of epoll registrations per user. */
    tp_err error = tp_os_fail(os_error);
    return os_error == ENOSPC || os_error == ENOMEM ? TP_ERR_NO_BUFFERS : error;
}

tp_err tp__epoll_register(epoll_worker *worker, epoll_socket *socket, int descriptor,
    epoll_socket_kind kind, epoll_op *output) {
    tp__epoll_fill(worker, socket, descriptor, kind, output);
    atomic_fetch_add_explicit(&worker->sockets, 1, memory_order_relaxed);

    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET};
    event.data.ptr = socket;
    if (epoll_ctl(worker->epoll, EPOLL_CTL_ADD, descriptor, &event) == 0) {
        return TP_OK;
    }
    int os_error = errno;
    atomic_fetch_sub_explicit(&worker->sockets, 1, memory_order_relaxed);
    tp__socket_set_owner((tp_socket *)socket, NULL);
    return tp__epoll_register_error(os_error);
}

/* A connection stays with the worker that has accepted it: that worker is awake, and was chosen for
 * it (epoll_shared.c). */
tp_err tp__epoll_attach(
    tp_port *port, tp_socket *socket, tp_handle handle, const tp_socket_options *options) {
    tp_err error = tp__handle_set_options((int)handle, options);
    if (error == TP_OK) {
        epoll_worker *here = tp__epoll_current();
        bool is_ours = here != NULL && here->head.port == port;
        error = tp__epoll_register(is_ours ? here : tp__epoll_assign_worker(epoll_port_of(port)),
            (epoll_socket *)socket, (int)handle, SOCKET_STREAM, NULL);
    }
    return error == TP_OK || error == TP_ERR_NO_BUFFERS ? error : TP_ERR_OS;
}

bool tp__epoll_serves(const tp_worker *worker, const tp_socket *socket) {
    /* A closed socket keeps its worker; a socket that was never attached is served by any. */
    const void *owner = tp__socket_owner(socket);
    return owner == worker || owner == NULL;
}

void tp__epoll_finish(tp_worker *worker, tp_socket *tp) {
    epoll_socket *socket = (epoll_socket *)tp;
    assert(&socket->worker->head == worker);
    assert(socket->output == NULL);
    (void)worker;
    if (!socket->closed) {
        /* Fails if the connection is broken, which the receive gets too, and reports. */
        (void)shutdown(socket->descriptor, SHUT_WR);
    }
}
