/*
 * Receiving: one WSARecv in progress at a time, started again and again until the end.
 *
 * ONE DELIVERY AT A TIME, IN ORDER. A socket's receive is in exactly one place: with the kernel
 * (one WSARecv), with the worker that took its completion, parked, or queued as IOCP_RECEIVE_ENDED.
 * Only the worker that holds it reads the socket and calls `done`, and gives it to the kernel again
 * after `done` has returned. So two workers never deliver for one socket at once, the bytes are
 * delivered in the order in which they were read, and `receive` and `receive_buffer` need no lock:
 * they pass from one holder to the next through the kernel's queue, or through the exchange on
 * `state` that parks the receive or takes it.
 *
 * WITHOUT A BUFFER (the default) the WSARecv asks for 0 bytes. It completes when there is something
 * to read, and the bytes are read into the worker's own buffer. An idle connection pins no memory.
 * WITH A POSTED BUFFER the kernel copies bytes into it as soon as they come. Each start decides
 * between the two; if there is no memory for a buffer, it is the first.
 *
 * PAUSED means that the next WSARecv is not started. The holder parks the receive: it sets PARKED,
 * only if PAUSED is still set and CLOSING is not. The next holder is the thread that takes the
 * receive by an exchange on the same word: resume, which clears PARKED unless CLOSING is set, to
 * start it; or close, which sets CLOSING and finds PARKED set, to end it. So exactly one of them
 * does.
 *
 * AFTER THE CLOSE nothing is read any more: the holder reads CLOSING before each delivery.
 */
#include "os/error.h"
#include "os/win32/iocp_port.h"
#include "os/win32/nt_error.h"

/* Makes the last delivery and gives the receive's count back. */
static void receive_end(iocp_worker *worker, iocp_request *request, tp_err error, int os_error) {
    iocp_socket *socket = request->socket;
    if (socket->receive_buffer != NULL) {
        tp__iocp_buffer_give(socket->port, socket->receive_buffer);
        socket->receive_buffer = NULL;
    }
    socket->receive = NULL;
    if (tp__iocp_is_closing(socket)) {
        error = TP_ERR_CANCELLED;
    }
    tp__iocp_done(worker, request,
        &(tp_completion){
            .error = error, .os_error = os_error, .last = true, .handle = TP_NO_HANDLE});
    tp__iocp_leave(worker, socket, 1);
}

/* Makes the request the receive's last delivery, which the caller queues. */
static void receive_end_later(iocp_request *request, tp_err error, int os_error) {
    request->kind = IOCP_RECEIVE_ENDED;
    request->waiting.error = error;
    request->waiting.os_error = os_error;
}

static void receive_deliver(
    iocp_worker *worker, iocp_request *request, const uint8_t *bytes, size_t count) {
    tp__iocp_done(
        worker, request, &(tp_completion){.bytes = bytes, .count = count, .handle = TP_NO_HANDLE});
}

/* Gives the receive to the kernel, or puts it on the ready list if the kernel refuses it. Called by
 * its holder, which has a count besides the receive's. */
static void receive_start(iocp_worker *worker, iocp_socket *socket) {
    iocp_port *port = socket->port;
    iocp_request *request = socket->receive;
    if (port->post_receive_buffers && socket->receive_buffer == NULL) {
        socket->receive_buffer = tp__iocp_buffer_take(port);
    }
    WSABUF buffer = {
        .buf = (char *)socket->receive_buffer,
        .len = socket->receive_buffer != NULL ? (ULONG)port->receive_buffer : 0,
    };
    DWORD flags = 0;
    request->kind = IOCP_RECEIVE;
    request->overlapped = (OVERLAPPED){0};
    if (WSARecv(socket->handle, &buffer, 1, NULL, &flags, &request->overlapped, NULL) != 0) {
        int code = WSAGetLastError();
        if (code != WSA_IO_PENDING) {
            receive_end_later(request, tp_os_fail(code), code);
            tp__iocp_ready(worker, request);
            return;
        }
    }
    tp__iocp_started(socket, request);
}

tp_err tp__iocp_receive(tp_worker *on, tp_socket *from, tp_op *op) {
    iocp_worker *worker = (iocp_worker *)(void *)on;
    iocp_socket *socket = (iocp_socket *)(void *)from;
    if (!tp__iocp_enter(socket, 2)) { /* the operation's and this thread's */
        (void)tp_os_fail(0);
        return TP_ERR_CANCELLED;
    }
    socket->receive = &((iocp_op *)(void *)op)->request;
    socket->receive->socket = socket;
    receive_start(worker, socket);
    tp__iocp_leave(worker, socket, 1);
    return TP_OK;
}

