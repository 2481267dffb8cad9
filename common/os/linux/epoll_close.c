/*
 * Closing a connection, and passing the close of a listener on to epoll_listen.c.
 *
 * tp__epoll_close() runs on any thread; the close itself on the thread of the socket's worker. Why
 * the close op comes back last is in epoll_port.h.
 */
#include <assert.h>

#include "os/linux/epoll_listener.h"
#include "os/posix/handle.h"

void tp__epoll_close_now(epoll_worker *worker, epoll_op *op) {
    epoll_socket *socket = op->socket;
    assert(!socket->closed);
    socket->closed = true;
    /* Closing alone would leave the registration, with its pointer to the socket, as long as a
     * forked child has the descriptor. */
    (void)epoll_ctl(worker->epoll, EPOLL_CTL_DEL, socket->descriptor, NULL);
    tp__handle_close(socket->descriptor, op->u.reset);
    socket->descriptor = -1;
    atomic_fetch_sub_explicit(&worker->sockets, 1, memory_order_relaxed);

    epoll_list *behind = &worker->ready;
    if (socket->output != NULL) {
        socket->output->error = TP_ERR_CANCELLED;
        epoll_list_push(&worker->ready, socket->output);
        socket->output = NULL;
    }
    if (socket->input != NULL && socket->input->queued) {
        behind = &worker->later;
    } else if (socket->input != NULL) {
        epoll_list_push(&worker->ready, socket->input);
    }
    op->kind = OP_RESULT;
    epoll_list_push(behind, op);
}

void tp__epoll_close(tp_socket *tp, tp_op *close_op, bool reset) {
    epoll_socket *socket = (epoll_socket *)tp;
    epoll_op *op = (epoll_op *)close_op;
    epoll_worker *worker = socket->worker;
    op->socket = socket;
    op->u.reset = reset;
    op->sent = 0;
    op->os_error = 0;
    op->error = TP_OK;
    op->kind = OP_CLOSE;
    /* The worker reads `closing` between reading bytes and delivering them. By release and acquire,
     * a worker that sees it also sees everything written before it; a worker that does not see it
     * yet is in the one delivery that port.h allows. */
    bool twice = atomic_exchange_explicit(&socket->closing, true, memory_order_acq_rel);
    assert(!twice);
    (void)twice;
    if (socket->listener != NULL) {
        tp__epoll_unlisten(socket->listener, op);
    } else if (worker == tp__epoll_current()) {
        tp__epoll_close_now(worker, op);
    } else {
        tp__epoll_hand_over(worker, op);
    }
}
