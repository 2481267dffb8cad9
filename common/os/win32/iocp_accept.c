/*
 * Accepting: several AcceptEx in progress, each of which is delivered by itself.
 *
 * A listener owns SLOTS, each with the OVERLAPPED, the socket that becomes the connection, and the
 * room for its addresses. Everything that happens to a listener (start, an AcceptEx that has ended,
 * a retry, the close) is an event in the socket's turn (iocp_post.c): the listener's fields have
 * one user at a time, whichever worker that is. No callee runs in the turn but that of the last
 * delivery: a worker that finds a connection takes it out of its slot, has the slot armed anew in
 * the turn, and then delivers. So a callee that blocks keeps no other connection waiting, and the
 * deliveries of one accept may run on several workers at once; `delivering` counts them.
 *
 * Who owns what: an armed slot's handle and OVERLAPPED are the kernel's; it holds a count of the
 * socket until its event has run, and so does each delivery. Between the packet and the event the
 * slot is the worker's that has it. The handle is the callee's once it is delivered. The listener
 * is freed with the socket's last count.
 *
 * FAILURES PASS. If a slot cannot be armed (no handles, no buffers), the failure is delivered once,
 * the slot stays idle, and the listener is put on the port's list of retries, which every wait
 * looks at: 100 ms later all idle slots are tried again. Slots that are armed go on meanwhile.
 * Before a failure has been taken by a worker another one adds nothing to it.
 *
 * THE END. close sets CLOSING and adds IOCP_TURN_UNLISTEN; armed slots come back cancelled. The
 * last delivery is given when that event has run, no slot is armed and nothing is being delivered.
 * Who ends the last delivery of a closing listener adds IOCP_TURN_DELIVERED, which looks again:
 * `delivering` goes down before the look, or after it and then it is added (sequentially
 * consistent, both it and `delivered_queued`).
 */
#include <stdlib.h>
#include <string.h>

#include "os/error.h"
#include "os/win32/iocp_listener.h"
#include "os/win32/nt_error.h"

iocp_listener *tp__iocp_listener_new(iocp_socket *socket, int family) {
    iocp_listener *listener = calloc(1, sizeof *listener);
    if (listener == NULL) {
        return NULL;
    }
    listener->socket = socket;
    listener->family = family;
    listener->unlisten.socket = socket;
    listener->unlisten.kind = IOCP_TURN_UNLISTEN;
    listener->retry.socket = socket;
    listener->retry.kind = IOCP_TURN_RETRY;
    listener->delivered.socket = socket;
    listener->delivered.kind = IOCP_TURN_DELIVERED;
    listener->failure.socket = socket;
    listener->failure.kind = IOCP_ACCEPT_FAILED;
    for (size_t i = 0; i < SLOTS; i++) {
        listener->slots[i].request.socket = socket;
        listener->slots[i].handle = INVALID_SOCKET;
    }
    return listener;
}

void tp__iocp_listener_free(iocp_listener *listener) {
    free(listener);
}

/* ---- slots: all in turn ---------------------------------------------------------------------- */

/* The event that is running holds a count (or tp__iocp_accept does), so the socket is there. */
static tp_err arm(iocp_listener *listener, slot *armed) {
    iocp_socket *socket = listener->socket;
    tp_err error = tp__handle_open(listener->family, &armed->handle);
    if (error != TP_OK) {
        return error;
    }
    armed->request.kind = IOCP_ACCEPT;
    armed->request.overlapped = (OVERLAPPED){0};
    tp__iocp_enter_again(socket);
    DWORD received = 0;
    if (!socket->port->accept_ex(socket->handle, armed->handle, armed->addresses, 0, ADDRESS_ROOM,
            ADDRESS_ROOM, &received, &armed->request.overlapped)) {
        int code = WSAGetLastError();
        if (code != ERROR_IO_PENDING) {
            tp_handle_close((tp_handle)armed->handle, false);
            armed->handle = INVALID_SOCKET;
            tp__iocp_leave(NULL, socket, 1); /* not the last: the event's is there */
            return tp_os_fail(code);
        }
    }
    listener->armed++;
    tp__iocp_started(socket, &armed->request);
    return TP_OK;
}

