/*
 * Posting, and a socket's serialiser.
 *
 * Runs on any thread; tp__iocp_run_serialised() on workers. A socket owns its serialiser.
 *
 * THE SERIALISER runs the requests of a socket that need an order one after the other. Any worker
 * takes any packet, and two packets taken by two workers would run in either order. The word
 * `serialiser` is one of:
 *   NULL      idle: no holder, no requests
 *   BUSY      there is a holder, and nothing new
 *   a chain   there is a holder, and these requests came since, newest first
 * A push onto NULL makes a holder: the pushing thread itself or, through the kernel, the worker
 * that takes the packet. The holder takes chains, leaving BUSY, and runs them oldest first. It
 * becomes idle by exchanging BUSY for NULL, which fails if something came meanwhile. So there is at
 * most one holder, and while there is a chain there is exactly one.
 *
 * MEMORY ORDER. A push releases and a take acquires, so the thread that runs a request sees its
 * content. The exchange of BUSY for NULL releases and the push onto NULL acquires, so the next
 * holder sees what the last one wrote (serialised_rest, the listener).
 *
 * LIFETIME. Each request in the serialiser holds a count of the socket. The holder gives back the
 * counts of the requests that it ran only after its last exchange, so the socket exists for that
 * exchange.
 */
#include "os/chain.h"
#include "os/win32/iocp_listener.h"

static iocp_request busy_mark;
#define BUSY (&busy_mark)

bool tp__iocp_serialise(iocp_socket *socket, iocp_request *request) {
    iocp_request *newest = atomic_load_explicit(&socket->serialiser, memory_order_relaxed);
    do {
        request->next_serialised = newest == BUSY ? NULL : newest;
    } while (!atomic_compare_exchange_weak_explicit(
        &socket->serialiser, &newest, request, memory_order_acq_rel, memory_order_relaxed));
    return newest == NULL;
}

/* The holder takes the requests that came since, oldest first. */
static iocp_request *take_serialised(iocp_socket *socket) {
    iocp_request *newest =
        atomic_exchange_explicit(&socket->serialiser, BUSY, memory_order_acquire);
    return newest == BUSY ? NULL
                          : tp__chain_reverse(newest, offsetof(iocp_request, next_serialised));
}

/* The holder makes the serialiser idle. False: requests came, and it remains the holder. */
static bool try_idle_serialiser(iocp_socket *socket) {
    iocp_request *expected = BUSY;
    return atomic_compare_exchange_strong_explicit(
        &socket->serialiser, &expected, NULL, memory_order_release, memory_order_relaxed);
}

bool tp__iocp_acquire_serialiser(iocp_socket *socket) {
    iocp_request *expected = NULL;
    return atomic_compare_exchange_strong_explicit(
        &socket->serialiser, &expected, BUSY, memory_order_acquire, memory_order_relaxed);
}

void tp__iocp_release_serialiser(iocp_socket *socket) {
    if (try_idle_serialiser(socket)) {
        return;
    }
    socket->serialised_rest = take_serialised(socket);
    tp__iocp_queue(socket->port, socket->serialised_rest);
}

static void run_one_serialised(iocp_worker *worker, iocp_request *request) {
    if (request->kind == IOCP_SERIAL_POSTED) {
        tp__iocp_done(worker, request, &(tp_completion){.last = true, .handle = TP_NO_HANDLE});
    } else {
        request->socket->listener->event(worker, request);
    }
}

void tp__iocp_run_serialised(iocp_worker *worker, iocp_socket *socket) {
    iocp_request *next = socket->serialised_rest;
    unsigned ran = 0;
    for (;;) {
        if (next == NULL) {
            next = take_serialised(socket);
        }
        if (next == NULL && try_idle_serialiser(socket)) {
            break;
        }
        if (next == NULL) {
            continue;
        }
        if (ran > 0 && worker->run_budget == 0) { /* the caller has charged the first request */
            socket->serialised_rest = next;
            tp__iocp_ready(worker, next);
            break;
        }
        iocp_request *request = next;
        next = request->next_serialised; /* before it runs, which gives its memory back */
        socket->serialised_rest = NULL;
        worker->run_budget -= ran > 0;
        ran++;
        run_one_serialised(worker, request);
    }
    tp__iocp_leave(worker, socket, ran);
}

tp_err tp__iocp_post(tp_port *head, tp_socket *to, tp_op *posted) {
    iocp_port *port = (iocp_port *)(void *)head;
    iocp_socket *socket = (iocp_socket *)(void *)to;
    iocp_request *request = &((iocp_op *)(void *)posted)->request;
    request->socket = NULL;
    request->kind = IOCP_POSTED;
    /* A socket at its end has no earlier posts to be ordered with, so it needs no serialiser. */
    if (socket != NULL && tp__iocp_enter_closing(socket, 1)) {
        request->socket = socket;
        request->kind = IOCP_SERIAL_POSTED;
        if (!tp__iocp_serialise(socket, request)) {
            return TP_OK;
        }
    }
    tp__iocp_queue(port, request);
    return TP_OK;
}
