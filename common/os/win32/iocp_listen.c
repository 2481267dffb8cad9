/*
 * A listener's life: bound, attached, closed.
 *
 * Listening and closing run on any thread. The socket owns its listener, which is freed with the
 * socket's last count (iocp_socket.c).
 */
#include <limits.h>
#include <stdlib.h>

#include "os/error.h"
#include "os/win32/iocp_listener.h"

static iocp_listener *listener_new(iocp_socket *socket, int family) {
    iocp_listener *listener = calloc(1, sizeof *listener);
    if (listener == NULL) {
        return NULL;
    }
    listener->socket = socket;
    listener->event = tp__iocp_accept_event;
    listener->family = family;
    listener->unlisten.socket = socket;
    listener->unlisten.kind = IOCP_SERIAL_UNLISTEN;
    listener->retry.socket = socket;
    listener->retry.kind = IOCP_SERIAL_RETRY;
    listener->delivered.socket = socket;
    listener->delivered.kind = IOCP_SERIAL_DELIVERED;
    listener->failure.socket = socket;
    listener->failure.kind = IOCP_ACCEPT_FAILED;
    for (size_t i = 0; i < SLOTS; i++) {
        listener->slots[i].request.socket = socket;
        listener->slots[i].handle = INVALID_SOCKET;
    }
    return listener;
}

static tp_err bind_and_listen(SOCKET handle, const tp_address *address, unsigned backlog) {
    tp__sockaddr system;
    int size = tp__sockaddr_from_address(address, &system);
    /* Otherwise another program could bind the same port and take connections away. */
    tp_err error = tp__handle_set_number(handle, SOL_SOCKET, SO_EXCLUSIVEADDRUSE, 1);
    if (error == TP_OK && system.any.sa_family == AF_INET6) {
        /* [::] listens to both families, as on Linux. */
        error = tp__handle_set_number(handle, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    }
    if (error == TP_OK && (bind(handle, &system.any, size) != 0 ||
                              listen(handle, backlog < INT_MAX ? (int)backlog : INT_MAX) != 0)) {
        error = tp_os_fail_last();
    }
    return error;
}

tp_err tp__iocp_listen(tp_port *port, tp_socket *listening, const tp_address *address,
    unsigned backlog, tp_address *bound) {
    iocp_socket *socket = (iocp_socket *)(void *)listening;
    SOCKET handle;
    tp_address actual;
    int family = tp__address_family(address);
    tp_err error = tp__handle_open(family, &handle);
    if (error != TP_OK) {
        return error;
    }
    error = bind_and_listen(handle, address, backlog);
    if (error == TP_OK) {
        error = tp__handle_local_address(handle, &actual);
    }
    if (error == TP_OK) {
        error = tp__iocp_adopt((iocp_port *)(void *)port, socket, handle);
    }
    if (error != TP_OK) {
        tp_handle_close((tp_handle)handle, false);
        return error;
    }
    socket->listener = listener_new(socket, family);
    if (socket->listener == NULL) {
        tp__iocp_abandon(socket);
        return TP_ERR_NO_MEMORY;
    }
    if (bound != NULL) {
        *bound = actual;
    }
    return TP_OK;
}

/* The caller, tp__iocp_close(), holds the open count; the event gets one more. */
void tp__iocp_unlisten(iocp_socket *socket) {
    iocp_listener *listener = socket->listener;
    tp__iocp_enter_again(socket);
    if (tp__iocp_serialise(socket, &listener->unlisten)) {
        tp__iocp_queue(socket->port, &listener->unlisten);
    }
}
