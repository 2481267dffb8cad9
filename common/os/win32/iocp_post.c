/*
 * Posting, and a socket's turn.
 *
 * tp__iocp_post and tp__iocp_queue: any thread. tp__iocp_run_turn, tp__iocp_take_late: workers.
 *
 * THE TURN keeps what has to run one after the other for a socket in order, although any worker
 * takes any packet: two packets taken by two workers would run in either order. `turn` is
 *   NULL              nobody has anything to do
 *   busy              there is an owner, and nothing new
 *   a chain           there is an owner, and these came since, newest first
 * Who pushes on NULL makes an owner: of himself or, through the kernel, of whatever worker takes
 * the packet. The owner takes chains (leaving `busy`), runs them oldest first, and goes by
 * exchanging `busy` for NULL, which fails if something came meanwhile. So there is at most one
 * owner, and while there is a chain there is exactly one. Memory order: a push releases and a take
 * acquires, so the request's content is seen by its runner. The owner's going releases and the push
 * on NULL acquires, so the next owner sees what the last one wrote (turn_rest, the listener). Life:
 * every request in the turn holds a count of the socket, and the owner gives those of what he ran
 * back only after he has gone: the socket is there for his last exchange.
 *
 * LATE. The kernel needs memory for a packet and may have none (non-paged pool). What it refuses is
 * kept in the port's late list, a stack that anybody pushes on and a worker takes whole: nothing
 * that was promised to come back is lost, it is late by one slice of a wait at most. The exchange
 * takes all, so no node is ever compared with one that was freed (no ABA).
 */
#include "os/win32/iocp.h"

static iocp_request busy_mark;
#define BUSY (&busy_mark)

void tp__iocp_queue(iocp_port *port, iocp_request *request) {
    if (TP_LIKELY(PostQueuedCompletionStatus(port->kernel, 0, 0, &request->overlapped))) {
        return;
    }
    iocp_request *first = atomic_load_explicit(&port->late, memory_order_relaxed);
    do {
        request->waiting.next = first;
    } while (!atomic_compare_exchange_weak_explicit(
        &port->late, &first, request, memory_order_release, memory_order_relaxed));
}

void tp__iocp_take_late(iocp_worker *worker) {
    iocp_request *newest =
        atomic_exchange_explicit(&iocp_port_of(worker)->late, NULL, memory_order_acquire);
    iocp_request *oldest = NULL;
    while (newest != NULL) {
        iocp_request *next = newest->waiting.next;
        newest->waiting.next = oldest;
        oldest = newest;
        newest = next;
    }
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

bool tp__iocp_join_turn(iocp_socket *socket, iocp_request *request) {
    iocp_request *newest = atomic_load_explicit(&socket->turn, memory_order_relaxed);
    do {
        request->next_in_turn = newest == BUSY ? NULL : newest;
    } while (!atomic_compare_exchange_weak_explicit(
        &socket->turn, &newest, request, memory_order_acq_rel, memory_order_relaxed));
    return newest == NULL;
}

/* Owner: what came since, oldest first. */
static iocp_request *take_turn(iocp_socket *socket) {
    iocp_request *newest = atomic_exchange_explicit(&socket->turn, BUSY, memory_order_acquire);
    iocp_request *oldest = NULL;
    while (newest != NULL && newest != BUSY) {
        iocp_request *next = newest->next_in_turn;
        newest->next_in_turn = oldest;
        oldest = newest;
        newest = next;
    }
    return oldest;
}

/* Owner: goes, if nothing came. */
static bool leave_turn(iocp_socket *socket) {
    iocp_request *expected = BUSY;
    return atomic_compare_exchange_strong_explicit(
        &socket->turn, &expected, NULL, memory_order_release, memory_order_relaxed);
}

bool tp__iocp_begin_turn(iocp_socket *socket) {
    iocp_request *expected = NULL;
    return atomic_compare_exchange_strong_explicit(
        &socket->turn, &expected, BUSY, memory_order_acquire, memory_order_relaxed);
}

void tp__iocp_pass_turn(iocp_socket *socket) {
    if (leave_turn(socket)) {
        return;
    }
    socket->turn_rest = take_turn(socket);
    tp__iocp_queue(socket->port, socket->turn_rest);
}

static void run_in_turn(iocp_worker *worker, iocp_request *request) {
    if (request->kind == IOCP_TURN_POSTED) {
        tp__iocp_done(worker, request, &(tp_completion){.last = true, .handle = TP_NO_HANDLE});
    } else {
        tp__iocp_accept_event(worker, request);
    }
}

void tp__iocp_run_turn(iocp_worker *worker, iocp_socket *socket) {
    iocp_request *next = socket->turn_rest;
    unsigned ran = 0;
    for (;;) {
        if (next == NULL) {
            next = take_turn(socket);
        }
        if (next == NULL && leave_turn(socket)) {
            break;
        }
        if (next == NULL) {
            continue;
        }
        if (ran > 0 && worker->budget == 0) { /* the first one was paid for by whoever called */
            socket->turn_rest = next;
            tp__iocp_ready(worker, next);
            break;
        }
        iocp_request *request = next;
        next = request->next_in_turn; /* before it runs: then its memory is the caller's again */
        socket->turn_rest = NULL;
        worker->budget -= ran > 0;
        ran++;
        run_in_turn(worker, request);
    }
    tp__iocp_leave(worker, socket, ran);
}

tp_err tp__iocp_post(tp_port *head, tp_socket *to, tp_op *posted) {
    iocp_port *port = (iocp_port *)(void *)head;
    iocp_socket *socket = (iocp_socket *)(void *)to;
    iocp_request *request = &((iocp_op *)(void *)posted)->request;
    request->socket = NULL;
    request->kind = IOCP_POSTED;
    /* A socket that has come to its end has no posts before this one: order needs no turn then. */
    if (socket != NULL && tp__iocp_enter_closing(socket, 1)) {
        request->socket = socket;
        request->kind = IOCP_TURN_POSTED;
        if (!tp__iocp_join_turn(socket, request)) {
            return TP_OK;
        }
    }
    tp__iocp_queue(port, request);
    return TP_OK;
}
