/*
 * A listener's life: bound, registered with every worker, closed.
 *
 * Listening and closing run on any thread, and no blocked worker delays them: the thread that
 * closes a listener takes it out of the workers' epoll sets and closes the descriptor itself. An
 * event of the listener that is still in a worker's batch is only a mark, which means "look at the
 * port's listeners".
 */
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "os/error.h"
#include "os/linux/epoll_listener.h"
#include "os/posix/handle.h"

char tp__epoll_listener_mark;

/* The error of a listen that failed with `os_error`, as port.h allows it. */
static tp_err listen_error(int os_error) {
    tp_err error = tp_os_fail(os_error);
    switch (error) {
    case TP_ERR_ADDRESS_IN_USE:
    case TP_ERR_ADDRESS:
    case TP_ERR_ACCESS:
    case TP_ERR_NO_DESCRIPTORS:
        return error;
    default:
        return TP_ERR_OS;
    }
}

static tp_err bind_and_listen(int descriptor, const tp_address *address, unsigned backlog) {
    const int one = 1;
    const int zero = 0;
    tp__sockaddr system;
    socklen_t size = tp__sockaddr_from_address(address, &system);
    /* So that a restarted server need not wait for the TIME_WAIT of its old connections. Two
     * listeners on one address stay impossible on Linux. */
    if (setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0) {
        return listen_error(errno);
    }
    /* [::] listens to both families, whatever the system's default is. */
    if (system.any.sa_family == AF_INET6 &&
        setsockopt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero) != 0) {
        return listen_error(errno);
    }
    if (bind(descriptor, &system.any, size) != 0 ||
        listen(descriptor, backlog < INT_MAX ? (int)backlog : INT_MAX) != 0) {
        return listen_error(errno);
    }
    return TP_OK;
}

/* Edge-triggered, because otherwise a listener that waits for its retry would end every wait at
 * once; exclusive, because a connection needs one worker and not all of them. */
static tp_err register_with_all(epoll_port *port, int descriptor) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLET | EPOLLEXCLUSIVE};
    event.data.ptr = &tp__epoll_listener_mark;
    for (unsigned i = 0; i < port->head.workers; i++) {
        if (epoll_ctl(port->workers[i].epoll, EPOLL_CTL_ADD, descriptor, &event) != 0) {
            return tp__epoll_register_error(errno); /* close_descriptor() removes the others */
        }
    }
    return TP_OK;
}

/* Adds it to the port's listeners. An edge may come at once. */
static void open_listener(epoll_port *port, epoll_listener *listener) {
    tp_mutex_lock(&port->shared.mutex);
    listener->next = port->shared.listeners;
    port->shared.listeners = listener;
    tp_mutex_unlock(&port->shared.mutex);
}

/* Under shared.mutex. */
static void take_off_list(epoll_shared *shared, epoll_listener *listener) {
    epoll_listener **at = &shared->listeners;
    while (*at != listener) {
        at = &(*at)->next;
    }
    *at = listener->next;
}

/* Closing alone would leave the registrations as long as a forked child has the descriptor. */
static void close_descriptor(epoll_port *port, int descriptor, bool reset) {
    for (unsigned i = 0; i < port->head.workers; i++) {
        (void)epoll_ctl(port->workers[i].epoll, EPOLL_CTL_DEL, descriptor, NULL);
    }
    tp__handle_close(descriptor, reset);
}

tp_err tp__epoll_listen(
    tp_port *head, tp_socket *tp, const tp_address *address, unsigned backlog, tp_address *bound) {
    epoll_port *port = epoll_port_of(head);
    epoll_socket *socket = (epoll_socket *)tp;
    int descriptor;
    if (tp__handle_open(address, &descriptor) != TP_OK) {
        return listen_error(tp_os_error());
    }
    tp_err error = bind_and_listen(descriptor, address, backlog);
    if (error == TP_OK && bound != NULL) {
        error = tp__handle_local_address(descriptor, bound);
    }
    epoll_listener *listener = error == TP_OK ? calloc(1, sizeof *listener) : NULL;
    if (error == TP_OK && listener == NULL) {
        error = listen_error(ENOMEM);
    }
    if (error == TP_OK && register_with_all(port, descriptor) != TP_OK) {
        error = listen_error(tp_os_error());
    }
    if (error != TP_OK) {
        int os_error = tp_os_error();
        free(listener);
        close_descriptor(port, descriptor, false);
        (void)tp_os_fail(os_error);
        return error;
    }
    tp__epoll_fill(&port->workers[0], socket, descriptor, SOCKET_LISTENER, NULL);
    socket->listener = listener;
    listener->socket = socket;
    open_listener(port, listener);
    return TP_OK;
}

void tp__epoll_unlisten(epoll_listener *listener, epoll_op *close_op) {
    epoll_socket *socket = listener->socket;
    epoll_port *port = epoll_port_of(socket->worker->head.port);
    epoll_shared *shared = &port->shared;
    epoll_op *over = NULL; /* the op that comes back next, if no delivery is running */
    int descriptor = socket->descriptor;
    close_op->kind = OP_RESULT;

    tp_mutex_lock(&shared->mutex);
    listener->close = close_op;
    take_off_list(shared, listener);
    tp__epoll_note_retry_due(shared); /* its retry may have been the first */
    if (listener->ahead.present && listener->ahead.handle >= 0) {
        tp__handle_close(listener->ahead.handle, true); /* like a connection in the backlog */
    }
    listener->ahead.present = false;
    if (listener->accept == NULL) {
        over = close_op;
    } else {
        if (listener->accept->queued) {
            tp__epoll_withdraw(port, listener);
        }
        over = listener->delivering == 0 ? listener->accept : NULL;
    }
    if (over != NULL) {
        tp__epoll_share_locked(port, over);
    }
    socket->closed = true;
    socket->descriptor = -1;
    close_descriptor(port, descriptor, close_op->u.reset);
    if (over == close_op) {
        free(listener);
    }
    tp_mutex_unlock(&shared->mutex);
    if (over != NULL) {
        tp__epoll_wake_one(port);
    }
}
