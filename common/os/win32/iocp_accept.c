/*
 * Accepting: several AcceptEx in progress, deliveries one at a time.
 *
 * A listener owns SLOTS, each with the OVERLAPPED, the socket that becomes the connection, and the
 * room for its addresses. Everything that happens to a listener (start, an AcceptEx that has ended,
 * a retry, the close) is an event in the socket's turn (iocp_post.c): the listener's fields have
 * one user at a time, whichever worker that is, and the op's deliveries never overlap.
 *
 * Who owns what: an armed slot's handle and OVERLAPPED are the kernel's; it holds a count of the
 * socket until its event has run. The handle is the callee's once it is delivered. The listener is
 * freed with the socket's last count.
 *
 * FAILURES PASS. If a slot cannot be armed (no handles, no buffers), the failure is delivered once,
 * the slot stays idle, and the listener is put on the port's list of retries, which every wait
 * looks at: 100 ms later all idle slots are tried again. Slots that are armed go on meanwhile.
 *
 * THE END. close sets CLOSING and adds IOCP_TURN_UNLISTEN; armed slots come back cancelled. The
 * last delivery is given when both have happened: the event has run and no slot is armed.
 */
#include <stdlib.h>
#include <string.h>

#include "os/clock.h"
#include "os/error.h"
#include "os/win32/iocp.h"
#include "os/win32/nt_error.h"

#define SLOTS    16
#define RETRY_MS 100

/* AcceptEx wants 16 bytes more than the address. */
#define ADDRESS_ROOM (sizeof(struct sockaddr_in6) + 16)

typedef struct slot {
    iocp_request request;
    SOCKET handle; /* INVALID_SOCKET: idle */
    int os_error;  /* how the AcceptEx ended */
    uint8_t addresses[2 * ADDRESS_ROOM];
} slot;

struct iocp_listener {
    iocp_socket *socket;
    iocp_request *accept; /* the op of tp_socket_accept, from its start to its last delivery */
    int family;
    unsigned armed;
    bool closing; /* IOCP_TURN_UNLISTEN has run */
    iocp_request unlisten;
    iocp_request retry;
    slot slots[SLOTS];
    bool retrying; /* from the failure until IOCP_TURN_RETRY has run */
    /* Guarded by port->retries_lock. */
    uint64_t retry_at;
    iocp_listener *next_retry;
};

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
    for (size_t i = 0; i < SLOTS; i++) {
        listener->slots[i].request.socket = socket;
        listener->slots[i].handle = INVALID_SOCKET;
    }
    return listener;
}

void tp__iocp_listener_free(iocp_listener *listener) {
    free(listener);
}

/* ---- retries ----------------------------------------------------------------------------- */

/* Under the lock. */
static void note_first_due(iocp_port *port) {
    uint64_t first = 0;
    for (iocp_listener *it = port->retries; it != NULL; it = it->next_retry) {
        first = first == 0 || it->retry_at < first ? it->retry_at : first;
    }
    atomic_store(&port->retry_due, first);
}

/* In turn. The entry in the list holds a count. */
static void retry_later(iocp_listener *listener) {
    iocp_port *port = listener->socket->port;
    AcquireSRWLockExclusive(&port->retries_lock);
    tp__iocp_enter_again(listener->socket);
    listener->retrying = true;
    listener->retry_at = tp_clock_ms() + RETRY_MS;
    listener->next_retry = port->retries;
    port->retries = listener;
    note_first_due(port);
    ReleaseSRWLockExclusive(&port->retries_lock);
}

/* Under the lock. */
static void remove_retry(iocp_port *port, iocp_listener *listener) {
    iocp_listener **link = &port->retries;
    while (*link != listener) {
        link = &(*link)->next_retry;
    }
    *link = listener->next_retry;
}

/* In turn, at the end: gives the entry's count back, if it is still there. */
static void forget_retry(iocp_worker *worker, iocp_listener *listener) {
    iocp_port *port = listener->socket->port;
    bool found = false;
    AcquireSRWLockExclusive(&port->retries_lock);
    for (iocp_listener *it = port->retries; it != NULL && !found; it = it->next_retry) {
        found = it == listener;
    }
    if (found) {
        remove_retry(port, listener);
        note_first_due(port);
    }
    ReleaseSRWLockExclusive(&port->retries_lock);
    if (found) {
        tp__iocp_leave(worker, listener->socket, 1);
    }
}

