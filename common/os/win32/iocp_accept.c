/*
 * Accepting: several AcceptEx are in progress at once, and each is delivered by itself.
 *
 * Runs on workers; tp__iocp_accept() on any thread. A listener owns SLOTS, each with an OVERLAPPED,
 * the socket that becomes the connection, and the memory for its addresses. Everything that happens
 * to a listener (its start, an AcceptEx that has completed, a retry, the close) is an event in the
 * socket's serialiser (iocp_post.c), so the listener's fields have one user at a time, whichever
 * worker that is. In the serialiser no `done` runs except that of the last delivery. A worker that
 * gets a connection takes it out of its slot, has the slot armed again in the serialiser, and then
 * delivers the connection. So a `done` that blocks delays no other connection, and deliveries of
 * one accept may run on several workers at once; `delivering` counts them.
 *
 * OWNERSHIP. The handle and the OVERLAPPED of an armed slot are the kernel's. An armed slot holds a
 * count of the socket until its event has run, and so does each delivery. Between the packet and
 * the event the slot belongs to the worker that has the packet. The handle belongs to `done` once
 * it is delivered. The listener is freed with the socket's last count.
 *
 * RETRIES. If a slot cannot be armed (no handles, no buffers), the failure is delivered once, the
 * slot stays idle, and the listener goes on the port's list of retries, which every wait looks at:
 * 100 ms later all idle slots are tried again. Armed slots continue meanwhile. While a failure has
 * not been taken by a worker, another failure adds nothing to it.
 *
 * THE END. Close sets CLOSING and adds IOCP_SERIAL_UNLISTEN; the armed slots come back cancelled.
 * The last delivery is made when that event has run, no slot is armed and nothing is being
 * delivered. The worker that ends the last running delivery of a closing listener adds
 * IOCP_SERIAL_DELIVERED, which checks again. Either `delivering` drops to 0 before a check, or the
 * event is added after it: both `delivering` and `delivered_queued` are sequentially consistent.
 */
#include <string.h>

#include "os/error.h"
#include "os/win32/iocp_listener.h"
#include "os/win32/nt_error.h"

/* ---- slots: in the serialiser ---------------------------------------------------------------- */

/* Starts an AcceptEx in an idle slot. The running event, or tp__iocp_accept(), holds a count of the
 * socket. */
static tp_err slot_arm(iocp_listener *listener, slot *armed) {
    iocp_socket *socket = listener->socket;
    tp_err error = tp__handle_open(listener->family, &armed->handle);
    if (error != TP_OK) {
        return error;
    }
    armed->request.kind = IOCP_ACCEPT;
    armed->request.overlapped = (OVERLAPPED){0};
    tp__iocp_enter_again(socket);
    DWORD received = 0;
    if (!socket->port->accept_ex(socket->handle, armed->handle, armed->addresses, 0, ADDRESS_SIZE,
            ADDRESS_SIZE, &received, &armed->request.overlapped)) {
        int code = WSAGetLastError();
        if (code != ERROR_IO_PENDING) {
            tp_handle_close((tp_handle)armed->handle, false);
            armed->handle = INVALID_SOCKET;
            tp__iocp_leave(NULL, socket, 1); /* not the last: the event holds one */
            return tp_os_fail(code);
        }
    }
    listener->armed++;
    tp__iocp_started(socket, &armed->request);
    return TP_OK;
}

/* Arms the idle slots until one fails; then the rest is tried again later. */
static tp_err arm_idle_slots(iocp_listener *listener) {
    for (size_t i = 0; i < SLOTS && !listener->retrying; i++) {
        if (tp__iocp_is_closing(listener->socket)) {
            return TP_OK;
        }
        if (listener->slots[i].handle != INVALID_SOCKET) {
            continue;
        }
        tp_err error = slot_arm(listener, &listener->slots[i]);
        if (error != TP_OK) {
            int code = tp_os_error();
            tp__iocp_retry_later(listener);
            (void)tp_os_fail(code);
            return error;
        }
    }
    return TP_OK;
}

/* Arms the idle slots, and has a failure delivered. */
static void keep_armed(iocp_listener *listener) {
    if (listener->accept == NULL) {
        return;
    }
    tp_err error = arm_idle_slots(listener);
    if (error != TP_OK && !atomic_exchange(&listener->failure_queued, true)) {
        iocp_port *port = listener->socket->port;
        listener->failure_error = error;
        listener->failure_os_error = tp_os_error();
        tp__iocp_enter_again(listener->socket);
        atomic_fetch_add(&listener->delivering, 1);
        tp__iocp_share(port, &listener->failure);
        tp__iocp_wake_one(port);
    }
}

