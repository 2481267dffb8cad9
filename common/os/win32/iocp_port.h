/*
 * The iocp back end: the structs and functions that its files share.
 *
 *   iocp_port.c      the port, its workers, waking them, the back end's table
 *   iocp_wait.c      waiting for completions
 *   iocp_dispatch.c  running them, what is ready, and what is shared
 *   iocp_close.c     a socket's close
 *   iocp_listen.c    a listener's life
 *   iocp_accept.c  iocp_connect.c  iocp_receive.c  iocp_send.c
 *   iocp_retries.c   listeners that try again to accept
 *   iocp_post.c      posting, and a socket's serialiser
 *   iocp_socket.c    a socket's life: attach, finish, and the word that decides it
 *   iocp_ready.c     ready requests, the kernel's queue, and what overflows it
 *   iocp_shared.c    work that any worker may take
 *   iocp_buffers.c   posted receive buffers
 *
 * A file calls those below it in this list, never one above it. The epoll back end (os/linux) has a
 * file for each of these nouns but the buffers.
 *
 * All workers share one kernel port. A completion belongs to the worker that took it out of the
 * kernel, and to no other thread.
 *
 * A REQUEST is what the kernel, a list or a serialiser holds: the part of a tp_op after `done`, or
 * one of a listener's own. It is in exactly one place at a time:
 *   kernel      started, or queued to the port: the kernel owns its OVERLAPPED
 *   ready       on a worker's list, which only that worker's thread touches
 *   shared      on the port's list of what any worker may take (iocp_shared.c)
 *   overflow    on the port's list of what the kernel had no memory to queue (iocp_ready.c)
 *   serialiser  behind other requests of its socket (iocp_post.c)
 *   parked      a paused receive, which no thread owns until resume or close takes it
 *
 * A SOCKET's life is decided by its `state` word (iocp_socket.c).
 */
#ifndef TWINPORT_OS_WIN32_IOCP_PORT_H
#define TWINPORT_OS_WIN32_IOCP_PORT_H

#include <stdatomic.h>

#include "os/compiler.h"
#include "os/port_backend.h"
#include "os/win32/handle.h"
#include "os/win32/system.h"

typedef struct iocp_socket iocp_socket;
typedef struct iocp_listener iocp_listener;
typedef struct iocp_port iocp_port;

typedef enum iocp_kind {
    IOCP_POSTED,        /* an op without a socket: run its `done` */
    IOCP_CLOSED,        /* the op of tp_socket_close(): the socket's end */
    IOCP_CONNECT,       /* a ConnectEx has completed */
    IOCP_SEND,          /* a WSASend has completed */
    IOCP_SEND_FAILED,   /* a WSASend was refused */
    IOCP_RECEIVE,       /* a WSARecv has completed */
    IOCP_RECEIVE_ENDED, /* a receive's last delivery, decided outside of its completion */
    IOCP_ACCEPT,        /* an AcceptEx has completed: a listener's slot, which has the result */
    IOCP_ACCEPT_FAILED, /* no AcceptEx could be started: deliver the failure */
    /* The following run in their socket's serialiser. The one that is queued to the port stands for
     * all requests behind it. */
    IOCP_SERIAL_POSTED,    /* an op posted to the socket */
    IOCP_SERIAL_ACCEPTED,  /* a slot whose AcceptEx has completed */
    IOCP_SERIAL_RETRY,     /* the pause after a failure to accept is over */
    IOCP_SERIAL_UNLISTEN,  /* the listener is closing */
    IOCP_SERIAL_DELIVERED, /* the last running delivery of a closing listener has ended */
} iocp_kind;

