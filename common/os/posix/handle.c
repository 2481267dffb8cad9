/*
 * Descriptors of TCP sockets: opening, options, addresses, closing. Any thread; owns nothing. The
 * caller owns the descriptors.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#include "os/error.h"
#include "os/posix/handle.h"

static const unsigned char mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static bool is_ipv4(const tp_address *address) {
    return memcmp(address->ip, mapped_prefix, sizeof mapped_prefix) == 0;
}

socklen_t tp__sockaddr_from_address(const tp_address *address, tp__sockaddr *system) {
    memset(system, 0, sizeof *system);
    if (is_ipv4(address)) {
        struct sockaddr_in in;
        memset(&in, 0, sizeof in);
        in.sin_family = AF_INET;
        in.sin_port = htons(address->port);
        memcpy(&in.sin_addr, address->ip + sizeof mapped_prefix, 4);
        memcpy(system, &in, sizeof in);
        return sizeof in;
    }
    struct sockaddr_in6 in6;
    memset(&in6, 0, sizeof in6);
    in6.sin6_family = AF_INET6;
    in6.sin6_port = htons(address->port);
    in6.sin6_scope_id = address->scope;
    memcpy(&in6.sin6_addr, address->ip, sizeof address->ip);
    memcpy(system, &in6, sizeof in6);
    return sizeof in6;
}

void tp__sockaddr_to_address(const tp__sockaddr *system, tp_address *address) {
    memset(address, 0, sizeof *address);
    if (system->any.sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, system, sizeof in);
        memcpy(address->ip, mapped_prefix, sizeof mapped_prefix);
        memcpy(address->ip + sizeof mapped_prefix, &in.sin_addr, 4);
        address->port = ntohs(in.sin_port);
    } else if (system->any.sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, system, sizeof in6);
        memcpy(address->ip, &in6.sin6_addr, sizeof address->ip);
        address->port = ntohs(in6.sin6_port);
        address->scope = in6.sin6_scope_id;
    }
}

tp_err tp__handle_open(const tp_address *address, int *descriptor) {
    int family = is_ipv4(address) ? AF_INET : AF_INET6;
    *descriptor = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
    return *descriptor < 0 ? tp_os_fail_last() : TP_OK;
}

static tp_err set_number(int descriptor, int level, int name, int value) {
    if (setsockopt(descriptor, level, name, &value, sizeof value) != 0) {
        return tp_os_fail_last();
    }
    return TP_OK;
}

/* A connection that has been silent for `seconds` is probed; three unanswered probes, 10 s apart,
 * end it. */
static tp_err set_keepalive(int descriptor, unsigned seconds) {
    enum { MAX_KEEPALIVE_S = 32767, PROBE_INTERVAL_S = 10, PROBES = 3 };
    int idle = seconds < MAX_KEEPALIVE_S ? (int)seconds : MAX_KEEPALIVE_S;
    tp_err error = set_number(descriptor, SOL_SOCKET, SO_KEEPALIVE, 1);
    if (error == TP_OK) {
        error = set_number(descriptor, IPPROTO_TCP, TCP_KEEPIDLE, idle);
    }
    if (error == TP_OK) {
        error = set_number(descriptor, IPPROTO_TCP, TCP_KEEPINTVL, PROBE_INTERVAL_S);
    }
    if (error == TP_OK) {
        error = set_number(descriptor, IPPROTO_TCP, TCP_KEEPCNT, PROBES);
    }
    return error;
}

tp_err tp__handle_set_options(int descriptor, const tp_socket_options *options) {
    tp_err error = TP_OK;
    if (options != NULL && options->nodelay) {
        error = set_number(descriptor, IPPROTO_TCP, TCP_NODELAY, 1);
    }
    if (error == TP_OK && options != NULL && options->keepalive_s > 0) {
        error = set_keepalive(descriptor, options->keepalive_s);
    }
    return error;
}

tp_err tp__handle_local_address(int descriptor, tp_address *address) {
    tp__sockaddr system;
    socklen_t size = sizeof system;
    memset(&system, 0, sizeof system);
    if (getsockname(descriptor, &system.any, &size) != 0) {
        (void)tp_os_fail_last();
        return TP_ERR_OS;
    }
    tp__sockaddr_to_address(&system, address);
    return TP_OK;
}

void tp__handle_close(int descriptor, bool reset) {
    if (reset) {
        const struct linger now = {.l_onoff = 1, .l_linger = 0};
        /* Fails only if the descriptor is not a socket, and then there is nothing to reset. */
        (void)setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }
    /* Not repeated after EINTR: Linux has freed the number by then, and another thread may have got
     * it. */
    (void)close(descriptor);
}

void tp_handle_close(tp_handle handle, bool reset) {
    if (handle != TP_NO_HANDLE) {
        tp__handle_close((int)handle, reset);
    }
}