/* Arms what is idle, until one fails; then the rest is tried again later. */
static tp_err arm_idle(iocp_listener *listener) {
    for (size_t i = 0; i < SLOTS && !listener->retrying; i++) {
        if (tp__iocp_is_closing(listener->socket)) {
            return TP_OK;
        }
        if (listener->slots[i].handle != INVALID_SOCKET) {
            continue;
        }
        tp_err error = arm(listener, &listener->slots[i]);
        if (error != TP_OK) {
            int code = tp_os_error();
            tp__iocp_retry_later(listener);
            (void)tp_os_fail(code);
            return error;
        }
    }
    return TP_OK;
}

/* Keeps slots armed and has it told if that fails. */
static void go_on(iocp_listener *listener) {
    if (listener->accept == NULL) {
        return;
    }
    tp_err error = arm_idle(listener);
    if (error != TP_OK && !atomic_exchange(&listener->failure_queued, true)) {
        iocp_port *port = listener->socket->port;
        listener->failure_error = error;
        listener->failure_os_error = tp_os_error();
        tp__iocp_enter_again(listener->socket);
        atomic_fetch_add(&listener->delivering, 1);
        tp__iocp_share(port, &listener->failure);
        tp__iocp_call(port);
    }
}

/* The peer's address of a completed AcceptEx; false if the connection has no context to be had. */
static bool take_connection(iocp_listener *listener, slot *taken, tp_completion *completion) {
    SOCKET of = listener->socket->handle;
    if (setsockopt(taken->handle, SOL_SOCKET, SO_UPDATE_ACCEPT_CONTEXT, (const char *)&of,
            (int)sizeof of) != 0) {
        return false;
    }
    struct sockaddr *local = NULL;
    struct sockaddr *remote = NULL;
    int local_size = 0;
    int remote_size = 0;
    listener->socket->port->accepted_addresses(taken->addresses, 0, ADDRESS_ROOM, ADDRESS_ROOM,
        &local, &local_size, &remote, &remote_size);
    tp__sockaddr peer;
    memset(&peer, 0, sizeof peer);
    if (remote != NULL && remote_size > 0) {
        memcpy(
            &peer, remote, (size_t)remote_size < sizeof peer ? (size_t)remote_size : sizeof peer);
    }
    tp__sockaddr_to_address(&peer, &completion->address);
    completion->handle = (tp_handle)taken->handle;
    return true;
}

/* In turn: the connection has been taken out of the slot, or there was none. */
static void slot_ended(iocp_listener *listener, slot *ended) {
    listener->armed--;
    ended->handle = INVALID_SOCKET;
    if (tp__iocp_is_closing(listener->socket)) {
        return;
    }
    tp_err error = tp_os_translate(ended->os_error);
    if (error != TP_OK && error != TP_ERR_RESET && !listener->retrying) {
        tp__iocp_retry_later(
            listener); /* what the system is out of now, it is out of at once again */
    }
    go_on(listener);
}

static void end_if_over(iocp_worker *worker, iocp_listener *listener) {
    if (!listener->closing || listener->accept == NULL || listener->armed > 0 ||
        atomic_load(&listener->delivering) > 0) {
        return;
    }
    iocp_request *accept = listener->accept;
    listener->accept = NULL;
    tp__iocp_done(worker, accept,
        &(tp_completion){.error = TP_ERR_CANCELLED, .last = true, .handle = TP_NO_HANDLE});
}

void tp__iocp_accept_event(iocp_worker *worker, iocp_request *request) {
    iocp_listener *listener = request->socket->listener;
    switch ((iocp_kind)request->kind) {
    case IOCP_TURN_ACCEPTED:
        slot_ended(listener, TP_CONTAINER_OF(request, slot, request));
        break;
    case IOCP_TURN_RETRY:
        listener->retrying = false;
        go_on(listener);
        break;
    case IOCP_TURN_DELIVERED:
        atomic_store(&listener->delivered_queued, false); /* before `delivering` is looked at */
        break;
    case IOCP_TURN_UNLISTEN:
        listener->closing = true;
        tp__iocp_forget_retry(worker, listener);
        break;
    case IOCP_POSTED:
    case IOCP_CLOSED:
    case IOCP_CONNECT:
    case IOCP_SEND:
    case IOCP_SEND_FAILED:
    case IOCP_RECEIVE:
    case IOCP_RECEIVE_ENDED:
    case IOCP_ACCEPT:
    case IOCP_ACCEPT_FAILED:
    case IOCP_TURN_POSTED:
        return; /* never in a listener's events */
    }
    end_if_over(worker, listener);
}

/* ---- from outside the turn ------------------------------------------------------------------- */

/* Runs the callee, beside the turn. The caller has counted it in `delivering`, and holds a count of
 * the socket for it, which goes here. */
