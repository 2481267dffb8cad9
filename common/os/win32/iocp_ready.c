/*
 * Ready requests: a worker's list, the kernel's queue, and the overflow list behind that queue. And
 * the call of `done`, with which a request ends.
 *
 * tp__iocp_queue(): any thread; the others: the worker's thread. The worker owns its ready list,
 * the port the overflow list.
 *
 * THE OVERFLOW LIST. The kernel needs memory for a packet and may have none (non-paged pool). A
 * request that the kernel refuses is pushed onto the port's overflow list, a stack onto which any
 * thread pushes and which a worker takes as a whole. So nothing that was promised to come back is
 * lost; it is late by at most one slice of a wait (iocp_wait.c). The exchange takes all nodes, so
 * no node is ever compared with one that was freed (no ABA).
 */
#include "os/chain.h"
#include "os/win32/iocp_port.h"

void tp__iocp_ready(iocp_worker *worker, iocp_request *request) {
    request->waiting.next = NULL;
    if (worker->ready_first == NULL) {
        worker->ready_first = request;
    } else {
        worker->ready_last->waiting.next = request;
    }
    worker->ready_last = request;
}

iocp_request *tp__iocp_take_ready(iocp_worker *worker) {
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

void tp__iocp_queue(iocp_port *port, iocp_request *request) {
    if (TP_LIKELY(PostQueuedCompletionStatus(port->kernel, 0, 0, &request->overlapped))) {
        return;
    }
    iocp_request *first = atomic_load_explicit(&port->overflow, memory_order_relaxed);
    do {
        request->waiting.next = first;
    } while (!atomic_compare_exchange_weak_explicit(
        &port->overflow, &first, request, memory_order_release, memory_order_relaxed));
}

void tp__iocp_take_overflow(iocp_worker *worker) {
    iocp_request *newest =
        atomic_exchange_explicit(&iocp_port_of(worker)->overflow, NULL, memory_order_acquire);
    iocp_request *oldest = tp__chain_reverse(newest, offsetof(iocp_request, waiting.next));
    while (oldest != NULL) {
        iocp_request *next = oldest->waiting.next;
        if (tp__iocp_is_shared(oldest)) {
            tp__iocp_share(iocp_port_of(worker), oldest);
        } else {
            tp__iocp_ready(worker, oldest);
        }
        oldest = next;
    }
}
