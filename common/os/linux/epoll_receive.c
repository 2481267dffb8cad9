/*
 * Receiving: into the worker's one buffer, lent to the callee.
 *
 * Runs on the socket's worker. A turn is one recv(), whatever is there, of at most the worker's
 * turn_size: that is the budget in rounds and in bytes. A read that takes less than it might has
 * emptied the socket, and the next byte is a new edge: no second call only to be told EAGAIN. Two
 * things make `readable` stay and earn the op another turn: a full read, and an end that was
 * flagged and has not shown yet, for which no edge comes again.
 */
#include <assert.h>
#include <errno.h>
#include <sys/socket.h>

#include "os/error.h"
#include "os/linux/epoll_port.h"

/* What the contract lets a receive end with. */
static tp_err end_error(int os_error) {
    tp_err error = tp_os_translate(os_error);
    return error == TP_ERR_RESET || error == TP_ERR_TIMED_OUT ? error : TP_ERR_OS;
}

static size_t deliver_last(epoll_worker *worker, epoll_op *op, tp_err error, int os_error) {
    op->socket->input = NULL;
    const tp_completion completion = {
        .worker = &worker->head,
        .error = error,
        .os_error = os_error,
        .last = true,
        .handle = TP_NO_HANDLE,
    };
    op->done((tp_op *)op, &completion);
    return 1;
}

/* The stream is over: read() said so, by 0 or by an error. */
static size_t deliver_end(epoll_worker *worker, epoll_socket *socket, int os_error) {
    /* The kernel reports a reset once. If a send met it first, reading finds a mere end. */
    if (os_error == 0) {
        os_error = socket->broken;
    } else {
        socket->broken = os_error;
    }
    if (os_error == 0) {
        return deliver_last(worker, socket->input, TP_ERR_CLOSED, 0);
    }
    return deliver_last(worker, socket->input, end_error(os_error), os_error);
}

static size_t deliver_bytes(epoll_worker *worker, epoll_socket *socket, size_t count) {
    epoll_op *op = socket->input;
    socket->readable = count == worker->turn_size || socket->ended;
    if (TP_UNLIKELY(atomic_load_explicit(&socket->closing, memory_order_acquire))) {
        return 0; /* the close that is on its way brings the op back */
    }
    const tp_completion completion = {
        .worker = &worker->head,
        .error = TP_OK,
        .bytes = worker->receive_buffer,
        .count = count,
        .handle = TP_NO_HANDLE,
    };
    op->done((tp_op *)op, &completion);
    /* The callee may have paused, resumed or closed. If it closed, or resumed, the op is queued. */
    if (socket->readable && !socket->paused && !op->queued && !socket->closed) {
        epoll_run_later(worker, op);
    }
    return 1;
}

size_t tp__epoll_receive_turn(epoll_worker *worker, epoll_socket *socket) {
    ssize_t count;
    do {
        count = recv(socket->descriptor, worker->receive_buffer, worker->turn_size, MSG_DONTWAIT);
    } while (TP_UNLIKELY(count < 0 && errno == EINTR));
    if (TP_LIKELY(count > 0)) {
        return deliver_bytes(worker, socket, (size_t)count);
    }
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        socket->readable = false;
        return 0;
    }
    return deliver_end(worker, socket, count == 0 ? 0 : errno);
}

size_t tp__epoll_receive_again(epoll_worker *worker, epoll_op *op) {
    epoll_socket *socket = op->socket;
    if (socket->closed) {
        return deliver_last(worker, op, TP_ERR_CANCELLED, 0);
    }
    /* A pause since it was queued: resume will queue it anew. */
    return socket->paused ? 0 : tp__epoll_receive_turn(worker, socket);
}

tp_err tp__epoll_receive(tp_worker *head, tp_socket *tp, tp_op *receive_op) {
    epoll_worker *worker = epoll_worker_of(head);
    epoll_socket *socket = (epoll_socket *)tp;
    epoll_op *op = (epoll_op *)receive_op;
    assert(socket->worker == worker);
    if (TP_UNLIKELY(atomic_load_explicit(&socket->closing, memory_order_relaxed))) {
        (void)tp_os_fail(0);
        return TP_ERR_CANCELLED;
    }
    if (TP_UNLIKELY(socket->input != NULL)) {
        (void)tp_os_fail(0);
        return TP_ERR_STATE;
    }
    op->socket = socket;
    op->kind = OP_RECEIVE;
    op->queued = false;
    socket->input = op;
    if (socket->readable && !socket->paused) {
        epoll_list_push(&worker->ready, op);
    }
    return TP_OK;
}

void tp__epoll_pause(tp_worker *head, tp_socket *tp) {
    epoll_socket *socket = (epoll_socket *)tp;
    assert(&socket->worker->head == head);
    (void)head;
    socket->paused = true;
}

void tp__epoll_resume(tp_worker *head, tp_socket *tp) {
    epoll_worker *worker = epoll_worker_of(head);
    epoll_socket *socket = (epoll_socket *)tp;
    epoll_op *op = socket->input;
    assert(socket->worker == worker);
    socket->paused = false;
    if (socket->readable && op != NULL && !op->queued) {
        epoll_run_later(worker, op);
    }
}
