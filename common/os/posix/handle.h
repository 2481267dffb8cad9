/*
 * Descriptors of TCP sockets and the addresses they speak of: what every back end on POSIX shares.
 */
#ifndef TWINPORT_OS_POSIX_HANDLE_H
#define TWINPORT_OS_POSIX_HANDLE_H

#include <sys/socket.h>

#include "os/port.h"

/* Room for a socket address of either family. */
typedef union tp__sockaddr {
    struct sockaddr any;
    struct sockaddr_storage storage;
} tp__sockaddr;

/* IPv4-mapped addresses become AF_INET, all others AF_INET6. Returns the size that is used. */
socklen_t tp__sockaddr_from_address(const tp_address *address, tp__sockaddr *system);
void tp__sockaddr_to_address(const tp__sockaddr *system, tp_address *address);

/* A non-blocking TCP socket of the family that `address` needs. On error *descriptor is -1. */
tp_err tp__handle_open(const tp_address *address, int *descriptor);

/* TP_OK or what tp_os_fail() makes of the refusal. */
tp_err tp__handle_set_options(int descriptor, const tp_socket_options *options);

/* The address that the socket is bound to. */
tp_err tp__handle_local_address(int descriptor, tp_address *address);

/* Closes; with `reset` the peer sees a reset. */
void tp__handle_close(int descriptor, bool reset);

#endif
