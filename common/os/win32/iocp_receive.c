/*
 * Receiving: one WSARecv in progress at a time, again and again until the end.
 *
 * ORDER, AND NEVER TWO AT A TIME. A socket's receive is in exactly one place: with the kernel (one
 * WSARecv), with the worker that took its completion, parked, or on its way as IOCP_RECEIVE_ENDED.
 * Only the worker that has it reads the socket and calls done, and it gives it to the kernel again
 * after done has returned. So two workers never deliver for one socket at once, the bytes come out
 * in the order they were read, and `receive`, `receive_buffer` need no lock: the kernel's queue, or
 * the exchange on `state` that parks and takes, passes them from one holder to the next.
 *
 * WITHOUT A BUFFER (the default) the WSARecv asks for 0 bytes: it completes when there is something
 * to read, and the bytes are read into the worker's own buffer. An idle connection pins no memory.
 * WITH A POSTED BUFFER the kernel copies into it as soon as bytes come. Which of the two it is, is
 * decided at each start; if there is no memory for a buffer, it is the first.
 *
 * PAUSED means that the next WSARecv is not started: the holder parks the receive by setting
 * PARKED, only if PAUSED is still set and CLOSING is not. Whoever then clears PARKED has it: resume
 * (to start it) or close (to end it). One word, so exactly one of them.
 *
 * AFTER CLOSE nothing is read any more: the holder looks at CLOSING before each delivery.
 */
#include "os/error.h"
#include "os/win32/iocp.h"
#include "os/win32/nt_error.h"

