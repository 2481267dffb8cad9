/*
 * Listening and accepting.
 *
 * A listener stays with worker 0, and everything here runs on that worker's thread, but for listen
 * and for an accept that is started elsewhere and posted. A turn accepts a bounded number of
 * connections, so that a storm of them does not hold up those that are already there.
 *
 * A listener that the system refuses a descriptor (or memory) RESTS: it goes on a list of the
 * worker's and is tried again after REST_MS, by the wait's time-out. It stays registered; edges
 * that come meanwhile are remembered like any other, and the connections keep waiting in the
 * backlog, so nothing is lost and nothing spins.
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
#include <sys/resource.h>
#include <unistd.h>

#include "os/clock.h"
#include "os/error.h"
#include "os/linux/epoll_port.h"
#include "os/posix/handle.h"

enum { ACCEPTS_PER_TURN = 32, REST_MS = 100 };

/* ---- resting ------------------------------------------------------------------------------ */

static bool is_resting(const epoll_socket *listener) {
    return listener->rests_until != 0;
}

static void rest(epoll_worker *worker, epoll_socket *listener) {
    listener->rests_until = tp_clock_ms() + REST_MS;
    listener->next = worker->resting;
    worker->resting = listener;
}

void tp__epoll_forget_rest(epoll_worker *worker, epoll_socket *listener) {
    for (epoll_socket **at = &worker->resting; *at != NULL; at = &(*at)->next) {
        if (*at == listener) {
            *at = listener->next;
            listener->rests_until = 0;
            return;
        }
    }
}

int tp__epoll_end_rests(epoll_worker *worker, int timeout_ms) {
    uint64_t now = tp_clock_ms();
    epoll_socket **at = &worker->resting;
    while (*at != NULL) {
        epoll_socket *listener = *at;
        if (listener->rests_until > now) {
            int left = (int)(listener->rests_until - now);
            timeout_ms = timeout_ms < 0 || timeout_ms > left ? left : timeout_ms;
            at = &listener->next;
            continue;
        }
        *at = listener->next;
        listener->rests_until = 0;
        if (listener->input != NULL && !listener->input->queued) {
            epoll_list_push(&worker->ready, listener->input);
        }
    }
    return timeout_ms;
}

/* ---- the reserve -------------------------------------------------------------------------- */

/* The first number that is not for connections. The limit may change while the process runs. */
static int first_reserved(const epoll_worker *worker) {
    struct rlimit limit;
    rlim_t reserve = epoll_port_of(worker->head.port)->reserve_descriptors;
    if (reserve == 0 || getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > INT_MAX) {
        return INT_MAX;
    }
    reserve = reserve < limit.rlim_cur / 4 ? reserve : limit.rlim_cur / 4;
    return (int)(limit.rlim_cur - reserve);
}

#define LOOK_FROM 256 /* numbers before the reserve; below that accepting looks at what it gets */

/* Would a connection now take one of the reserve, or is not even that left? A connection gets the
 * lowest free number, so one far below the reserve says that there are many. Between two of them
 * the rest of the process does not open LOOK_FROM others; if it did, one connection would have one
 * of the reserve, and the next one would not. */
static bool is_reserve_all(const epoll_worker *worker, const epoll_socket *listener, int reserved) {
    if (worker->last_accepted < reserved - LOOK_FROM) {
        return false;
    }
    int lowest = fcntl(listener->descriptor, F_DUPFD_CLOEXEC, 0);
    if (lowest >= 0) {
        (void)close(lowest);
    }
    return lowest < 0 || lowest >= reserved;
}

/* A full server to which nobody connects is at rest: it is not the time to say so. */
static bool a_connection_waits(const epoll_socket *listener) {
    struct pollfd connection = {.fd = listener->descriptor, .events = POLLIN};
    return poll(&connection, 1, 0) != 0;
}

/* ---- accepting ---------------------------------------------------------------------------- */

/* Is this the fault of the one connection that was to be accepted? Then the next one may do. (Linux
 * hands over the errors that are already pending on the new socket: accept(2), "Error handling".)
 */
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

static void deliver(epoll_worker *worker, epoll_op *op, int handle, const tp__sockaddr *peer) {
    tp_completion completion = {.worker = &worker->head, .error = TP_OK, .handle = handle};
    tp__sockaddr_to_address(peer, &completion.address);
    op->done((tp_op *)op, &completion);
}

static void deliver_error(epoll_worker *worker, epoll_op *op, int os_error) {
    tp_err error = tp_os_translate(os_error);
    const tp_completion completion = {
        .worker = &worker->head,
        .error = error == TP_ERR_NO_MEMORY ? TP_ERR_NO_BUFFERS : error,
        .os_error = os_error,
        .handle = TP_NO_HANDLE,
    };
    op->done((tp_op *)op, &completion);
}

