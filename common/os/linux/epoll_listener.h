/*
 * A listener of the epoll back end, for the files that accept, listen, close, retry, wait and
 * dispatch.
 */
#ifndef TWINPORT_OS_LINUX_EPOLL_LISTENER_H
#define TWINPORT_OS_LINUX_EPOLL_LISTENER_H

#include "os/linux/epoll_port.h"

/* The result of one accept4() that is not delivered yet: a connection or a failure. */
typedef struct epoll_arrival {
    bool present; /* false: nothing to deliver */
    int handle;   /* -1: a failure */
    int os_error; /* 0: a connection */
    tp_address peer;
} epoll_arrival;

/* Guarded by shared.mutex. */
struct epoll_listener {
    epoll_listener *next; /* in shared.listeners */
    epoll_socket *socket;
    epoll_op *accept; /* the accept in progress, or NULL */
    epoll_op *close;  /* the close op, which comes back after the accept; NULL: open */
    epoll_arrival ahead;
    uint64_t offered_ms; /* since when its accept is on the list */
    uint64_t retry_at;   /* when accepting is tried again (tp_clock_ms); 0: no retry is due */
    unsigned delivering; /* how many `done` of the accept are running */
};

static inline epoll_port *epoll_listener_port(const epoll_listener *listener) {
    return epoll_port_of(listener->socket->worker->head.port);
}

/* Under shared.mutex. */
static inline bool epoll_awaits_retry(const epoll_listener *listener) {
    return listener->retry_at != 0;
}

/* ---- epoll_accept.c -------------------------------------------------------------------------- */

/* Accepts one connection of the listener and delivers it. Called under shared.mutex, which it
 * unlocks. Returns how many `done` ran. */
size_t tp__epoll_accept_one(epoll_worker *worker, epoll_listener *listener);
/* Runs an accept op from the list of tasks: delivers its cancellation, as the last delivery. */
size_t tp__epoll_accept_end(epoll_worker *worker, epoll_op *op);
/* The worker got an event of a listener: puts the accepts of the port's listeners on the list. */
void tp__epoll_listeners_readable(epoll_worker *worker);

tp_err tp__epoll_accept(tp_socket *listener, tp_op *op);

/* ---- epoll_listen.c -------------------------------------------------------------------------- */

/* The mark that a listener's events carry in place of a pointer: its address. */
extern char tp__epoll_listener_mark;

tp_err tp__epoll_listen(tp_port *port, tp_socket *socket, const tp_address *address,
    unsigned backlog, tp_address *bound);
/* Closes the listener; `close` comes back when its accept has. Any thread, once. */
void tp__epoll_unlisten(epoll_listener *listener, epoll_op *close);

/* ---- epoll_retries.c ------------------------------------------------------------------------- */

/* Sets retry_due to the time of the first retry. Under shared.mutex. */
void tp__epoll_note_retry_due(epoll_shared *shared);
/* Has the listener tried again later. Under shared.mutex. */
void tp__epoll_retry_later(epoll_listener *listener);
/* Puts the listener's accept on the list, unless it is there, or none is in progress, or a retry is
 * due. Under shared.mutex. */
void tp__epoll_offer_if_ready(epoll_port *port, epoll_listener *listener);
/* Puts the accepts whose retry is due at `now` on the list. */
void tp__epoll_run_retries(epoll_port *port, uint64_t now);

/* ---- epoll_shared.c -------------------------------------------------------------------------- */

/* Puts the listener's accept on the list, because a connection waits. Under shared.mutex. */
void tp__epoll_offer(epoll_port *port, epoll_listener *listener);
/* Takes the listener's accept off the list. Under shared.mutex. */
void tp__epoll_withdraw(epoll_port *port, epoll_listener *listener);
/* Takes an accept that the worker may take off the list; NULL: none. Under shared.mutex. */
epoll_listener *tp__epoll_take_accept(epoll_worker *worker);

#endif
