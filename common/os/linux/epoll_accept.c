/*
 * Accepting, by whatever worker is free.
 *
 * A listener is registered with every worker's epoll, edge-triggered and exclusively: a connection
 * wakes one worker that sleeps, or leaves an edge with each that is awake. Who finds the edge puts
 * the listener's accept on the list of newcomers (epoll_shared.c), where it is at most once. Who
 * takes it accepts one connection, and one AHEAD: if there is such a one the accept goes back to
 * the list before the first is delivered. So a callee that blocks keeps nobody waiting, and an
 * accept finds out in the same turn that nobody else is there. Deliveries of one accept may run on
 * several workers at once.
 *
 * A listener's state is guarded by shared.mutex, which is not held while a callee runs:
 * `delivering` counts those. The cancellation, and with it the close, comes when none is left.
 *
 * A listener that the system refuses a descriptor (or memory) RESTS: it is offered again after
 * REST_MS, by whoever wakes then; a watcher does (epoll_shared.c). It stays registered; edges that
 * come meanwhile are remembered like any other, and the connections keep waiting in the backlog, so
 * nothing is lost and nothing spins.
 *
 * It rests as well when only the reserve is left: descriptors for what the program cannot do
 * without, such as the link to its bus, its log and the files that it reads again. The system hands
 * out the lowest number that is free: so near the reserve that number is looked at before each
 * accept. If another thread takes it in between, one connection more than that comes in.
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

#include "os/clock.h"
#include "os/error.h"
#include "os/linux/epoll_port.h"
#include "os/posix/handle.h"

enum { REST_MS = 100 };

static epoll_port *port_of(const epoll_listener *listener) {
    return epoll_port_of(listener->socket->worker->head.port);
}

/* ---- resting: with the mutex ----------------------------------------------------------------- */

static bool is_resting(const epoll_listener *listener) {
    return listener->rests_until != 0;
}

void tp__epoll_note_rest_due(epoll_shared *shared) {
    uint64_t first = 0;
    for (const epoll_listener *it = shared->listeners; it != NULL; it = it->next) {
        if (is_resting(it) && (first == 0 || it->rests_until < first)) {
            first = it->rests_until;
        }
    }
    atomic_store(&shared->rest_due, first);
}

static void rest(epoll_listener *listener) {
    listener->rests_until = tp_clock_ms() + REST_MS;
    tp__epoll_note_rest_due(&port_of(listener)->shared);
}

static void offer_if_it_may(epoll_port *port, epoll_listener *listener) {
    if (listener->accept != NULL && !listener->accept->queued && !is_resting(listener)) {
        tp__epoll_offer(port, listener);
    }
}

void tp__epoll_end_rests(epoll_port *port, uint64_t now) {
    epoll_shared *shared = &port->shared;
    tp_mutex_lock(&shared->mutex);
    for (epoll_listener *it = shared->listeners; it != NULL; it = it->next) {
        if (is_resting(it) && it->rests_until <= now) {
            it->rests_until = 0;
            offer_if_it_may(port, it);
        }
    }
    tp__epoll_note_rest_due(shared);
    tp_mutex_unlock(&shared->mutex);
}

/* ---- the reserve ----------------------------------------------------------------------------- */

/* The first number that is not for connections. The limit may change while the process runs. */
static int first_reserved(const epoll_port *port) {
    struct rlimit limit;
    rlim_t reserve = port->reserve_descriptors;
    if (reserve == 0 || getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > INT_MAX) {
        return INT_MAX;
    }
    reserve = reserve < limit.rlim_cur / 4 ? reserve : limit.rlim_cur / 4;
    return (int)(limit.rlim_cur - reserve);
}

#define LOOK_FROM 256 /* numbers before the reserve; a port that came so near looks from then on */

/* Would a connection now take one of the reserve, or is not even that left? A connection gets the
 * lowest free number: at most one more than the highest that any connection had, and than what the
 * rest of the process has opened besides, which is less than LOOK_FROM. So as long as all of them
 * were further below, there is nothing to look at. That one has just got a low number says nothing:
 * it may have been the only one. */
