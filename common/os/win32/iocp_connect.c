/*
 * Connecting, by ConnectEx. Started on any thread, completed on any worker.
 */
#include <string.h>

#include "os/error.h"
#include "os/win32/iocp_port.h"
#include "os/win32/nt_error.h"

/* ConnectEx needs a bound socket: any address, any port. */
static tp_err bind_any(SOCKET handle, int family) {
    tp__sockaddr any = {.any = {.sa_family = (ADDRESS_FAMILY)family}};
    int size = (int)(family == AF_INET ? sizeof any.in : sizeof any.in6);
    return bind(handle, &any.any, size) == 0 ? TP_OK : tp_os_fail_last();
}

static tp_err open_socket(iocp_port *port, iocp_socket *socket, const tp_address *address,
    const tp_socket_options *options) {
    SOCKET handle;
    int family = tp__address_family(address);
    tp_err error = tp__handle_open(family, &handle);
    if (error != TP_OK) {
        return error;
    }
    error = tp__handle_set_options(handle, options);
    if (error == TP_OK) {
        error = bind_any(handle, family);
    }
    if (error == TP_OK) {
        error = tp__iocp_adopt(port, socket, handle);
    }
    if (error != TP_OK) {
        tp_handle_close((tp_handle)handle, false);
    }
    return error;
}

tp_err tp__iocp_connect(tp_port *head, tp_socket *connecting, const tp_address *address,
    const tp_socket_options *options, tp_op *op) {
    iocp_port *port = (iocp_port *)(void *)head;
    iocp_socket *socket = (iocp_socket *)(void *)connecting;
    tp_err error = open_socket(port, socket, address, options);
    if (error != TP_OK) {
        return error;
    }
    tp__sockaddr system;
    int size = tp__sockaddr_from_address(address, &system);
    iocp_request *request = &((iocp_op *)(void *)op)->request;
    request->socket = socket;
    request->kind = IOCP_CONNECT;
    request->overlapped = (OVERLAPPED){0};
    /* The operation's count and this thread's. It cannot fail: no other thread has the socket
     * yet. */
    (void)tp__iocp_enter(socket, 2);
    if (!port->connect_ex(socket->handle, &system.any, size, NULL, 0, NULL, &request->overlapped)) {
        int code = WSAGetLastError();
        if (code != WSA_IO_PENDING) {
            tp__iocp_abandon(socket);
            return tp_os_fail(code);
        }
    }
    /* The op may have come back, and its `done` have closed the socket: this thread's count keeps
     * it. */
    tp__iocp_started(socket, request);
    tp__iocp_leave(NULL, socket, 1);
    return TP_OK;
}

/*
 * True if TCP has connected the socket to itself. The port that bind_any() got may be the very one
 * to connect to. A client that tries again to reach a server which is down would then occupy the
 * server's port. As nothing listens there, it is a refusal.
 */
static bool is_connected_to_itself(SOCKET handle) {
    tp__sockaddr local = {0}, peer = {0};
    int local_size = sizeof local, peer_size = sizeof peer;
    return getsockname(handle, &local.any, &local_size) == 0 &&
           getpeername(handle, &peer.any, &peer_size) == 0 && local_size == peer_size &&
           memcmp(&local, &peer, (size_t)local_size) == 0;
}

void tp__iocp_connected(iocp_worker *worker, iocp_request *request) {
    iocp_socket *socket = request->socket;
    tp_completion completion = {.last = true, .handle = TP_NO_HANDLE};
    completion.os_error = tp__nt_error((uint32_t)request->overlapped.Internal);
    /* Until this is set, shutdown() and getpeername() fail on the connection. */
    if (completion.os_error == 0 &&
        setsockopt(socket->handle, SOL_SOCKET, SO_UPDATE_CONNECT_CONTEXT, NULL, 0) != 0) {
        completion.os_error = WSAGetLastError();
    }
    if (completion.os_error == 0 && is_connected_to_itself(socket->handle)) {
        completion.os_error = WSAECONNREFUSED;
    }
    completion.error = tp_os_translate(completion.os_error);
    if (completion.error != TP_OK && tp__iocp_is_closing(socket)) {
        completion.error = TP_ERR_CANCELLED;
    }
    tp__iocp_done(worker, request, &completion);
    tp__iocp_leave(worker, socket, 1);
}
