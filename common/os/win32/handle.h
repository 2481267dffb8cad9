/*
 * SOCKETs and socket addresses.
 */
#ifndef TWINPORT_OS_WIN32_HANDLE_H
#define TWINPORT_OS_WIN32_HANDLE_H

#include "os/port.h"
#include "os/win32/system.h"

/* A socket address of either family. */
typedef union tp__sockaddr {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
} tp__sockaddr;

/* IPv4-mapped addresses become AF_INET, all others AF_INET6. Returns the size of the address. */
int tp__sockaddr_from_address(const tp_address *address, tp__sockaddr *system);
void tp__sockaddr_to_address(const tp__sockaddr *system, tp_address *address);

int tp__address_family(const tp_address *address);

/* Opens an overlapped TCP socket, which child processes do not inherit. On error *handle is
 * INVALID_SOCKET. */
tp_err tp__handle_open(int family, SOCKET *handle);

/* TP_OK, or the error of the option that the system refused. `options` may be NULL. */
tp_err tp__handle_set_options(SOCKET handle, const tp_socket_options *options);

tp_err tp__handle_set_number(SOCKET handle, int level, int name, int value);

/* The address to which the socket is bound. TP_OK or TP_ERR_OS. */
tp_err tp__handle_local_address(SOCKET handle, tp_address *address);

/* Makes a later close send a reset. */
void tp__handle_set_reset(SOCKET handle);

#endif
