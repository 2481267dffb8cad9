/*
 * Receiving: into the worker's single buffer, which is lent to `done`.
 *
 * Runs on the thread of the socket's worker. A socket's budget in one batch is one recv() of at
 * most the worker's read_budget bytes. A read that returns less than that has emptied the socket,
 * and the next byte is a new edge; no second call is made only to get EAGAIN. Two things keep
 * `readable` set and make the op run again later: a full read, and an end that was reported and has
 * not been read yet, for which no further edge comes.
 */
#include <assert.h>
#include <errno.h>
#include <sys/socket.h>

#include "os/error.h"
#include "os/linux/epoll_port.h"

/* The error of the last delivery, as port.h allows it. */
static tp_err receive_error(int os_error) {
    tp_err error = tp_os_translate(os_error);
    return error == TP_ERR_RESET || error == TP_ERR_TIMED_OUT ? error : TP_ERR_OS;
}

static size_t receive_deliver_last(epoll_worker *worker, epoll_op *op, tp_err error, int os_error) {
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

/* The stream is over: recv() returned 0, or an error. */
static size_t receive_deliver_end(epoll_worker *worker, epoll_socket *socket, int os_error) {
    /* The kernel reports a reset once. If a send got it, recv() only returns 0. */
    if (os_error == 0) {
        os_error = socket->broken;
    } else {
        socket->broken = os_error;
    }
    if (os_error == 0) {
        return receive_deliver_last(worker, socket->input, TP_ERR_CLOSED, 0);
    }
    return receive_deliver_last(worker, socket->input, receive_error(os_error), os_error);
}

static size_t receive_deliver_bytes(epoll_worker *worker, epoll_socket *socket, size_t count) {
    epoll_op *op = socket->input;
    socket->readable = count == worker->read_budget || socket->ended;
    if (TP_UNLIKELY(atomic_load_explicit(&socket->closing, memory_order_acquire))) {
        return 0; /* the close that is in progress delivers the op's cancellation */
    }
    const tp_completion completion = {
        .worker = &worker->head,
        .error = TP_OK,
        .bytes = worker->receive_buffer,
        .count = count,
        .handle = TP_NO_HANDLE,
    };
    op->done((tp_op *)op, &completion);
    /* `done` may have paused, resumed or closed. If it closed or resumed, the op is queued. */
    if (socket->readable && !socket->paused && !op->queued && !socket->closed) {
        epoll_run_later(worker, op);
    }
    return 1;
}

size_t tp__epoll_receive_once(epoll_worker *worker, epoll_socket *socket) {
    ssize_t count;
    do {
        count = recv(socket->descriptor, worker->receive_buffer, worker->read_budget, MSG_DONTWAIT);
    } while (TP_UNLIKELY(count < 0 && errno == EINTR));
    if (TP_LIKELY(count > 0)) {
        return receive_deliver_bytes(worker, socket, (size_t)count);
    }
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        socket->readable = false;
        return 0;
    }
    return receive_deliver_end(worker, socket, count == 0 ? 0 : errno);
}

size_t tp__epoll_receive_again(epoll_worker *worker, epoll_op *op) {
    epoll_socket *socket = op->socket;
    if (socket->closed) {
        return receive_deliver_last(worker, op, TP_ERR_CANCELLED, 0);
    }
    /* Paused since it was queued: tp__epoll_resume() queues it again. */
    return socket->paused ? 0 : tp__epoll_receive_once(worker, socket);
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
