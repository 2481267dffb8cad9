/*
 * Accepting, by any free worker.
 *
 * Runs on workers; tp__epoll_accept() on any thread. A listener's state is guarded by shared.mutex,
 * which is not held while a `done` runs.
 *
 * A listener is registered with every worker's epoll descriptor, edge-triggered and exclusive: a
 * connection wakes one worker that sleeps, or leaves an edge with each worker that is awake. The
 * worker that gets the edge puts the listener's accept op on the list of accepts (epoll_shared.c),
 * where it is at most once. The worker that takes it from there accepts one connection, and one
 * more AHEAD. If there is a second one, the op goes back on the list before the first is delivered.
 * So a `done` that blocks delays no other connection, and the worker learns in the same round that
 * no other connection waits. Deliveries of one accept may run on several workers at once;
 * `delivering` counts them. The cancellation, and with it the close, comes when none is left.
 *
 * THE RESERVE. Descriptors that the program needs in any case: for the link to its bus, its log and
 * the files that it reads again. If only these are left, the listener is tried again later, as when
 * the system refuses a descriptor (epoll_retries.c). The system hands out the lowest free number,
 * so near the reserve that number is looked at before each accept. If another thread takes it in
 * between, one connection more is accepted.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "os/error.h"
#include "os/linux/epoll_listener.h"
#include "os/posix/handle.h"

/* ---- the reserve ----------------------------------------------------------------------------- */

/* The lowest descriptor of the reserve, INT_MAX: none. Read each time, because the process's limit
 * may change. */
static int first_reserved(const epoll_port *port) {
    struct rlimit limit;
    rlim_t reserve = port->reserve_descriptors;
    if (reserve == 0 || getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > INT_MAX) {
        return INT_MAX;
    }
    reserve = reserve < limit.rlim_cur / 4 ? reserve : limit.rlim_cur / 4;
    return (int)(limit.rlim_cur - reserve);
}

#define RESERVE_MARGIN 256 /* how far below the reserve descriptors begin to be checked */

/*
 * True if an accept would now take a descriptor of the reserve, or if not even that is left. A
 * connection gets the lowest free number: at most one more than the highest number that a
 * connection had, plus what the rest of the process has opened besides, which is less than
 * RESERVE_MARGIN. So nothing needs to be checked until a connection's number has come near the
 * reserve; from then on it is checked for good. That the latest connection got a low number proves
 * nothing: it may have been the only one free.
 */
static bool is_reserve_reached(const epoll_listener *listener, int reserved) {
    if (epoll_listener_port(listener)->shared.highest_accepted < reserved - RESERVE_MARGIN) {
        return false;
    }
    int lowest = fcntl(listener->socket->descriptor, F_DUPFD_CLOEXEC, 0);
    if (lowest >= 0) {
        (void)close(lowest);
    }
    return lowest < 0 || lowest >= reserved;
}

/* Without a waiting connection a lack of descriptors is no failure, and is not delivered. */
static bool has_waiting_connection(const epoll_listener *listener) {
    struct pollfd connection = {.fd = listener->socket->descriptor, .events = POLLIN};
    return poll(&connection, 1, 0) != 0;
}

/* ---- one connection: under shared.mutex ------------------------------------------------------ */

/* True if the error concerns only the connection that was to be accepted, so that the next one may
 * succeed. (Linux returns the errors that are already pending on the new socket: accept(2), "Error
 * handling".) */
static bool is_connection_error(int os_error) {
    switch (os_error) {
    case ECONNABORTED:
    case ECONNRESET:
    case EPROTO:
    case EPERM:
    case ETIMEDOUT:
    case ENETDOWN:
    case ENETUNREACH:
    case ENONET:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
        return true;
    default:
        return false;
    }
}

