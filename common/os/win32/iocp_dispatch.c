/*
 * Dispatching: runs what the wait took, and then what became ready meanwhile.
 *
 * Runs on the worker's thread and touches only this worker. Each request here was taken by this
 * worker and belongs to no other thread, until it is shared (iocp_shared.c), which happens first.
 *
 * The run budget limits what one dispatch runs beyond the completions that the wait took: ready
 * requests, and a long chain in one socket's serialiser. So dispatch returns soon to the kernel's
 * queue, where the completions of all other sockets are.
 */
#include "os/win32/iocp_port.h"

#define RUN_BUDGET 128

void tp__iocp_ready(iocp_worker *worker, iocp_request *request) {
    request->waiting.next = NULL;
    if (worker->ready_first == NULL) {
        worker->ready_first = request;
    } else {
        worker->ready_last->waiting.next = request;
    }
    worker->ready_last = request;
}

static iocp_request *take_ready(iocp_worker *worker) {
    iocp_request *request = worker->ready_first;
    worker->ready_first = request->waiting.next;
    return request;
}

void tp__iocp_done(iocp_worker *worker, iocp_request *request, tp_completion *completion) {
    iocp_op *op = TP_CONTAINER_OF(request, iocp_op, request);
    completion->worker = &worker->head;
    worker->ran++;
    op->done((tp_op *)(void *)op, completion);
}

void tp__iocp_run(iocp_worker *worker, iocp_request *request, size_t bytes) {
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

size_t tp__iocp_dispatch(tp_worker *head) {
    iocp_worker *worker = (iocp_worker *)(void *)head;
    worker->ran = 0;
    worker->run_budget = RUN_BUDGET;
    share_entries(worker);
    size_t share = IOCP_BATCH_BYTES / (worker->taken > 0 ? worker->taken : 1);
    worker->read_budget = share > IOCP_MIN_READ_BUDGET ? share : IOCP_MIN_READ_BUDGET;
    tp__iocp_run_shared(worker);
    for (ULONG i = 0; i < worker->taken; i++) {
        tp__iocp_run(
            worker, request_of(&worker->entries[i]), worker->entries[i].dwNumberOfBytesTransferred);
    }
    worker->taken = 0;
    while (worker->ready_first != NULL && worker->run_budget > 0) {
        worker->run_budget--;
        tp__iocp_run(worker, take_ready(worker), 0);
    }
    return worker->ran;
}