void tp__iocp_run_retries(iocp_worker *worker, uint64_t now) {
    iocp_port *port = iocp_port_of(worker);
    iocp_listener *due = NULL;
    AcquireSRWLockExclusive(&port->retries_lock);
    for (iocp_listener *it = port->retries; it != NULL;) {
        iocp_listener *next = it->next_retry;
        if (it->retry_at <= now) {
            remove_retry(port, it);
            it->next_retry = due;
            due = it;
        }
        it = next;
    }
    note_first_due(port);
    ReleaseSRWLockExclusive(&port->retries_lock);
    while (due != NULL) {
        iocp_listener *next = due->next_retry;
        if (tp__iocp_join_turn(due->socket, &due->retry)) { /* with the entry's count */
            tp__iocp_ready(worker, &due->retry);
        }
        due = next;
    }
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
            retry_later(listener);
            (void)tp_os_fail(code);
            return error;
        }
    }
    return TP_OK;
}

/* Keeps slots armed and tells if that fails. */
static void go_on(iocp_worker *worker, iocp_listener *listener) {
    if (listener->accept == NULL) {
        return;
    }
    tp_err error = arm_idle(listener);
    if (error != TP_OK) {
        tp__iocp_done(worker, listener->accept,
            &(tp_completion){.error = error, .os_error = tp_os_error(), .handle = TP_NO_HANDLE});
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

static void slot_ended(iocp_worker *worker, iocp_listener *listener, slot *ended) {
    SOCKET handle = ended->handle;
    tp_completion completion = {.os_error = ended->os_error, .handle = TP_NO_HANDLE};
    listener->armed--;
    bool closing = tp__iocp_is_closing(listener->socket);
    if (!closing && ended->os_error == 0 && !take_connection(listener, ended, &completion)) {
        completion.os_error = WSAGetLastError();
    }
    ended->handle = INVALID_SOCKET;
    if (completion.handle == TP_NO_HANDLE) {
        tp_handle_close((tp_handle)handle, true);
    }
    if (closing) {
        return;
    }
    completion.error = tp_os_translate(completion.os_error);
    if (completion.error != TP_OK && completion.error != TP_ERR_RESET && !listener->retrying) {
        retry_later(listener); /* what the system is out of now, it is out of at once again */
    }
    tp__iocp_done(worker, listener->accept, &completion);
    go_on(worker, listener);
}

static void end_if_over(iocp_worker *worker, iocp_listener *listener) {
    if (!listener->closing || listener->accept == NULL || listener->armed > 0) {
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
        slot_ended(worker, listener, TP_CONTAINER_OF(request, slot, request));
        break;
    case IOCP_TURN_RETRY:
        listener->retrying = false;
        go_on(worker, listener);
        break;
    case IOCP_TURN_UNLISTEN:
        listener->closing = true;
        forget_retry(worker, listener);
        break;
    case IOCP_POSTED:
    case IOCP_CLOSED:
    case IOCP_CONNECT:
    case IOCP_SEND:
    case IOCP_SEND_FAILED:
    case IOCP_RECEIVE:
    case IOCP_RECEIVE_ENDED:
    case IOCP_ACCEPT:
    case IOCP_TURN_POSTED:
        return; /* never in a listener's events */
    }
    end_if_over(worker, listener);
}

/* ---- from outside the turn --------------------------------------------------------------- */

/* An AcceptEx has ended, on whichever worker took it. */
void tp__iocp_accepted(iocp_worker *worker, iocp_request *request) {
    slot *ended = TP_CONTAINER_OF(request, slot, request);
    iocp_socket *socket = request->socket;
    ended->os_error = tp__nt_error((uint32_t)request->overlapped.Internal);
    request->kind = IOCP_TURN_ACCEPTED;
    if (tp__iocp_join_turn(socket, request)) {
        tp__iocp_run_turn(worker, socket);
    }
}

/*
 * Arms the slots in the caller's thread, with the turn in its hands, so that a delivery that comes
 * at once waits for a worker. The turn is idle unless the accept is in progress already or a close
 * is: nothing else joins a listener's turn.
 *
 * While the accept is in progress the close's event is still to come, or slots are armed, or a retry
 * is due: each of them holds a count, so the op needs none of its own.
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
