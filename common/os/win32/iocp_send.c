/*
 * Sending: one gathered WSASend per operation.
 *
 * Started by workers; completed on the worker that takes the completion. The buffers and what they
 * point to are the caller's, lent until `done`. The kernel copies the WSABUF array during the call,
 * so the array is on the stack.
 *
 * An overlapped WSASend on a stream socket completes when the kernel has all bytes. Its description
 * permits a partial completion, though, and what does not fit into the call's 32-bit sizes is left
 * over. So what is missing is sent by another WSASend, until the kernel has all of it.
 */
#include "os/error.h"
#include "os/win32/iocp_port.h"
#include "os/win32/nt_error.h"

#define SENT_MASK (((uint64_t)1 << 48) - 1)

static size_t count_bytes(const tp_buffer *buffers, size_t count) {
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        bytes += buffers[i].size;
    }
    return bytes;
}

/* Fills the entries for the bytes after the first `skip`, at most `space` bytes. Returns how many
 * entries that are. */
static DWORD fill_buffers(
    WSABUF *system, const tp_buffer *buffers, size_t count, size_t skip, size_t space) {
    DWORD filled = 0;
    for (size_t i = 0; i < count && space > 0; i++) {
        size_t size = buffers[i].size;
        if (skip >= size) {
            skip -= size;
            continue;
        }
        size_t part = size - skip < space ? size - skip : space;
        system[filled].buf = (char *)(uintptr_t)(buffers[i].bytes + skip);
        system[filled].len = (ULONG)part;
        filled++;
        skip = 0;
        space -= part;
    }
    if (filled == 0) { /* all buffers are empty; the call needs at least one */
        system[filled++] = (WSABUF){0};
    }
    return filled;
}

/* Gives the missing bytes to the kernel. If the call is refused, the request goes on the ready
 * list, so that a connection that is lost already is reported by `done` like one that is lost
 * later. The caller holds a count of its own. */
static void send_start(iocp_worker *worker, iocp_request *request) {
    WSABUF system[TP_PORT_MAX_BUFFERS];
    iocp_socket *socket = request->socket;
    DWORD filled = fill_buffers(
        system, request->buffers, request->count, request->sent, socket->port->max_per_send);
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
    if (!tp__iocp_enter(socket, 2)) { /* the operation's and this thread's */
        (void)tp_os_fail(0);
        return TP_ERR_CANCELLED;
    }
    request->socket = socket;
    request->buffers = buffers;
    request->kind = IOCP_SEND;
    request->count = (uint8_t)count;
    request->sent = 0;
    send_start(worker, request);
    tp__iocp_leave(worker, socket, 1);
    return TP_OK;
}

/* Without an OVERLAPPED this is an ordinary call on a non-blocking socket: the kernel takes what
 * fits, and no completion follows. */
tp_err tp__iocp_send_now(
    tp_worker *on, tp_socket *to, const tp_buffer *buffers, size_t count, size_t *sent) {
    iocp_worker *worker = (iocp_worker *)(void *)on;
    iocp_socket *socket = (iocp_socket *)(void *)to;
    WSABUF system[TP_PORT_MAX_BUFFERS];
    if (!tp__iocp_enter(socket, 1)) {
        (void)tp_os_fail(0);
        return TP_ERR_CANCELLED;
    }
    DWORD filled = fill_buffers(system, buffers, count, 0, socket->port->max_per_send);
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

/* The kernel has the buffers until the completion, so a send is never taken back. */
bool tp__iocp_send_take_back(tp_worker *worker, tp_socket *socket, tp_op *op, size_t *sent) {
    (void)worker;
    (void)socket;
    (void)op;
    (void)sent;
    return false;
}

static void send_end(iocp_worker *worker, iocp_request *request, tp_err error, int os_error) {
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
    request->sent = (request->sent + bytes) & SENT_MASK; /* no address space has more bytes */
    if (code == 0 && request->sent < count_bytes(request->buffers, request->count)) {
        tp__iocp_enter_again(socket);
        send_start(worker, request);
        tp__iocp_leave(worker, socket, 1);
        return;
    }
    send_end(worker, request, tp_os_translate(code), code);
}

void tp__iocp_send_failed(iocp_worker *worker, iocp_request *request) {
    send_end(worker, request, request->waiting.error, request->waiting.os_error);
}
