/*
 * Sending: one gathered WSASend per operation.
 *
 * Started by workers; completed on whichever worker takes the completion. The buffers and what they
 * point to are the caller's, lent until done. The kernel copies the WSABUF array during the call,
 * so it lives on the stack.
 *
 * An overlapped WSASend on a stream socket completes when all of it is with the kernel. A part is
 * still possible by the letter of it, and what would not fit the call's 32-bit sizes is left for
 * the next one: what is missing is sent by another WSASend, until it is all there.
 */
#include "os/error.h"
#include "os/win32/iocp.h"
#include "os/win32/nt_error.h"

#define SENT_MASK (((uint64_t)1 << 48) - 1)

static size_t total(const tp_buffer *buffers, size_t count) {
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        bytes += buffers[i].size;
    }
    return bytes;
}

/* What comes after the first `skip` bytes, at most `room` of it. Returns how many entries. */
static DWORD fill(
    WSABUF *system, const tp_buffer *buffers, size_t count, size_t skip, size_t room) {
    DWORD filled = 0;
    for (size_t i = 0; i < count && room > 0; i++) {
        size_t size = buffers[i].size;
        if (skip >= size) {
            skip -= size;
            continue;
        }
        size_t part = size - skip < room ? size - skip : room;
        system[filled].buf = (char *)(uintptr_t)(buffers[i].bytes + skip);
        system[filled].len = (ULONG)part;
        filled++;
        skip = 0;
        room -= part;
    }
    if (filled == 0) { /* nothing but empty buffers; a call wants at least one */
        system[filled++] = (WSABUF){0};
    }
    return filled;
}

/* Gives what is missing to the kernel, or the refusal to the ready list: a connection that is lost
 * already comes back through done like one that is lost later. The caller holds a count of his
 * own. */
static void start(iocp_worker *worker, iocp_request *request) {
    WSABUF system[TP_PORT_MAX_BUFFERS];
    iocp_socket *socket = request->socket;
    DWORD filled =
        fill(system, request->buffers, request->count, request->sent, socket->port->most_per_send);
    request->overlapped = (OVERLAPPED){0};
    if (WSASend(socket->handle, system, filled, NULL, 0, &request->overlapped, NULL) != 0) {
        int code = WSAGetLastError();
        if (code != WSA_IO_PENDING) {
            request->kind = IOCP_SEND_FAILED;
            request->waiting.os_error = code;
            request->waiting.error = tp_os_fail(code);
            tp__iocp_ready(worker, request);
            return;
        }
    }
    tp__iocp_started(socket, request);
}

tp_err tp__iocp_send(
    tp_worker *on, tp_socket *to, tp_op *op, const tp_buffer *buffers, size_t count) {
    iocp_worker *worker = (iocp_worker *)(void *)on;
    iocp_socket *socket = (iocp_socket *)(void *)to;
    iocp_request *request = &((iocp_op *)(void *)op)->request;
    if (!tp__iocp_enter(socket, 2)) { /* the operation's and ours */
        (void)tp_os_fail(0);
        return TP_ERR_CANCELLED;
    }
    request->socket = socket;
    request->buffers = buffers;
    request->kind = IOCP_SEND;
    request->count = (uint8_t)count;
    request->sent = 0;
    start(worker, request);
    tp__iocp_leave(worker, socket, 1);
    return TP_OK;
}

/*
 * Without an OVERLAPPED the call is an ordinary one on a socket that does not block: it takes what
 * there is room for, and no completion follows.
 */
tp_err tp__iocp_send_now(
    tp_worker *on, tp_socket *to, const tp_buffer *buffers, size_t count, size_t *sent) {
    iocp_worker *worker = (iocp_worker *)(void *)on;
    iocp_socket *socket = (iocp_socket *)(void *)to;
    WSABUF system[TP_PORT_MAX_BUFFERS];
    if (!tp__iocp_enter(socket, 1)) {
        (void)tp_os_fail(0);
        return TP_ERR_CANCELLED;
    }
    DWORD filled = fill(system, buffers, count, 0, socket->port->most_per_send);
    DWORD taken = 0;
    tp_err error = TP_OK;
    if (WSASend(socket->handle, system, filled, &taken, 0, NULL, NULL) == 0) {
        *sent = taken;
    } else if (WSAGetLastError() != WSAEWOULDBLOCK) {
        error = tp_os_fail_last();
    }
    tp__iocp_leave(worker, socket, 1);
    return error;
}

/* The system has the buffers until the completion. */
bool tp__iocp_send_take_back(tp_worker *worker, tp_socket *socket, tp_op *op, size_t *sent) {
    (void)worker;
    (void)socket;
    (void)op;
    (void)sent;
    return false;
}

static void end(iocp_worker *worker, iocp_request *request, tp_err error, int os_error) {
    iocp_socket *socket = request->socket;
    if (error != TP_OK && tp__iocp_is_closing(socket)) {
        error = TP_ERR_CANCELLED;
    }
    tp__iocp_done(worker, request,
        &(tp_completion){.error = error,
            .os_error = os_error,
            .last = true,
            .count = request->sent,
            .handle = TP_NO_HANDLE});
    tp__iocp_leave(worker, socket, 1);
}

void tp__iocp_sent(iocp_worker *worker, iocp_request *request, size_t bytes) {
    iocp_socket *socket = request->socket;
    int code = tp__nt_error((uint32_t)request->overlapped.Internal);
    request->sent = (request->sent + bytes) & SENT_MASK; /* addresses have no more bits */
    if (code == 0 && request->sent < total(request->buffers, request->count)) {
        tp__iocp_enter_again(socket);
        start(worker, request);
        tp__iocp_leave(worker, socket, 1);
        return;
    }
    end(worker, request, tp_os_translate(code), code);
}

void tp__iocp_send_failed(iocp_worker *worker, iocp_request *request) {
    end(worker, request, request->waiting.error, request->waiting.os_error);
}