static void deliver(iocp_worker *worker, iocp_listener *listener, tp_completion *completion) {
    iocp_socket *socket = listener->socket;
    tp__iocp_done(worker, listener->accept, completion);
    if (atomic_fetch_sub(&listener->delivering, 1) == 1 && tp__iocp_is_closing(socket) &&
        !atomic_exchange(&listener->delivered_queued, true)) {
        tp__iocp_enter_again(socket);
        if (tp__iocp_join_turn(socket, &listener->delivered)) {
            tp__iocp_run_turn(worker, socket);
        }
    }
    tp__iocp_leave(worker, socket, 1);
}

void tp__iocp_note_accepted(iocp_request *request) {
    slot *ended = TP_CONTAINER_OF(request, slot, request);
    ended->os_error = tp__nt_error((uint32_t)request->overlapped.Internal);
}

void tp__iocp_accepted(iocp_worker *worker, iocp_request *request) {
    slot *ended = TP_CONTAINER_OF(request, slot, request);
    iocp_socket *socket = request->socket;
    iocp_listener *listener = socket->listener;
    SOCKET handle = ended->handle;
    /* Counted before the look: if the close comes behind it, its last delivery waits for this
     * one. */
    atomic_fetch_add(&listener->delivering, 1);
    bool closing = tp__iocp_is_closing(socket);
    tp_completion completion = {.handle = TP_NO_HANDLE};
    if (!closing && ended->os_error == 0 && !take_connection(listener, ended, &completion)) {
        ended->os_error = WSAGetLastError();
    }
    completion.os_error = ended->os_error;
    completion.error = tp_os_translate(ended->os_error);
    if (completion.handle == TP_NO_HANDLE) {
        tp_handle_close((tp_handle)handle, true);
    }
    tp__iocp_enter_again(socket); /* the delivery's; the slot's goes with its event */
    request->kind = IOCP_TURN_ACCEPTED;
    if (closing) {
        atomic_fetch_sub(&listener->delivering, 1); /* before the event, which looks at it */
    }
    if (tp__iocp_join_turn(socket, request)) {
        tp__iocp_run_turn(worker, socket);
    }
    if (closing) {
        tp__iocp_leave(worker, socket, 1);
    } else {
        deliver(worker, listener, &completion);
    }
}

void tp__iocp_accept_failed(iocp_worker *worker, iocp_request *request) {
    iocp_listener *listener = request->socket->listener;
    tp_completion completion = {.error = listener->failure_error,
        .os_error = listener->failure_os_error,
        .handle = TP_NO_HANDLE};
    atomic_store(&listener->failure_queued, false);
    deliver(worker, listener, &completion);
}

/*
 * Arms the slots in the caller's thread, with the turn in its hands, so that a delivery that comes
 * at once waits for a worker. The turn is idle unless the accept is in progress already or a close
 * is: nothing else joins a listener's turn.
 *
 * While the accept is in progress the close's event is still to come, or slots are armed, or a
 * retry is due: each of them holds a count, so the op needs none of its own.
 */
tp_err tp__iocp_accept(tp_socket *on, tp_op *op) {
    iocp_socket *socket = (iocp_socket *)(void *)on;
    iocp_listener *listener = socket->listener;
    if (listener == NULL || !tp__iocp_enter(socket, 1)) {
        (void)tp_os_fail(0);
        return listener == NULL ? TP_ERR_INVALID : TP_ERR_CANCELLED;
    }
    tp_err error = TP_ERR_STATE; /* in progress already */
    if (tp__iocp_begin_turn(socket)) {
        if (listener->accept == NULL && !listener->closing) {
            listener->accept = &((iocp_op *)(void *)op)->request;
            listener->accept->socket = socket;
            (void)arm_idle(listener); /* what fails is tried again, and told if it fails again */
            error = TP_OK;
        }
        tp__iocp_pass_turn(socket);
    }
    if (error != TP_OK) {
        error = tp__iocp_is_closing(socket) ? TP_ERR_CANCELLED : TP_ERR_STATE;
        (void)tp_os_fail(0);
    }
    tp__iocp_leave(NULL, socket, 1);
    return error;
}

/* Close holds the socket's open count, and its event one more. */
void tp__iocp_unlisten(iocp_socket *socket) {
    iocp_listener *listener = socket->listener;
    tp__iocp_enter_again(socket);
    if (tp__iocp_join_turn(socket, &listener->unlisten)) {
        tp__iocp_queue(socket->port, &listener->unlisten);
    }
}
