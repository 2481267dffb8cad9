/*
 * A listener of the iocp back end: what accepting (iocp_accept.c) and its pauses (iocp_retries.c)
 * share.
 */
#ifndef TWINPORT_OS_WIN32_IOCP_LISTENER_H
#define TWINPORT_OS_WIN32_IOCP_LISTENER_H

#include "os/win32/iocp.h"

#define SLOTS 16

/* AcceptEx wants 16 bytes more than the address. */
#define ADDRESS_ROOM (sizeof(struct sockaddr_in6) + 16)

typedef struct slot {
    iocp_request request;
    SOCKET handle; /* INVALID_SOCKET: idle */
    int os_error;  /* how the AcceptEx ended */
    uint8_t addresses[2 * ADDRESS_ROOM];
} slot;

struct iocp_listener {
    iocp_socket *socket;
    iocp_request *accept; /* the op of tp_socket_accept, from its start to its last delivery */
    int family;
    unsigned armed;
    bool closing; /* IOCP_TURN_UNLISTEN has run */
    iocp_request unlisten;
    iocp_request retry;
    iocp_request delivered;
    atomic_bool delivered_queued; /* it is in the turn */
    atomic_uint delivering;
    iocp_request failure;
    atomic_bool failure_queued; /* it is shared, and these two are its own */
    tp_err failure_error;
    int failure_os_error;
    slot slots[SLOTS];
    bool retrying; /* from the failure until IOCP_TURN_RETRY has run */
    /* Guarded by port->retries_lock. */
    uint64_t retry_at;
    iocp_listener *next_retry;
};

/* Puts the listener on the list of retries. In turn. */
void tp__iocp_retry_later(iocp_listener *listener);
/* In turn, at the end: gives the entry's count back, if it is still there. */
void tp__iocp_forget_retry(iocp_worker *worker, iocp_listener *listener);

#endif