typedef struct TP_MAY_ALIAS iocp_request {
    union {
        OVERLAPPED overlapped; /* kernel */
        struct {
            struct iocp_request *next; /* ready, overflow, shared */
            tp_err error;              /* IOCP_SEND_FAILED, IOCP_RECEIVE_ENDED: to deliver */
            int os_error;
        } waiting;
    };
    iocp_socket *socket; /* NULL: IOCP_POSTED */
    union {
        struct iocp_request *next_serialised;
        const tp_buffer *buffers; /* IOCP_SEND: the caller's */
    };
    uint64_t kind : 8;
    uint64_t count : 8; /* IOCP_SEND: number of buffers */
    uint64_t sent : 48; /* IOCP_SEND: bytes that the kernel has */
} iocp_request;

typedef struct TP_MAY_ALIAS iocp_op {
    tp_done *done;
    iocp_request request;
} iocp_op;

_Static_assert(sizeof(iocp_op) <= sizeof(tp_op), "an iocp_op fits into a tp_op");
_Static_assert(alignof(iocp_op) <= alignof(tp_op), "a tp_op is aligned for an iocp_op");
_Static_assert(
    offsetof(iocp_op, done) == offsetof(tp_op, done), "both structs have the same `done`");
_Static_assert(TP_PORT_MAX_BUFFERS < 256, "the count of buffers has 8 bits");

struct TP_MAY_ALIAS iocp_socket {
    iocp_port *port; /* the owner; first, as port_backend.h requires */
    SOCKET handle;   /* valid while the count of `state` is not 0 */
    _Atomic uint64_t state;
    _Atomic(iocp_request *) serialiser; /* iocp_post.c */
    iocp_request *serialised_rest;      /* its holder's: taken, not yet run */
    iocp_request *receive;              /* the receive in progress */
    uint8_t *receive_buffer;            /* the buffer posted with it, or NULL */
    iocp_request *close;                /* the op of tp_socket_close() */
    iocp_listener *listener;            /* owned; NULL: a connection */
};

_Static_assert(sizeof(iocp_socket) <= sizeof(tp_socket), "an iocp_socket fits into a tp_socket");
_Static_assert(
    alignof(iocp_socket) <= alignof(tp_socket), "a tp_socket is aligned for an iocp_socket");
_Static_assert(offsetof(iocp_socket, port) == 0, "the owner is the first word");

/* The parts of `state`. */
#define IOCP_COUNT   UINT64_C(0x00000000ffffffff)
#define IOCP_CLOSING UINT64_C(0x0000000100000000) /* tp_socket_close() was called */
#define IOCP_PAUSED  UINT64_C(0x0000000200000000)
#define IOCP_PARKED  UINT64_C(0x0000000400000000) /* no thread owns the receive */

#define IOCP_ENTRIES 32 /* completions that one wait takes; more would be kept from idle workers */
/* How much all sockets of one batch read together, about; each may read at least
 * IOCP_MIN_READ_BUDGET. */
#define IOCP_BATCH_BYTES     ((size_t)256 * 1024)
#define IOCP_MIN_READ_BUDGET ((size_t)20 * 1024)

typedef struct iocp_worker {
    tp_worker head; /* first */
    /* Used by its own thread only. */
    unsigned run_budget; /* how many requests this dispatch may still run beyond the taken ones */
    size_t ran;          /* how many `done` ran in this dispatch */
    iocp_request *ready_first;
    iocp_request *ready_last;
    uint8_t *buffer;    /* for receives that waited without a buffer */
    size_t read_budget; /* how much a socket that waited without a buffer reads in this batch */
    ULONG taken;        /* number of valid entries */
    OVERLAPPED_ENTRY entries[IOCP_ENTRIES];
    /* Also used by threads that wake it. */
    atomic_bool woken;
    _Atomic DWORD thread_id; /* the thread in this worker slot; 0: none yet */
} iocp_worker;