/* Accepts a connection. The result is to be delivered if `present` is set. */
static epoll_arrival arrival_fetch(epoll_listener *listener) {
    epoll_port *port = epoll_listener_port(listener);
    const int reserved = first_reserved(port);
    const epoll_arrival nothing = {.handle = -1};
    epoll_arrival arrival = {.present = true, .handle = -1};
    if (reserved < INT_MAX && is_reserve_reached(listener, reserved)) {
        if (!has_waiting_connection(listener)) {
            return nothing;
        }
        tp__epoll_retry_later(listener);
        arrival.os_error = EMFILE;
        return arrival;
    }
    tp__sockaddr peer;
    socklen_t size = sizeof peer;
    peer.any.sa_family = AF_UNSPEC;
    do {
        arrival.handle =
            accept4(listener->socket->descriptor, &peer.any, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    } while (arrival.handle < 0 && errno == EINTR);
    if (arrival.handle >= 0) {
        if (arrival.handle > port->shared.highest_accepted) {
            port->shared.highest_accepted = arrival.handle;
        }
        tp__sockaddr_to_address(&peer, &arrival.peer);
        return arrival;
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK) {
        return nothing; /* a later connection makes a new edge */
    }
    arrival.os_error = errno;
    /* Other errors may occur again at once, so they lead to a retry as well. The system takes a
     * descriptor before it looks for a connection: if none waits, nothing has failed. */
    if (!is_connection_error(arrival.os_error)) {
        if (!has_waiting_connection(listener)) {
            return nothing;
        }
        tp__epoll_retry_later(listener);
    }
    return arrival;
}

/* ---- delivering ------------------------------------------------------------------------------ */

static void arrival_deliver(epoll_worker *worker, epoll_op *op, const epoll_arrival *arrival) {
    tp_err error = arrival->os_error == 0 ? TP_OK : tp_os_translate(arrival->os_error);
    const tp_completion completion = {
        .worker = &worker->head,
        .error = error == TP_ERR_NO_MEMORY ? TP_ERR_NO_BUFFERS : error,
        .os_error = arrival->os_error,
        .handle = arrival->handle >= 0 ? arrival->handle : TP_NO_HANDLE,
        .address = arrival->peer,
    };
    op->done((tp_op *)op, &completion);
}

/* True if the listener is closed and none of its deliveries is running or to come: its cancellation
 * is due. Under shared.mutex. */
static bool is_last_delivery(const epoll_listener *listener) {
    return listener->close != NULL && listener->delivering == 0 && !listener->accept->queued;
}

size_t tp__epoll_accept_one(epoll_worker *worker, epoll_listener *listener) {
    epoll_port *port = epoll_port_of(worker->head.port);
    epoll_arrival arrival = listener->ahead;
    epoll_op *op = listener->accept;
    listener->ahead.present = false;
    if (!arrival.present && !epoll_awaits_retry(listener)) {
        arrival = arrival_fetch(listener);
    }
    if (!arrival.present) {
        tp_mutex_unlock(&port->shared.mutex);
        return 0;
    }
    if (!epoll_awaits_retry(listener)) {
        listener->ahead = arrival_fetch(listener);
    }
    if (listener->ahead.present) {
        tp__epoll_offer(port, listener);
    }
    listener->delivering++;
    epoll_leftover left = tp__epoll_leftover(port);
    tp_mutex_unlock(&port->shared.mutex);
    tp__epoll_wake_next(port, left); /* before the `done`, which may block */

    arrival_deliver(worker, op, &arrival);

    tp_mutex_lock(&port->shared.mutex);
    listener->delivering--;
    bool last = is_last_delivery(listener);
    if (last) {
        tp__epoll_share_locked(port, op);
    }
    tp_mutex_unlock(&port->shared.mutex);
    if (last) {
        tp__epoll_wake_one(port);
    }
    return 1;
}

size_t tp__epoll_accept_end(epoll_worker *worker, epoll_op *op) {
    epoll_port *port = epoll_port_of(worker->head.port);
    epoll_listener *listener = op->socket->listener;
    tp_mutex_lock(&port->shared.mutex);
    bool runs = listener->delivering > 0; /* the last of these adds the op to the tasks again */
    tp_mutex_unlock(&port->shared.mutex);
    if (runs) {
        return 0;
    }
    epoll_op *close_op = listener->close;
    const tp_completion completion = {
        .worker = &worker->head,
        .error = TP_ERR_CANCELLED,
        .last = true,
        .handle = TP_NO_HANDLE,
    };
    free(listener);
    op->done((tp_op *)op, &completion);
    tp__epoll_share(port, close_op);
    return 1;
}

void tp__epoll_listeners_readable(epoll_worker *worker) {
    epoll_port *port = epoll_port_of(worker->head.port);
    tp_mutex_lock(&port->shared.mutex);
    for (epoll_listener *it = port->shared.listeners; it != NULL; it = it->next) {
        tp__epoll_offer_if_ready(port, it);
    }
    bool waits = port->shared.accepts.first != NULL;
    tp_mutex_unlock(&port->shared.mutex);
    if (waits) {
        tp__epoll_wake_for_accepts(worker);
    }
}

tp_err tp__epoll_accept(tp_socket *tp, tp_op *accept_op) {
    epoll_socket *socket = (epoll_socket *)tp;
    epoll_op *op = (epoll_op *)accept_op;
    if (socket->listener == NULL) {
        (void)tp_os_fail(0);
        return TP_ERR_INVALID;
    }
    if (atomic_load_explicit(&socket->closing, memory_order_relaxed)) {
        (void)tp_os_fail(0);
        return TP_ERR_CANCELLED;
    }
    epoll_port *port = epoll_port_of(socket->worker->head.port);
    tp_err error = TP_OK;
    tp_mutex_lock(&port->shared.mutex);
    /* Under the mutex, because a thread that closes the socket now may free its listener. */
    epoll_listener *listener = socket->closed ? NULL : socket->listener;
    if (listener == NULL || listener->close != NULL) {
        error = TP_ERR_CANCELLED;
    } else if (listener->accept != NULL) {
        error = TP_ERR_STATE;
    } else {
        op->socket = socket;
        op->kind = OP_ACCEPT;
        op->queued = false;
        listener->accept = op;
        /* Earlier connections have left no edge to act on. */
        tp__epoll_offer_if_ready(port, listener);
    }
    tp_mutex_unlock(&port->shared.mutex);
    if (error != TP_OK) {
        (void)tp_os_fail(0);
        return error;
    }
    tp__epoll_wake_one(port);
    return TP_OK;
}
