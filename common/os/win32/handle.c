/*
 * SOCKETs outside of the port: opening, options, addresses, closing. Any thread; owns nothing.
 */
#include "os/win32/handle.h"

#include <string.h>

#include "os/error.h"

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

int tp__address_family(const tp_address *address) {
    return memcmp(address->ip, mapped_prefix, sizeof mapped_prefix) == 0 ? AF_INET : AF_INET6;
}

int tp__sockaddr_from_address(const tp_address *address, tp__sockaddr *system) {
    memset(system, 0, sizeof *system);
    if (tp__address_family(address) == AF_INET) {
        system->in.sin_family = AF_INET;
        system->in.sin_port = htons(address->port);
        memcpy(&system->in.sin_addr, address->ip + sizeof mapped_prefix, 4);
        return (int)sizeof system->in;
    }
    system->in6.sin6_family = AF_INET6;
    system->in6.sin6_port = htons(address->port);
    memcpy(&system->in6.sin6_addr, address->ip, sizeof address->ip);
    system->in6.sin6_scope_id = address->scope;
    return (int)sizeof system->in6;
}

void tp__sockaddr_to_address(const tp__sockaddr *system, tp_address *address) {
    memset(address, 0, sizeof *address);
    if (system->any.sa_family == AF_INET) {
        memcpy(address->ip, mapped_prefix, sizeof mapped_prefix);
        memcpy(address->ip + sizeof mapped_prefix, &system->in.sin_addr, 4);
        address->port = ntohs(system->in.sin_port);
    } else if (system->any.sa_family == AF_INET6) {
        memcpy(address->ip, &system->in6.sin6_addr, sizeof address->ip);
        address->port = ntohs(system->in6.sin6_port);
        address->scope = system->in6.sin6_scope_id;
    }
}

tp_err tp__handle_open(int family, SOCKET *handle) {
    *handle = WSASocketW(family, SOCK_STREAM, IPPROTO_TCP, NULL, 0,
        WSA_FLAG_OVERLAPPED | WSA_FLAG_NO_HANDLE_INHERIT);
    return *handle == INVALID_SOCKET ? tp_os_fail_last() : TP_OK;
}

tp_err tp__handle_set_number(SOCKET handle, int level, int name, int value) {
    if (setsockopt(handle, level, name, (const char *)&value, (int)sizeof value) != 0) {
        return tp_os_fail_last();
    }
    return TP_OK;
}

/* A connection that has been silent for `seconds` is probed every 10 s; the system decides how
 * often. */
static tp_err set_keepalive(SOCKET handle, unsigned seconds) {
    enum { MAX_KEEPALIVE_S = 32767, PROBE_INTERVAL_MS = 10000 };
    struct tcp_keepalive wanted = {
        .onoff = 1,
        .keepalivetime = (seconds < MAX_KEEPALIVE_S ? seconds : MAX_KEEPALIVE_S) * 1000u,
        .keepaliveinterval = PROBE_INTERVAL_MS,
    };
    DWORD bytes = 0;
    if (WSAIoctl(handle, SIO_KEEPALIVE_VALS, &wanted, sizeof wanted, NULL, 0, &bytes, NULL, NULL) !=
        0) {
        return tp_os_fail_last();
    }
    return TP_OK;
}

tp_err tp__handle_set_options(SOCKET handle, const tp_socket_options *options) {
    tp_err error = TP_OK;
    if (options != NULL && options->nodelay) {
        error = tp__handle_set_number(handle, IPPROTO_TCP, TCP_NODELAY, 1);
    }
    if (error == TP_OK && options != NULL && options->send_buffer_zero) {
        error = tp__handle_set_number(handle, SOL_SOCKET, SO_SNDBUF, 0);
    }
    if (error == TP_OK && options != NULL && options->keepalive_s > 0) {
        error = set_keepalive(handle, options->keepalive_s);
    }
    return error;
}

tp_err tp__handle_local_address(SOCKET handle, tp_address *address) {
    tp__sockaddr system;
    int size = (int)sizeof system;
    memset(&system, 0, sizeof system);
    if (getsockname(handle, &system.any, &size) != 0) {
        (void)tp_os_fail_last();
        return TP_ERR_OS;
    }
    tp__sockaddr_to_address(&system, address);
    return TP_OK;
}

void tp__handle_set_reset(SOCKET handle) {
    const struct linger now = {.l_onoff = 1, .l_linger = 0};
    /* Fails only if there is no connection, and then there is none to reset. */
    (void)setsockopt(handle, SOL_SOCKET, SO_LINGER, (const char *)&now, (int)sizeof now);
}

void tp_handle_close(tp_handle handle, bool reset) {
    if (handle == TP_NO_HANDLE) {
        return;
    }
    SOCKET system = (SOCKET)handle;
    if (reset) {
        tp__handle_set_reset(system);
    }
    /* The port has nothing in progress on this handle, but it may come from other code, and Wine
     * loses the completion of a send that closesocket() finds in progress. */
    (void)CancelIoEx((HANDLE)system, NULL);
    (void)closesocket(system);
}