/* The holder parks the receive if it is paused. True: the caller is no longer its holder. */
static bool receive_park(iocp_socket *socket) {
    uint64_t state = atomic_load(&socket->state);
    do {
        if ((state & IOCP_PAUSED) == 0 || (state & IOCP_CLOSING) != 0) {
            return false;
        }
    } while (!atomic_compare_exchange_weak(&socket->state, &state, state | IOCP_PARKED));
    return true;
}

/* After a delivery, or instead of one: starts the receive again, parks it or ends it. */
static void receive_go_on(iocp_worker *worker, iocp_request *request) {
    iocp_socket *socket = request->socket;
    if (socket->receive_buffer != NULL &&
        (atomic_load_explicit(&socket->state, memory_order_relaxed) & IOCP_PAUSED) != 0) {
        /* A paused socket pins no buffer either. */
        tp__iocp_buffer_give(socket->port, socket->receive_buffer);
        socket->receive_buffer = NULL;
    }
    if (receive_park(socket)) {
        return;
    }
    if (tp__iocp_is_closing(socket)) {
        receive_end(worker, request, TP_ERR_CANCELLED, 0);
        return;
    }
    tp__iocp_enter_again(socket);
    receive_start(worker, socket);
    tp__iocp_leave(worker, socket, 1);
}

/* True if bytes may be delivered now. */
static bool receive_is_open(iocp_socket *socket) {
    return (atomic_load(&socket->state) & (IOCP_PAUSED | IOCP_CLOSING)) == 0;
}

/* A receive without a buffer has completed: reads and delivers until nothing is left, or until the
 * socket has used up its read budget. */
static void receive_read_and_deliver(iocp_worker *worker, iocp_request *request) {
    iocp_socket *socket = request->socket;
    size_t size = socket->port->receive_buffer;
    size = size < worker->read_budget ? size : worker->read_budget;
    for (size_t left = worker->read_budget; left >= size && receive_is_open(socket); left -= size) {
        int count = recv(socket->handle, (char *)worker->buffer, (int)size, 0);
        if (count == 0) {
            receive_end(worker, request, TP_ERR_CLOSED, 0);
            return;
        }
        if (count < 0) {
            int code = WSAGetLastError();
            if (code != WSAEWOULDBLOCK) {
                receive_end(worker, request, tp_os_fail(code), code);
                return;
            }
            break;
        }
        receive_deliver(worker, request, worker->buffer, (size_t)count);
        if ((size_t)count < size) {
            break;
        }
    }
    receive_go_on(worker, request);
}

void tp__iocp_received(iocp_worker *worker, iocp_request *request, size_t bytes) {
    iocp_socket *socket = request->socket;
    int code = tp__nt_error((uint32_t)request->overlapped.Internal);
    if (code != 0) {
        receive_end(worker, request, tp_os_translate(code), code);
        return;
    }
    if (socket->receive_buffer == NULL) {
        receive_read_and_deliver(worker, request);
        return;
    }
    if (bytes == 0) {
        receive_end(worker, request, TP_ERR_CLOSED, 0);
        return;
    }
    if (!tp__iocp_is_closing(socket)) { /* also if paused: these bytes have left the kernel */
        receive_deliver(worker, request, socket->receive_buffer, bytes);
    }
    receive_go_on(worker, request);
}

void tp__iocp_receive_ended(iocp_worker *worker, iocp_request *request) {
    receive_end(worker, request, request->waiting.error, request->waiting.os_error);
}

/* ---- pause and resume ------------------------------------------------------------------------ */

void tp__iocp_pause(tp_worker *worker, tp_socket *paused) {
    (void)worker;
    iocp_socket *socket = (iocp_socket *)(void *)paused;
    (void)atomic_fetch_or(&socket->state, IOCP_PAUSED);
}

void tp__iocp_resume(tp_worker *on, tp_socket *resumed) {
    iocp_worker *worker = (iocp_worker *)(void *)on;
    iocp_socket *socket = (iocp_socket *)(void *)resumed;
    uint64_t state = atomic_load(&socket->state);
    do {
        if ((state & IOCP_PAUSED) == 0 || (state & IOCP_CLOSING) != 0) {
            return; /* closing: close ends the receive */
        }
        /* With PARKED, this thread becomes the receive's holder and gets its count; to start it
         * takes one more. */
    } while (!atomic_compare_exchange_weak(&socket->state, &state,
        (state & ~(IOCP_PAUSED | IOCP_PARKED)) + ((state & IOCP_PARKED) != 0 ? 1 : 0)));
    if ((state & IOCP_PARKED) == 0) {
        return;
    }
    receive_start(worker, socket);
    tp__iocp_leave(worker, socket, 1);
}

void tp__iocp_end_parked_receive(iocp_socket *socket) {
    receive_end_later(socket->receive, TP_ERR_CANCELLED, 0);
    tp__iocp_queue(socket->port, socket->receive);
}