/* Takes the connection and its remote address out of the slot. False: its context cannot be set. */
static bool slot_take_connection(iocp_listener *listener, slot *taken, tp_completion *completion) {
    SOCKET of = listener->socket->handle;
    if (setsockopt(taken->handle, SOL_SOCKET, SO_UPDATE_ACCEPT_CONTEXT, (const char *)&of,
            (int)sizeof of) != 0) {
        return false;
    }
    struct sockaddr *local = NULL;
    struct sockaddr *remote = NULL;
    int local_size = 0;
    int remote_size = 0;
    listener->socket->port->accepted_addresses(taken->addresses, 0, ADDRESS_SIZE, ADDRESS_SIZE,
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

/* The connection has been taken out of the slot, or there was none: the slot becomes idle. */
static void slot_end(iocp_listener *listener, slot *ended) {
    listener->armed--;
    ended->handle = INVALID_SOCKET;
    if (tp__iocp_is_closing(listener->socket)) {
        return;
    }
    tp_err error = tp_os_translate(ended->os_error);
    if (error != TP_OK && error != TP_ERR_RESET && !listener->retrying) {
        tp__iocp_retry_later(listener); /* an AcceptEx started now would fail in the same way */
    }
    keep_armed(listener);
}

/* Delivers the cancellation once nothing else of the closing listener is to come. */
static void listener_end_if_over(iocp_worker *worker, iocp_listener *listener) {
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
    case IOCP_SERIAL_ACCEPTED:
        slot_end(listener, TP_CONTAINER_OF(request, slot, request));
        break;
    case IOCP_SERIAL_RETRY:
        listener->retrying = false;
        keep_armed(listener);
        break;
    case IOCP_SERIAL_DELIVERED:
        atomic_store(&listener->delivered_queued, false); /* before `delivering` is read */
        break;
    case IOCP_SERIAL_UNLISTEN:
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
    case IOCP_SERIAL_POSTED:
        return; /* not events of a listener */
    }
    listener_end_if_over(worker, listener);
}

/* ---- outside of the serialiser --------------------------------------------------------------- */

/* Runs the accept's `done`, outside of the serialiser. The caller has counted the delivery in
 * `delivering` and holds a count of the socket for it, which is given back here. */
static void accept_deliver(
    iocp_worker *worker, iocp_listener *listener, tp_completion *completion) {
    iocp_socket *socket = listener->socket;
    tp__iocp_done(worker, listener->accept, completion);
    if (atomic_fetch_sub(&listener->delivering, 1) == 1 && tp__iocp_is_closing(socket) &&
        !atomic_exchange(&listener->delivered_queued, true)) {
        tp__iocp_enter_again(socket);
        if (tp__iocp_serialise(socket, &listener->delivered)) {
            tp__iocp_run_serialised(worker, socket);
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
    /* Counted before CLOSING is read: if the close comes after that, its last delivery waits for
     * this one. */
    atomic_fetch_add(&listener->delivering, 1);
    bool closing = tp__iocp_is_closing(socket);
    tp_completion completion = {.handle = TP_NO_HANDLE};
    if (!closing && ended->os_error == 0 && !slot_take_connection(listener, ended, &completion)) {
        ended->os_error = WSAGetLastError();
    }
    completion.os_error = ended->os_error;
    completion.error = tp_os_translate(ended->os_error);
    if (completion.handle == TP_NO_HANDLE) {
        tp_handle_close((tp_handle)handle, true);
    }
    tp__iocp_enter_again(
        socket); /* the delivery's count; the slot's is given back with its event */
    request->kind = IOCP_SERIAL_ACCEPTED;
    if (closing) {
        atomic_fetch_sub(&listener->delivering, 1); /* before the event, which reads it */
    }
    if (tp__iocp_serialise(socket, request)) {
        tp__iocp_run_serialised(worker, socket);
    }
    if (closing) {
        tp__iocp_leave(worker, socket, 1);
    } else {
        accept_deliver(worker, listener, &completion);
    }
}

void tp__iocp_accept_failed(iocp_worker *worker, iocp_request *request) {
    iocp_listener *listener = request->socket->listener;
    tp_completion completion = {.error = listener->failure_error,
        .os_error = listener->failure_os_error,
        .handle = TP_NO_HANDLE};
    atomic_store(&listener->failure_queued, false);
    accept_deliver(worker, listener, &completion);
}

/*
 * Arms the slots on the caller's thread, which holds the serialiser, so that the event of a
 * connection that comes at once is left to a worker. The serialiser is idle unless the accept is in
 * progress already or the socket is closing: nothing else is added to a listener's serialiser.
 *
 * While the accept is in progress, the close's event is still to come, or slots are armed, or a
 * retry is due. Each of these holds a count, so the op needs none of its own.
 */
tp_err tp__iocp_accept(tp_socket *on, tp_op *op) {
    iocp_socket *socket = (iocp_socket *)(void *)on;
    iocp_listener *listener = socket->listener;
    if (listener == NULL || !tp__iocp_enter(socket, 1)) {
        (void)tp_os_fail(0);
        return listener == NULL ? TP_ERR_INVALID : TP_ERR_CANCELLED;
    }
    tp_err error = TP_ERR_STATE; /* in progress already */
    if (tp__iocp_acquire_serialiser(socket)) {
        if (listener->accept == NULL && !listener->closing) {
            listener->accept = &((iocp_op *)(void *)op)->request;
            listener->accept->socket = socket;
            (void)arm_idle_slots(
                listener); /* a failure is tried again, and delivered if it fails again */
            error = TP_OK;
        }
        tp__iocp_release_serialiser(socket);
    }
    if (error != TP_OK) {
        error = tp__iocp_is_closing(socket) ? TP_ERR_CANCELLED : TP_ERR_STATE;
        (void)tp_os_fail(0);
    }
    tp__iocp_leave(NULL, socket, 1);
    return error;
}