static bool is_reserve_all(const epoll_listener *listener, int reserved) {
    if (port_of(listener)->shared.highest_accepted < reserved - LOOK_FROM) {
        return false;
    }
    int lowest = fcntl(listener->socket->descriptor, F_DUPFD_CLOEXEC, 0);
    if (lowest >= 0) {
        (void)close(lowest);
    }
    return lowest < 0 || lowest >= reserved;
}

/* A full server to which nobody connects is at rest: it is not the time to say so. */
static bool a_connection_waits(const epoll_listener *listener) {
    struct pollfd connection = {.fd = listener->socket->descriptor, .events = POLLIN};
    return poll(&connection, 1, 0) != 0;
}

/* ---- one connection: with the mutex ---------------------------------------------------------- */

/* Is this the fault of the one connection that was to be accepted? Then the next one may do. (Linux
 * hands over the errors that are already pending on the new socket: accept(2), "Error
 * handling".) */
static bool is_of_one_connection(int os_error) {
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

/* What there is to deliver now, if anything. */
static epoll_arrival fetch(epoll_listener *listener) {
    epoll_port *port = port_of(listener);
    const int reserved = first_reserved(port);
    const epoll_arrival nothing = {.handle = -1};
    epoll_arrival arrival = {.there = true, .handle = -1};
    if (reserved < INT_MAX && is_reserve_all(listener, reserved)) {
        if (!a_connection_waits(listener)) {
            return nothing;
        }
        rest(listener);
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
        return nothing; /* who comes from now on makes a new edge */
    }
    arrival.os_error = errno;
    /* An unknown error rests too: it may be there again at once. The system takes a descriptor
     * before it looks who waits: where nobody does, nothing has failed. */
    if (!is_of_one_connection(arrival.os_error)) {
        if (!a_connection_waits(listener)) {
            return nothing;
        }
        rest(listener);
    }
    return arrival;
}

/* ---- delivering ------------------------------------------------------------------------------ */

static void deliver(epoll_worker *worker, epoll_op *op, const epoll_arrival *arrival) {
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

/* One `done` fewer: with the mutex. */
static bool is_last_of_a_closed_one(const epoll_listener *listener) {
    return listener->close != NULL && listener->delivering == 0 && !listener->accept->queued;
}

size_t tp__epoll_accept_one(epoll_worker *worker, epoll_listener *listener) {
    epoll_port *port = epoll_port_of(worker->head.port);
    epoll_arrival arrival = listener->ahead;
    epoll_op *op = listener->accept;
    listener->ahead.there = false;
    if (!arrival.there && !is_resting(listener)) {
        arrival = fetch(listener);
    }
    if (!arrival.there) {
        tp_mutex_unlock(&port->shared.mutex);
        return 0;
    }
    if (!is_resting(listener)) {
        listener->ahead = fetch(listener);
    }
    if (listener->ahead.there) {
        tp__epoll_offer(port, listener);
    }
    listener->delivering++;
    epoll_leftover left = tp__epoll_leftover(port);
    tp_mutex_unlock(&port->shared.mutex);
    tp__epoll_call_next(port, left); /* before the callee, which may block */

    deliver(worker, op, &arrival);

    tp_mutex_lock(&port->shared.mutex);
    listener->delivering--;
    bool last = is_last_of_a_closed_one(listener);
    if (last) {
        tp__epoll_share_locked(port, op);
    }
    tp_mutex_unlock(&port->shared.mutex);
    if (last) {
        tp__epoll_call_one(port);
    }
    return 1;
}

size_t tp__epoll_accept_end(epoll_worker *worker, epoll_op *op) {
    epoll_port *port = epoll_port_of(worker->head.port);
    epoll_listener *listener = op->socket->listener;
    tp_mutex_lock(&port->shared.mutex);
    bool runs = listener->delivering > 0; /* the last of those brings it here again */
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
        offer_if_it_may(port, it);
    }
    bool waits = port->shared.newcomers.first != NULL;
    tp_mutex_unlock(&port->shared.mutex);
    if (waits) {
        tp__epoll_call_for_newcomers(worker);
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
    /* With the mutex: who closes the socket at this moment frees its listener. */
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
        offer_if_it_may(port, listener); /* the edge of who came before has been in vain */
    }
    tp_mutex_unlock(&port->shared.mutex);
    if (error != TP_OK) {
        (void)tp_os_fail(0);
        return error;
    }
    tp__epoll_call_one(port);
    return TP_OK;
}
