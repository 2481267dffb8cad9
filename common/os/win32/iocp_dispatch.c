/*
 * Dispatching: runs what the wait took, and then what became ready meanwhile.
 *
 * Runs on the worker's thread and touches only this worker. Each request here was taken by this
 * worker and belongs to no other thread, until it is shared (iocp_shared.c), which happens first.
 * Dispatch stands above the operations: it calls them by a request's kind, and none calls back.
 *
 * The run budget limits what one dispatch runs beyond the completions that the wait took: ready
 * requests, and a long chain in one socket's serialiser. So dispatch returns soon to the kernel's
 * queue, where the completions of all other sockets are.
 */
#include "os/win32/iocp_port.h"

#define RUN_BUDGET    128
#define SHARED_BUDGET 32 /* shared requests that one dispatch takes before its own completions */

/* Runs a request by its kind. */
static void dispatch_request(iocp_worker *worker, iocp_request *request, size_t bytes) {
    switch ((iocp_kind)request->kind) {
    case IOCP_POSTED:
        tp__iocp_done(worker, request, &(tp_completion){.last = true, .handle = TP_NO_HANDLE});
        return;
    case IOCP_CLOSED:
        tp__iocp_closed(worker, request);
        return;
    case IOCP_CONNECT:
        tp__iocp_connected(worker, request);
        return;
    case IOCP_SEND:
        tp__iocp_sent(worker, request, bytes);
        return;
    case IOCP_SEND_FAILED:
        tp__iocp_send_failed(worker, request);
        return;
    case IOCP_RECEIVE:
        tp__iocp_received(worker, request, bytes);
        return;
    case IOCP_RECEIVE_ENDED:
        tp__iocp_receive_ended(worker, request);
        return;
    case IOCP_ACCEPT:
        tp__iocp_accepted(worker, request);
        return;
    case IOCP_ACCEPT_FAILED:
        tp__iocp_accept_failed(worker, request);
        return;
    case IOCP_SERIAL_POSTED:
    case IOCP_SERIAL_ACCEPTED:
    case IOCP_SERIAL_RETRY:
    case IOCP_SERIAL_UNLISTEN:
    case IOCP_SERIAL_DELIVERED:
        tp__iocp_run_serialised(worker, request->socket);
        return;
    }
}

static iocp_request *request_of(const OVERLAPPED_ENTRY *entry) {
    return TP_CONTAINER_OF(entry->lpOverlapped, iocp_request, overlapped);
}

/* Moves what any worker may take to the shared list: what runs here may block. */
static void share_entries(iocp_worker *worker) {
    iocp_port *port = iocp_port_of(worker);
    ULONG kept = 0;
    for (ULONG i = 0; i < worker->taken; i++) {
        const OVERLAPPED_ENTRY entry = worker->entries[i];
        if (entry.lpOverlapped == NULL) {
            atomic_store(&port->wake_queued, false); /* before the shared list is read */
        } else if (tp__iocp_is_shared(request_of(&entry))) {
            if (request_of(&entry)->kind == IOCP_ACCEPT) {
                tp__iocp_note_accepted(request_of(&entry));
            }
            tp__iocp_share(port, request_of(&entry));
        } else {
            worker->entries[kept++] = entry;
        }
    }
    worker->taken = kept;
}

/* Takes and runs shared requests, within a budget. */
static void dispatch_shared(iocp_worker *worker) {
    iocp_port *port = iocp_port_of(worker);
    bool more = tp__iocp_has_shared(port);
    for (unsigned taken = 0; more && taken < SHARED_BUDGET; taken++) {
        iocp_request *request = tp__iocp_take_shared(port, &more);
        if (more) {
            tp__iocp_wake_one(port); /* before a `done` that may block */
        }
        if (request != NULL) {
            dispatch_request(worker, request, 0);
        }
    }
    if (tp__iocp_has_shared(port)) {
        tp__iocp_wake_one(port); /* this worker runs the packets that it has taken first */
    }
}

size_t tp__iocp_dispatch(tp_worker *head) {
    iocp_worker *worker = (iocp_worker *)(void *)head;
    worker->ran = 0;
    worker->run_budget = RUN_BUDGET;
    share_entries(worker);
    size_t share = IOCP_BATCH_BYTES / (worker->taken > 0 ? worker->taken : 1);
    worker->read_budget = share > IOCP_MIN_READ_BUDGET ? share : IOCP_MIN_READ_BUDGET;
    dispatch_shared(worker);
    for (ULONG i = 0; i < worker->taken; i++) {
        dispatch_request(
            worker, request_of(&worker->entries[i]), worker->entries[i].dwNumberOfBytesTransferred);
    }
    worker->taken = 0;
    while (worker->ready_first != NULL && worker->run_budget > 0) {
        worker->run_budget--;
        dispatch_request(worker, tp__iocp_take_ready(worker), 0);
    }
    return worker->ran;
}