static void end(iocp_worker *worker, iocp_request *request, tp_err error, int os_error) {
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

static void end_later(iocp_request *request, tp_err error, int os_error) {
    request->kind = IOCP_RECEIVE_ENDED;
    request->waiting.error = error;
    request->waiting.os_error = os_error;
}

static void deliver(
    iocp_worker *worker, iocp_request *request, const uint8_t *bytes, size_t count) {
    tp__iocp_done(
        worker, request, &(tp_completion){.bytes = bytes, .count = count, .handle = TP_NO_HANDLE});
}

/* Gives the receive to the kernel, or a refusal to the ready list. The holder calls, with a count
 * beside the receive's. */
static void start(iocp_worker *worker, iocp_socket *socket) {
    iocp_port *port = socket->port;
    iocp_request *request = socket->receive;
    if (port->post_receive_buffers && socket->receive_buffer == NULL) {
        socket->receive_buffer = tp__iocp_buffer_take(port);
    }
    WSABUF room = {
        .buf = (char *)socket->receive_buffer,
        .len = socket->receive_buffer != NULL ? (ULONG)port->receive_buffer : 0,
    };
    DWORD flags = 0;
    request->kind = IOCP_RECEIVE;
    request->overlapped = (OVERLAPPED){0};
    if (WSARecv(socket->handle, &room, 1, NULL, &flags, &request->overlapped, NULL) != 0) {
        int code = WSAGetLastError();
        if (code != WSA_IO_PENDING) {
            end_later(request, tp_os_fail(code), code);
            tp__iocp_ready(worker, request);
            return;
        }
    }
    tp__iocp_started(socket, request);
}

tp_err tp__iocp_receive(tp_worker *on, tp_socket *from, tp_op *op) {
    iocp_worker *worker = (iocp_worker *)(void *)on;
    iocp_socket *socket = (iocp_socket *)(void *)from;
    if (!tp__iocp_enter(socket, 2)) { /* the operation's and ours */
        (void)tp_os_fail(0);
        return TP_ERR_CANCELLED;
    }
    socket->receive = &((iocp_op *)(void *)op)->request;
    socket->receive->socket = socket;
    start(worker, socket);
    tp__iocp_leave(worker, socket, 1);
    return TP_OK;
}

/* The holder, if the receive is paused: parks it. True: it is no longer his. */
static bool park(iocp_socket *socket) {
    uint64_t state = atomic_load(&socket->state);
    do {
        if ((state & IOCP_PAUSED) == 0 || (state & IOCP_CLOSING) != 0) {
            return false;
        }
    } while (!atomic_compare_exchange_weak(&socket->state, &state, state | IOCP_PARKED));
    return true;
}

/* After a delivery, or instead of one. */
static void go_on(iocp_worker *worker, iocp_request *request) {
    iocp_socket *socket = request->socket;
    if (socket->receive_buffer != NULL &&
        (atomic_load_explicit(&socket->state, memory_order_relaxed) & IOCP_PAUSED) != 0) {
        /* A paused socket pins no buffer either. */
        tp__iocp_buffer_give(socket->port, socket->receive_buffer);
        socket->receive_buffer = NULL;
    }
    if (park(socket)) {
        return;
    }
    if (tp__iocp_is_closing(socket)) {
        end(worker, request, TP_ERR_CANCELLED, 0);
        return;
    }
    tp__iocp_enter_again(socket);
    start(worker, socket);
    tp__iocp_leave(worker, socket, 1);
}

/* May bytes be handed out now? */
static bool open_for_delivery(iocp_socket *socket) {
    return (atomic_load(&socket->state) & (IOCP_PAUSED | IOCP_CLOSING)) == 0;
}

/* A receive without a buffer has completed: reads until there is no more, or its share of the
 * batch. */
static void read_and_deliver(iocp_worker *worker, iocp_request *request) {
    iocp_socket *socket = request->socket;
    size_t size = socket->port->receive_buffer;
    size = size < worker->share ? size : worker->share;
    for (size_t left = worker->share; left >= size && open_for_delivery(socket); left -= size) {
        int count = recv(socket->handle, (char *)worker->buffer, (int)size, 0);
        if (count == 0) {
            end(worker, request, TP_ERR_CLOSED, 0);
            return;
        }
        if (count < 0) {
            int code = WSAGetLastError();
            if (code != WSAEWOULDBLOCK) {
                end(worker, request, tp_os_fail(code), code);
                return;
            }
            break;
        }
        deliver(worker, request, worker->buffer, (size_t)count);
        if ((size_t)count < size) {
            break;
        }
    }
    go_on(worker, request);
}

void tp__iocp_received(iocp_worker *worker, iocp_request *request, size_t bytes) {
    iocp_socket *socket = request->socket;
    int code = tp__nt_error((uint32_t)request->overlapped.Internal);
    if (code != 0) {
        end(worker, request, tp_os_translate(code), code);
        return;
    }
    if (socket->receive_buffer == NULL) {
        read_and_deliver(worker, request);
        return;
    }
    if (bytes == 0) {
        end(worker, request, TP_ERR_CLOSED, 0);
        return;
    }
    if (!tp__iocp_is_closing(socket)) { /* perhaps paused: these bytes have left the kernel */
        deliver(worker, request, socket->receive_buffer, bytes);
    }
    go_on(worker, request);
}

void tp__iocp_receive_ended(iocp_worker *worker, iocp_request *request) {
    end(worker, request, request->waiting.error, request->waiting.os_error);
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
            return; /* closing: the receive is at its end already */
        }
        /* With PARKED, the receive becomes ours, and so does its count; we need one more to
         * start. */
    } while (!atomic_compare_exchange_weak(&socket->state, &state,
        (state & ~(IOCP_PAUSED | IOCP_PARKED)) + ((state & IOCP_PARKED) != 0 ? 1 : 0)));
    if ((state & IOCP_PARKED) == 0) {
        return;
    }
    start(worker, socket);
    tp__iocp_leave(worker, socket, 1);
}

void tp__iocp_end_parked_receive(iocp_socket *socket) {
    end_later(socket->receive, TP_ERR_CANCELLED, 0);
    tp__iocp_queue(socket->port, socket->receive);
}