struct iocp_port {
    tp_port head; /* first */
    HANDLE kernel;
    size_t receive_buffer;
    bool post_receive_buffers;
    size_t max_per_send; /* bytes in one WSASend */
    LPFN_ACCEPTEX accept_ex;
    LPFN_CONNECTEX connect_ex;
    LPFN_GETACCEPTEXSOCKADDRS accepted_addresses;
    iocp_worker *workers[TP_PORT_MAX_WORKERS];
    _Atomic(iocp_request *) overflow;
    atomic_size_t sockets; /* attached and not yet closed */
    SRWLOCK retries_lock;  /* guards `retries`; only failing listeners take it */
    iocp_listener *retries;
    _Atomic uint64_t retry_due; /* when the first listener tries again (tp_clock_ms); 0: none */
    SLIST_HEADER buffers;
    SRWLOCK shared_lock; /* guards the shared list: iocp_shared.c */
    iocp_request *shared_first;
    iocp_request *shared_last;
    atomic_uint shared_count;
    atomic_bool wake_queued; /* a wake-up packet is queued */
};

extern const tp__port_backend tp__iocp_backend;

static inline iocp_port *iocp_port_of(const iocp_worker *worker) {
    return (iocp_port *)(void *)worker->head.port;
}

/* ---- iocp_wait.c, iocp_dispatch.c ------------------------------------------------------------ */

tp_err tp__iocp_wait(tp_worker *worker, int timeout_ms);
size_t tp__iocp_dispatch(tp_worker *worker);

/* ---- iocp_ready.c ---------------------------------------------------------------------------- */

/* Runs the request's `done`. Counts it. */
void tp__iocp_done(iocp_worker *worker, iocp_request *request, tp_completion *completion);

/* Appends the request to the worker's ready list; takes the first one, of which there is one. The
 * worker's thread. */
void tp__iocp_ready(iocp_worker *worker, iocp_request *request);
iocp_request *tp__iocp_take_ready(iocp_worker *worker);

/* Queues the request to the port; any worker runs it. Any thread; cannot fail. */
void tp__iocp_queue(iocp_port *port, iocp_request *request);
/* Moves the overflow list to the worker's ready list, and what is shared to the shared list. */
void tp__iocp_take_overflow(iocp_worker *worker);

/* ---- iocp_shared.c --------------------------------------------------------------------------- */

/* True if the request is of a kind that any worker may take. */
bool tp__iocp_is_shared(const iocp_request *request);
/* Adds the request to the shared list. The caller calls tp__iocp_wake_one() after that, unless it
 * is a worker that will look at the list itself. Any thread. */
void tp__iocp_share(iocp_port *port, iocp_request *request);
/* Wakes one free worker, so that it looks at the shared list. Any thread. */
void tp__iocp_wake_one(iocp_port *port);
bool tp__iocp_has_shared(iocp_port *port);
/* Takes the first entry, or NULL. *more: others are left. Any thread. */
iocp_request *tp__iocp_take_shared(iocp_port *port, bool *more);

/* ---- iocp_post.c ----------------------------------------------------------------------------- */

tp_err tp__iocp_post(tp_port *port, tp_socket *socket, tp_op *op);

/* Adds a request, which holds one count of the socket, to the socket's serialiser. True: the
 * serialiser was idle, and the caller ensures that tp__iocp_run_serialised() is called once. Any
 * thread. */
bool tp__iocp_serialise(iocp_socket *socket, iocp_request *request);
/* Runs the requests in the serialiser, within the worker's budget. Called by the serialiser's
 * holder. */
void tp__iocp_run_serialised(iocp_worker *worker, iocp_socket *socket);
/* Become the holder of an idle serialiser without running anything; and stop being it, leaving
 * the requests that came meanwhile to a worker. Any thread that holds a count. */
bool tp__iocp_acquire_serialiser(iocp_socket *socket);
void tp__iocp_release_serialiser(iocp_socket *socket);

/* ---- iocp_socket.c --------------------------------------------------------------------------- */

/* Takes `count` counts; false if the socket is closing. */
bool tp__iocp_enter(iocp_socket *socket, unsigned count);
/* The same; false only if the count is 0, so that the socket is at its end. */
bool tp__iocp_enter_closing(iocp_socket *socket, unsigned count);
/* Takes one more count. The caller holds one. */
void tp__iocp_enter_again(iocp_socket *socket);
/* Gives counts back. `worker`: the caller's, or NULL on other threads. */
void tp__iocp_leave(iocp_worker *worker, iocp_socket *socket, unsigned count);
bool tp__iocp_is_closing(iocp_socket *socket);

