/*
 * Posting: to the worker that serves a socket, or to any free worker.
 *
 * Runs on any thread. Owns nothing: the op is the port's until its `done`.
 */
#include "os/linux/epoll_port.h"

/*
 * A post to a socket runs on the socket's worker, which stays recorded in the socket after the
 * close, as `binds` requires. A post without a socket, or to one that was never attached, is
 * shared, even if this thread is a worker: the `done` that posts may block next.
 *
 * A post to the worker whose dispatch this thread is running goes directly to its ready list. It
 * keeps its order behind this thread's earlier posts from outside of dispatch, because dispatch
 * takes the queue first.
 */
tp_err tp__epoll_post(tp_port *port, tp_socket *tp_named, tp_op *tp) {
    epoll_op *op = (epoll_op *)tp;
    const epoll_socket *named = (const epoll_socket *)tp_named;
    epoll_worker *worker = named != NULL ? named->worker : NULL;
    op->socket = NULL;
    op->sent = 0;
    op->os_error = 0;
    op->error = TP_OK;
    op->kind = OP_RESULT;
    if (worker == NULL) {
        tp__epoll_share(epoll_port_of(port), op);
    } else if (worker == tp__epoll_current()) {
        epoll_list_push(&worker->ready, op);
    } else {
        tp__epoll_hand_over(worker, op);
    }
    return TP_OK;
}
