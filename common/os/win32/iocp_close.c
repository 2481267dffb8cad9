/*
 * Closing a socket, on any thread: cancels what is in progress and gives the open count back. What
 * the last count does, and why no operation is left behind, is in iocp_socket.c.
 */
#include <assert.h>

#include "os/win32/iocp_port.h"

void tp__iocp_close(tp_socket *closed, tp_op *op, bool reset) {
    iocp_socket *socket = (iocp_socket *)(void *)closed;
    socket->close = &((iocp_op *)(void *)op)->request;
    socket->close->kind = IOCP_CLOSED;
    socket->close->socket = socket;
    if (reset) {
        tp__handle_set_reset(socket->handle);
    }
    uint64_t before = atomic_fetch_or(&socket->state, IOCP_CLOSING);
    assert(!(before & IOCP_CLOSING)); /* closed once */
    if (socket->listener != NULL) {
        tp__iocp_unlisten(socket);
    }
    (void)CancelIoEx((HANDLE)socket->handle, NULL);
    if ((before & IOCP_PARKED) != 0) {
        tp__iocp_end_parked_receive(socket);
    }
    tp__iocp_leave(NULL, socket, 1);
}
