/*
 * The interface between port.c and a back end: one table of functions, found by the back end's
 * name.
 *
 * Only port.c reads the table. It checks arguments once for all back ends and calls through the
 * table; a back end implements the contract of port.h, function by function, and nothing else.
 *
 * The table is found without a search:
 *   - A back end's port begins with a `tp_port` and its worker with a `tp_worker` (below). Both
 *     begin with a pointer to the table.
 *   - The first word of an attached socket, tp_socket.os[0], points to that port or to that worker,
 *     as the back end chooses; it is 0 while the socket is not attached. The back end sets it with
 *     tp__socket_set_owner() in listen, attach and connect, before another thread can see the
 *     socket, and sets it back to 0 if they fail. It stays set after the close, because
 *     tp_port_serves() reads it.
 *
 * A back end views a tp_op or a tp_socket as a struct of its own, marked TP_MAY_ALIAS. That struct
 * is no larger than the original: `_Static_assert(sizeof(epoll_op) <= sizeof(tp_op), "...")`.
 */
#ifndef TWINPORT_OS_PORT_BACKEND_H
#define TWINPORT_OS_PORT_BACKEND_H

#include "os/port.h"

typedef struct tp__port_backend {
    const char *name; /* "epoll" */
    bool binds;       /* a connection stays with one worker for life */

    /*
     * `options` is complete: every 0 that stands for a default is replaced, and every range is
     * checked. The back end fills `backend` and `workers` of the port's head, and `backend`, `port`
     * and `index` of each worker's head. TP_ERR_UNSUPPORTED: this machine lacks what the back end
     * needs, and "auto" tries the next one. On error nothing is left behind, and *port is not
     * written.
     */
    tp_err (*create)(const tp_port_options *options, tp_port **port);
    void (*destroy)(tp_port *port);
    tp_worker *(*worker)(tp_port *port, unsigned index); /* index < workers */

    /* As the functions of port.h with these names. `post`: `socket` may be NULL. */
    tp_err (*wait)(tp_worker *worker, int timeout_ms);
    size_t (*dispatch)(tp_worker *worker);
    tp_err (*post)(tp_port *port, tp_socket *socket, tp_op *op);
    void (*wake)(tp_port *port);

    bool (*serves)(const tp_worker *worker, const tp_socket *socket);
    tp_err (*listen)(tp_port *port, tp_socket *socket, const tp_address *address, unsigned backlog,
        tp_address *bound);
    tp_err (*attach)(
        tp_port *port, tp_socket *socket, tp_handle handle, const tp_socket_options *options);
    tp_err (*connect)(tp_port *port, tp_socket *socket, const tp_address *address,
        const tp_socket_options *options, tp_op *op);
    tp_err (*accept)(tp_socket *listener, tp_op *op);
    tp_err (*receive)(tp_worker *worker, tp_socket *socket, tp_op *op);
    void (*pause)(tp_worker *worker, tp_socket *socket);
    void (*resume)(tp_worker *worker, tp_socket *socket);
    tp_err (*send)(
        tp_worker *worker, tp_socket *socket, tp_op *op, const tp_buffer *buffers, size_t count);
    tp_err (*send_now)(
        tp_worker *worker, tp_socket *socket, const tp_buffer *buffers, size_t count, size_t *sent);
    bool (*send_take_back)(tp_worker *worker, tp_socket *socket, tp_op *op, size_t *sent);
    bool (*send_waits)(
        const tp_worker *worker, const tp_socket *socket); /* may be NULL: always false */
    void (*finish)(tp_worker *worker, tp_socket *socket);
    void (*close)(tp_socket *socket, tp_op *op, bool reset);
} tp__port_backend;

/* The platform's back ends, best first, NULL at the end (linux/backends.c, win32/backends.c). */
extern const tp__port_backend *const tp__port_backend_list[];

/* Initialises the platform for the first port (Winsock; nothing on Linux). Called by each create;
 * it acts once per process. TP_OK, or the system's error. */
tp_err tp__port_platform_start(void);

/* The head of a back end's port. */
struct tp_port {
    const tp__port_backend *backend; /* first */
    unsigned workers;
};

/* The head of a back end's worker. */
struct tp_worker {
    const tp__port_backend *backend; /* first */
    tp_port *port;
    void *context;
    unsigned index;
};

/* `owner`: the port or the worker, either of which begins with a pointer to its table. */
static inline void tp__socket_set_owner(tp_socket *socket, const void *owner) {
    socket->os[0] = (uint64_t)(uintptr_t)owner;
}

static inline void *tp__socket_owner(const tp_socket *socket) {
    return (void *)(uintptr_t)socket->os[0];
}

#endif
