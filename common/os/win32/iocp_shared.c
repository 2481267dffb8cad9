/*
 * What any worker may do, and no worker may keep: posts that name no socket, connections that have
 * come, failures to accept, and retries of accepting.
 *
 * The kernel hands a worker up to IOCP_ENTRIES packets at once, and whoever runs one of them may
 * block in the callee. So those of these kinds go on a list of the port's first, from which each
 * worker takes one at a time; who takes one and leaves more behind posts a CALL, a packet that
 * makes a worker look here. The kernel gives it to one that waits for packets, so to one that is
 * not blocked. One call is on its way at most: `called` says so, from the post until a worker has
 * it in its hands.
 *
 * Any thread puts; workers take. A call that the kernel refuses (no non-paged pool) is not needed
 * for what is on the list to be seen: every worker looks before each of its waits.
 */
#include "os/win32/iocp.h"

#define SHARED_PER_TURN 32

bool tp__iocp_is_shared(const iocp_request *request) {
    switch ((iocp_kind)request->kind) {
    case IOCP_POSTED:
    case IOCP_ACCEPT:
    case IOCP_ACCEPT_FAILED:
    case IOCP_TURN_RETRY:
        return true;
    default:
        return false;
    }
}

void tp__iocp_call(iocp_port *port) {
    if (!atomic_exchange(&port->called, true) &&
        !PostQueuedCompletionStatus(port->kernel, 0, 0, NULL)) {
        atomic_store(&port->called, false);
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

static iocp_request *take(iocp_port *port, bool *more) {
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

void tp__iocp_run_shared(iocp_worker *worker) {
    iocp_port *port = iocp_port_of(worker);
    bool more = tp__iocp_has_shared(port);
    for (unsigned taken = 0; more && taken < SHARED_PER_TURN; taken++) {
        iocp_request *request = take(port, &more);
        if (more) {
            tp__iocp_call(port); /* before a callee that may block */
        }
        if (request != NULL) {
            tp__iocp_run(worker, request, 0);
        }
    }
    if (tp__iocp_has_shared(port)) {
        tp__iocp_call(port); /* the packets that this worker has in hand come first now */
    }
}
