/*
 * A listener of the iocp back end: what iocp_accept.c, iocp_listen.c, iocp_post.c and
 * iocp_retries.c share.
 */
#ifndef TWINPORT_OS_WIN32_IOCP_LISTENER_H
#define TWINPORT_OS_WIN32_IOCP_LISTENER_H

#include "os/win32/iocp_port.h"

#define SLOTS 16

/* AcceptEx needs 16 bytes more than the address. */
#define ADDRESS_SIZE (sizeof(struct sockaddr_in6) + 16)

typedef struct slot {
    iocp_request request;
    SOCKET handle; /* INVALID_SOCKET: the slot is idle */
    int os_error;  /* the result of the AcceptEx */
    uint8_t addresses[2 * ADDRESS_SIZE];
} slot;

struct iocp_listener {
    iocp_socket *socket;
    /* tp__iocp_accept_event(), for the serialiser, which stands below accepting. */
    void (*event)(iocp_worker *worker, iocp_request *request);
    iocp_request *accept; /* the op of tp_socket_accept(), until its last delivery; or NULL */
    int family;
    unsigned armed; /* slots with an AcceptEx in progress, or whose event has not run yet */
    bool closing;   /* IOCP_SERIAL_UNLISTEN has run */
    iocp_request unlisten;
    iocp_request retry;
    iocp_request delivered;
    atomic_bool delivered_queued; /* `delivered` is in the serialiser */
    atomic_uint delivering;       /* deliveries that run or are to come */
    iocp_request failure;
    atomic_bool failure_queued; /* `failure` is shared: the next two fields are in use */
    tp_err failure_error;
    int failure_os_error;
    slot slots[SLOTS];
    bool retrying; /* from the failure until IOCP_SERIAL_RETRY has run */
    /* Guarded by port->retries_lock. */
    uint64_t retry_at;
    iocp_listener *next_retry;
};

/* Adds the listener to the list of retries. In its serialiser. */
void tp__iocp_retry_later(iocp_listener *listener);
/* Removes the listener from the list, if it is on it, and gives the entry's count back. In its
 * serialiser, when it closes. */
void tp__iocp_forget_retry(iocp_worker *worker, iocp_listener *listener);

#endif