/* Called after each start of an operation by the thread that started it and still holds a count of
 * its own: cancels the operation if the socket is closing. */
void tp__iocp_started(iocp_socket *socket, iocp_request *request);

/* Attaches `handle` to the kernel port and fills `socket`. On error the caller still owns the
 * handle. */
tp_err tp__iocp_adopt(iocp_port *port, iocp_socket *socket, SOCKET handle);

/* Detaches a socket on which nothing was started, and closes its handle. */
void tp__iocp_abandon(iocp_socket *socket);

/* Runs the op of tp_socket_close(). */
void tp__iocp_closed(iocp_worker *worker, iocp_request *request);

tp_err tp__iocp_attach(
    tp_port *port, tp_socket *socket, tp_handle handle, const tp_socket_options *options);
void tp__iocp_finish(tp_worker *worker, tp_socket *socket);

/* ---- iocp_listen.c, iocp_close.c ------------------------------------------------------------- */

tp_err tp__iocp_listen(tp_port *port, tp_socket *socket, const tp_address *address,
    unsigned backlog, tp_address *bound);
void tp__iocp_unlisten(iocp_socket *socket);
void tp__iocp_close(tp_socket *socket, tp_op *op, bool reset);

/* ---- operations ------------------------------------------------------------------------------ */

tp_err tp__iocp_connect(tp_port *port, tp_socket *socket, const tp_address *address,
    const tp_socket_options *options, tp_op *op);
void tp__iocp_connected(iocp_worker *worker, iocp_request *request);

tp_err tp__iocp_send(
    tp_worker *worker, tp_socket *socket, tp_op *op, const tp_buffer *buffers, size_t count);
tp_err tp__iocp_send_now(
    tp_worker *worker, tp_socket *socket, const tp_buffer *buffers, size_t count, size_t *sent);
bool tp__iocp_send_take_back(tp_worker *worker, tp_socket *socket, tp_op *op, size_t *sent);
void tp__iocp_sent(iocp_worker *worker, iocp_request *request, size_t bytes);
void tp__iocp_send_failed(iocp_worker *worker, iocp_request *request);

tp_err tp__iocp_receive(tp_worker *worker, tp_socket *socket, tp_op *op);
void tp__iocp_pause(tp_worker *worker, tp_socket *socket);
void tp__iocp_resume(tp_worker *worker, tp_socket *socket);
void tp__iocp_received(iocp_worker *worker, iocp_request *request, size_t bytes);
void tp__iocp_receive_ended(iocp_worker *worker, iocp_request *request);
/* Queues the last delivery of a closing socket's parked receive. Any thread. */
void tp__iocp_end_parked_receive(iocp_socket *socket);

tp_err tp__iocp_accept(tp_socket *listener, tp_op *op);
/* An AcceptEx has completed. The worker that took the packet notes the result before it puts the
 * request anywhere; the worker that runs the request delivers it. */
void tp__iocp_note_accepted(iocp_request *request);
void tp__iocp_accepted(iocp_worker *worker, iocp_request *request);
void tp__iocp_accept_failed(iocp_worker *worker, iocp_request *request);
/* Handles an event of a listener, in its serialiser. */
void tp__iocp_accept_event(iocp_worker *worker, iocp_request *request);
/* Shares the retries that are due at `now`. */
void tp__iocp_run_retries(iocp_worker *worker, uint64_t now);

/* ---- iocp_buffers.c -------------------------------------------------------------------------- */

/* Returns a buffer of port->receive_buffer bytes, or NULL. Any thread. */
uint8_t *tp__iocp_buffer_take(iocp_port *port);
void tp__iocp_buffer_give(iocp_port *port, uint8_t *buffer);
void tp__iocp_buffers_free(iocp_port *port);

#endif
