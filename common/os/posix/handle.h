/*
 * Descriptors of TCP sockets, and socket addresses: what all back ends on POSIX share.
 */
#ifndef TWINPORT_OS_POSIX_HANDLE_H
#define TWINPORT_OS_POSIX_HANDLE_H

#include <sys/socket.h>

#include "os/port.h"

/* A socket address of either family. */
typedef union tp__sockaddr {
    struct sockaddr any;
    struct sockaddr_storage storage;
} tp__sockaddr;

/* IPv4-mapped addresses become AF_INET, all others AF_INET6. Returns the size of the address. */
socklen_t tp__sockaddr_from_address(const tp_address *address, tp__sockaddr *system);
void tp__sockaddr_to_address(const tp__sockaddr *system, tp_address *address);

/* Opens a non-blocking TCP socket of the family of `address`, which child processes do not inherit.
 * On error *descriptor is -1. */
tp_err tp__handle_open(const tp_address *address, int *descriptor);

/* TP_OK, or the error of the option that the system refused. `options` may be NULL. */
tp_err tp__handle_set_options(int descriptor, const tp_socket_options *options);

/* The address to which the socket is bound. TP_OK or TP_ERR_OS. */
tp_err tp__handle_local_address(int descriptor, tp_address *address);

/* Closes the descriptor; with `reset` the remote side sees a reset. */
void tp__handle_close(int descriptor, bool reset);

#endif
