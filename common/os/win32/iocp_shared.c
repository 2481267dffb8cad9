/*
 * Work that any worker may take: posts without a socket, connections that were accepted, failures
 * to accept, and retries. None of it may depend on one worker, because any worker may be blocked.
 *
 * Any thread adds work, and workers take it and run it (iocp_dispatch.c). The kernel gives a worker
 * up to IOCP_ENTRIES packets at once, and the worker that runs one of them may block in its `done`.
 * So packets of these kinds first go on a list of the port, from which a worker takes one entry at
 * a time. A worker that takes an entry and leaves others queues a wake-up packet, which makes a
 * worker look at this list. The kernel gives the packet to a worker that waits for packets, which
 * is not blocked. At most one wake-up packet is queued at a time: `wake_queued` is set from the
 * post until a worker has taken the packet.
 *
 * If the kernel refuses a wake-up packet (no non-paged pool), the entries are seen all the same:
 * each worker looks at the list before each of its waits.
 */
#include "os/win32/iocp_port.h"

bool tp__iocp_is_shared(const iocp_request *request) {
    switch ((iocp_kind)request->kind) {
    case IOCP_POSTED:
    case IOCP_ACCEPT:
    case IOCP_ACCEPT_FAILED:
    case IOCP_SERIAL_RETRY:
        return true;
    default:
        return false;
    }
}

void tp__iocp_wake_one(iocp_port *port) {
    if (!atomic_exchange(&port->wake_queued, true) &&
        !PostQueuedCompletionStatus(port->kernel, 0, 0, NULL)) {
        atomic_store(&port->wake_queued, false);
    }
}

void tp__iocp_share(iocp_port *port, iocp_request *request) {
    request->waiting.next = NULL;
    AcquireSRWLockExclusive(&port->shared_lock);
    if (port->shared_first == NULL) {
        port->shared_first = request;
    } else {
        port->shared_last->waiting.next = request;
    }
    port->shared_last = request;
    atomic_fetch_add(&port->shared_count, 1);
    ReleaseSRWLockExclusive(&port->shared_lock);
}

iocp_request *tp__iocp_take_shared(iocp_port *port, bool *more) {
    AcquireSRWLockExclusive(&port->shared_lock);
    iocp_request *request = port->shared_first;
    if (request != NULL) {
        port->shared_first = request->waiting.next;
        atomic_fetch_sub(&port->shared_count, 1);
    }
    *more = port->shared_first != NULL;
    ReleaseSRWLockExclusive(&port->shared_lock);
    return request;
}

bool tp__iocp_has_shared(iocp_port *port) {
    return atomic_load(&port->shared_count) > 0;
}
