/*
 * A socket's life, decided by one word.
 *
 * Runs on any thread, except where iocp_port.h restricts it. The memory is the caller's, lent until
 * the `done` of the close.
 *
 * STATE. The low half counts: 1 while the socket is open, 1 for each of its requests in any place
 * (kernel, ready, shared, overflow, serialiser, parked), and 1 for each thread that is just
 * starting something on it. The flags CLOSING, PAUSED and PARKED are above.
 *
 *     enter   takes counts, unless CLOSING is set; one compare-and-exchange, so an operation either
 *             starts before the close (and is counted) or does not start
 *     close   sets CLOSING, cancels, and gives the open count back
 *     leave   gives counts back; the thread that takes the count to 0 closes the handle and queues
 *             the close op
 *
 * The count never rises again from 0: enter fails because CLOSING is set; tp__iocp_enter_closing(),
 * for posts, fails at 0; tp__iocp_enter_again() is called by holders of a count. So the count
 * reaches 0 once, the handle is closed once, and the `done` of the close is the socket's last
 * completion.
 *
 * NO RECYCLED HANDLE. The handle is closed at 0, and each system call that uses it is made by a
 * holder of a count: a thread that starts an operation (its temporary count), the worker that runs
 * a completion (the request's count), or close itself (the open count). So the handle's number
 * cannot belong to another socket meanwhile.
 *
 * NO HANG. An operation may be started while close is cancelling. The starter gives the operation
 * to the kernel and then reads CLOSING (tp__iocp_started()); the closer sets CLOSING and then
 * cancels everything. Both kernel calls take the lock on the file's list of operations. If the
 * cancel found the operation on that list, it was cancelled. Otherwise the starter's call took the
 * lock after the closer's, which came after CLOSING was set; so the starter sees CLOSING and
 * cancels its operation itself. It may do so although the operation may have come back by then: the
 * starter holds a count of its own, and a cancel compares the OVERLAPPED's address without reading
 * it. (Nor can a new operation have been started at that address on this handle, which is closing.)
 */
#include <stdlib.h>
#include <string.h>

#include "os/error.h"
#include "os/win32/iocp_port.h"

/* ---- the word -------------------------------------------------------------------------------- */

bool tp__iocp_enter(iocp_socket *socket, unsigned count) {
    uint64_t state = atomic_load_explicit(&socket->state, memory_order_relaxed);
    do {
        if ((state & IOCP_CLOSING) != 0 || (state & IOCP_COUNT) == 0) {
            return false;
        }
    } while (!atomic_compare_exchange_weak(&socket->state, &state, state + count));
    return true;
}

bool tp__iocp_enter_closing(iocp_socket *socket, unsigned count) {
    uint64_t state = atomic_load_explicit(&socket->state, memory_order_relaxed);
    do {
        if ((state & IOCP_COUNT) == 0) {
            return false;
        }
    } while (!atomic_compare_exchange_weak(&socket->state, &state, state + count));
    return true;
}

void tp__iocp_enter_again(iocp_socket *socket) {
    (void)atomic_fetch_add(&socket->state, 1);
}

bool tp__iocp_is_closing(iocp_socket *socket) {
    return (atomic_load(&socket->state) & IOCP_CLOSING) != 0;
}

void tp__iocp_started(iocp_socket *socket, iocp_request *request) {
    if (TP_UNLIKELY(tp__iocp_is_closing(socket))) {
        (void)CancelIoEx((HANDLE)socket->handle, &request->overlapped);
    }
}

/* The count is 0: nothing is in progress, and no thread uses the socket any more. */
static void socket_end(iocp_worker *worker, iocp_socket *socket) {
    iocp_port *port = socket->port;
    free(socket->listener); /* one block, which owns nothing */
    /* tp__iocp_close() has called CancelIoEx(), and everything has come back since. */
    (void)closesocket(socket->handle);
    if (worker != NULL) {
        tp__iocp_ready(worker, socket->close);
    } else {
        tp__iocp_queue(port, socket->close);
    }
}

void tp__iocp_leave(iocp_worker *worker, iocp_socket *socket, unsigned count) {
    /* Releases what this thread wrote, and acquires what all others did. */
    uint64_t before = atomic_fetch_sub(&socket->state, count);
    if (TP_UNLIKELY((before & IOCP_COUNT) == count)) {
        socket_end(worker, socket);
    }
}

/* The socket keeps its port and its state: other threads may still call tp_port_serves() and post
 * to it, as long as its memory holds no other socket (port.h). */
void tp__iocp_closed(iocp_worker *worker, iocp_request *request) {
    iocp_socket *socket = request->socket;
    (void)atomic_fetch_sub(&socket->port->sockets, 1);
    tp__iocp_done(worker, request, &(tp_completion){.last = true, .handle = TP_NO_HANDLE});
}

/* ---- attaching ------------------------------------------------------------------------------- */

tp_err tp__iocp_adopt(iocp_port *port, iocp_socket *socket, SOCKET handle) {
    u_long non_blocking = 1;
    /* For the read that follows a zero-byte receive; overlapped operations are not affected. */
    if (ioctlsocket(handle, (long)FIONBIO, &non_blocking) != 0) {
        return tp_os_fail_last();
    }
    if (CreateIoCompletionPort((HANDLE)handle, port->kernel, 0, 0) == NULL) {
        return tp_os_fail_last();
    }
    memset((void *)socket, 0, sizeof *socket);
    socket->handle = handle;
    socket->port = port;
    atomic_store(&socket->state, 1);
    (void)atomic_fetch_add(&port->sockets, 1);
    return TP_OK;
}

void tp__iocp_abandon(iocp_socket *socket) {
    (void)atomic_fetch_sub(&socket->port->sockets, 1);
    free(socket->listener);
    tp_handle_close((tp_handle)socket->handle, false);
    memset((void *)socket, 0, sizeof *socket);
}

tp_err tp__iocp_attach(
    tp_port *port, tp_socket *socket, tp_handle handle, const tp_socket_options *options) {
    tp_err error = tp__handle_set_options((SOCKET)handle, options);
    if (error == TP_OK) {
        error = tp__iocp_adopt(
            (iocp_port *)(void *)port, (iocp_socket *)(void *)socket, (SOCKET)handle);
    }
    return error;
}

/* ---- ending ---------------------------------------------------------------------------------- */

void tp__iocp_finish(tp_worker *worker, tp_socket *finished) {
    iocp_socket *socket = (iocp_socket *)(void *)finished;
    if (tp__iocp_enter(socket, 1)) {
        (void)shutdown(socket->handle, SD_SEND);
        tp__iocp_leave((iocp_worker *)(void *)worker, socket, 1);
    }
}
