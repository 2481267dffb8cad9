/*
 * The list of the listeners that the system has refused something, and that are to try again. Each
 * wait reads when the first of them is due; due retries are shared (iocp_shared.c).
 *
 * Runs on workers, and on the thread of tp__iocp_accept(). retries_lock guards the list.
 */
#include "os/clock.h"
#include "os/win32/iocp_listener.h"

#define RETRY_MS 100

/* Under retries_lock. */
static void note_retry_due(iocp_port *port) {
    uint64_t first = 0;
    for (iocp_listener *it = port->retries; it != NULL; it = it->next_retry) {
        first = first == 0 || it->retry_at < first ? it->retry_at : first;
    }
    atomic_store(&port->retry_due, first);
}

/* The entry on the list holds a count of the socket. */
void tp__iocp_retry_later(iocp_listener *listener) {
    iocp_port *port = listener->socket->port;
    AcquireSRWLockExclusive(&port->retries_lock);
    tp__iocp_enter_again(listener->socket);
    listener->retrying = true;
    listener->retry_at = tp_clock_ms() + RETRY_MS;
    listener->next_retry = port->retries;
    port->retries = listener;
    note_retry_due(port);
    ReleaseSRWLockExclusive(&port->retries_lock);
    tp__iocp_wake_one(port); /* this worker may block: another one limits its wait to the retry */
}

/* Under retries_lock. */
static void remove_retry(iocp_port *port, iocp_listener *listener) {
    iocp_listener **link = &port->retries;
    while (*link != listener) {
        link = &(*link)->next_retry;
    }
    *link = listener->next_retry;
}

void tp__iocp_forget_retry(iocp_worker *worker, iocp_listener *listener) {
    iocp_port *port = listener->socket->port;
    bool found = false;
    AcquireSRWLockExclusive(&port->retries_lock);
    for (iocp_listener *it = port->retries; it != NULL && !found; it = it->next_retry) {
        found = it == listener;
    }
    if (found) {
        remove_retry(port, listener);
        note_retry_due(port);
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
    note_retry_due(port);
    ReleaseSRWLockExclusive(&port->retries_lock);
    while (due != NULL) {
        iocp_listener *next = due->next_retry;
        if (tp__iocp_serialise(due->socket, &due->retry)) { /* it takes over the entry's count */
            tp__iocp_share(port, &due->retry);
        }
        due = next;
    }
}