static size_t deliver_cancelled(epoll_worker *worker, epoll_op *op) {
    op->socket->input = NULL;
    const tp_completion completion = {
        .worker = &worker->head,
        .error = TP_ERR_CANCELLED,
        .last = true,
        .handle = TP_NO_HANDLE,
    };
    op->done((tp_op *)op, &completion);
    return 1;
}

size_t tp__epoll_accept_turn(epoll_worker *worker, epoll_socket *listener) {
    epoll_op *op = listener->input;
    const int reserved = first_reserved(worker);
    size_t delivered = 0;
    while (delivered < ACCEPTS_PER_TURN && !is_resting(listener)) {
        /* Checked each time: the callee may have closed the listener, or somebody else. */
        if (atomic_load_explicit(&listener->closing, memory_order_relaxed)) {
            return delivered;
        }
        if (reserved < INT_MAX && is_reserve_all(worker, listener, reserved)) {
            if (!a_connection_waits(listener)) {
                listener->readable = false;
                return delivered;
            }
            rest(worker, listener);
            deliver_error(worker, op, EMFILE);
            return delivered + 1;
        }
        tp__sockaddr peer;
        socklen_t size = sizeof peer;
        peer.any.sa_family = AF_UNSPEC;
        int handle = accept4(listener->descriptor, &peer.any, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (handle >= 0) {
            worker->last_accepted = handle;
            deliver(worker, op, handle, &peer);
            delivered++;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            listener->readable = false;
            return delivered;
        } else if (errno != EINTR) {
            int os_error = errno;
            /* An unknown error rests too: it may be there again at once. */
            if (!is_of_one_connection(os_error)) {
                rest(worker, listener);
            }
            deliver_error(worker, op, os_error);
            delivered++;
        }
    }
    if (!is_resting(listener) && !op->queued && !listener->closed) {
        epoll_run_later(worker, op);
    }
    return delivered;
}

size_t tp__epoll_accept_again(epoll_worker *worker, epoll_op *op) {
    epoll_socket *listener = op->socket;
    if (listener->closed) {
        return deliver_cancelled(worker, op);
    }
    return is_resting(listener) ? 0 : tp__epoll_accept_turn(worker, listener);
}

size_t tp__epoll_accept_begin(epoll_worker *worker, epoll_op *op) {
    epoll_socket *listener = op->socket;
    op->kind = OP_ACCEPT;
    if (listener->closed) {
        return deliver_cancelled(worker, op);
    }
    assert(listener->input == NULL);
    listener->input = op;
    return tp__epoll_accept_turn(worker, listener);
}

tp_err tp__epoll_accept(tp_socket *tp, tp_op *accept_op) {
    epoll_socket *listener = (epoll_socket *)tp;
    epoll_op *op = (epoll_op *)accept_op;
    if (atomic_load_explicit(&listener->closing, memory_order_relaxed)) {
        (void)tp_os_fail(0);
        return TP_ERR_CANCELLED;
    }
    op->socket = listener;
    op->kind = OP_BEGIN;
    if (listener->worker == tp__epoll_current()) {
        epoll_list_push(&listener->worker->ready, op);
    } else {
        tp__epoll_hand_over(listener->worker, op);
    }
    return TP_OK;
}

/* ---- listening ---------------------------------------------------------------------------- */

/* TP_OK, or what the contract lets listen end with. */
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
    /* A server that restarts must not wait for its old connections' TIME_WAIT to pass. Two
     * listeners on one address stay impossible on Linux. */
    if (setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0) {
        return listen_error(errno);
    }
    /* "::" means both families, whatever the system's default is. */
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

tp_err tp__epoll_listen(tp_port *port, tp_socket *socket, const tp_address *address,
    unsigned backlog, tp_address *bound) {
    int descriptor;
    if (tp__handle_open(address, &descriptor) != TP_OK) {
        return listen_error(tp_os_error());
    }
    tp_err error = bind_and_listen(descriptor, address, backlog);
    if (error == TP_OK && bound != NULL) {
        error = tp__handle_local_address(descriptor, bound);
    }
    if (error == TP_OK && tp__epoll_register(&epoll_port_of(port)->workers[0],
                              (epoll_socket *)socket, descriptor, SOCKET_LISTENER, NULL) != TP_OK) {
        error = listen_error(tp_os_error());
    }
    if (error != TP_OK) {
        tp__handle_close(descriptor, false);
    }
    return error;
}
