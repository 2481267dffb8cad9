/*
 * The back end `iocp`: its structs, and what its files give each other.
 *
 *   iocp_port.c      the port, its seats, waking them
 *   iocp_wait.c      waiting for completions
 *   iocp_dispatch.c  running them
 *   iocp_shared.c    what no worker may keep for itself
 *   iocp_post.c      posting; a socket's turn
 *   iocp_socket.c    a socket's life: attach, listen, close, and the word that decides it
 *   iocp_send.c  iocp_receive.c  iocp_accept.c  iocp_connect.c
 *   iocp_buffers.c   posted receive buffers
 *
 * One kernel port is shared by all workers. A completion belongs to the worker that took it out of
 * the kernel, and to nobody else.
 *
 * A REQUEST is what the kernel, a list or a turn holds: the part of a tp_op after `done`, or one of
 * a listener's own. It is in exactly one place at a time:
 *   kernel   started, or queued to the port: its OVERLAPPED is the kernel's
 *   ready    in a worker's list, which that worker's thread alone touches
 *   shared   in the port's list of what any worker may take (iocp_shared.c)
 *   late     in the port's list of what the kernel had no memory to queue
 *   turn     behind others of its socket
 *   parked   a paused receive, in nobody's hands until resume or close take it
 *
 * A SOCKET's life is its `state` word (iocp_socket.c).
 */
#ifndef TWINPORT_OS_WIN32_IOCP_H
#define TWINPORT_OS_WIN32_IOCP_H

#include <stdatomic.h>

#include "os/compiler.h"
#include "os/port_backend.h"
#include "os/win32/handle.h"
#include "os/win32/system.h"

typedef struct iocp_socket iocp_socket;
typedef struct iocp_listener iocp_listener;
typedef struct iocp_port iocp_port;

typedef enum iocp_kind {
    IOCP_POSTED,        /* an op of no socket: run it */
    IOCP_CLOSED,        /* the op of tp_socket_close: the socket is gone */
    IOCP_CONNECT,       /* ConnectEx has ended */
    IOCP_SEND,          /* WSASend has ended */
    IOCP_SEND_FAILED,   /* WSASend has been refused */
    IOCP_RECEIVE,       /* WSARecv has ended */
    IOCP_RECEIVE_ENDED, /* a receive's last delivery, decided elsewhere than in its completion */
    IOCP_ACCEPT,        /* AcceptEx has ended: a listener's slot, which knows how */
    IOCP_ACCEPT_FAILED, /* no AcceptEx could be started: tell it */
    /* The rest run in their socket's turn; the one that is queued stands for all behind it. */
    IOCP_TURN_POSTED,    /* an op posted to the socket */
    IOCP_TURN_ACCEPTED,  /* a slot whose AcceptEx has ended */
    IOCP_TURN_RETRY,     /* the pause after a failure is over */
    IOCP_TURN_UNLISTEN,  /* the listener is closing */
    IOCP_TURN_DELIVERED, /* ... and a delivery that ran beside that is over */
} iocp_kind;

typedef struct TP_MAY_ALIAS iocp_request {
    union {
        OVERLAPPED overlapped; /* kernel */
        struct {
            struct iocp_request *next; /* ready, late, shared */
            tp_err error;              /* IOCP_SEND_FAILED, IOCP_RECEIVE_ENDED: what to say */
            int os_error;
        } waiting;
    };
    iocp_socket *socket; /* NULL: IOCP_POSTED */
    union {
        struct iocp_request *next_in_turn;
        const tp_buffer *buffers; /* IOCP_SEND: the caller's */
    };
    uint64_t kind : 8;
    uint64_t count : 8; /* IOCP_SEND: of buffers */
    uint64_t sent : 48; /* IOCP_SEND: bytes with the kernel */
} iocp_request;

typedef struct TP_MAY_ALIAS iocp_op {
    tp_done *done;
    iocp_request request;
} iocp_op;

_Static_assert(sizeof(iocp_op) <= sizeof(tp_op), "an op has room for what iocp keeps in it");
_Static_assert(alignof(iocp_op) <= alignof(tp_op), "an op is aligned for what iocp keeps in it");
_Static_assert(offsetof(iocp_op, done) == offsetof(tp_op, done), "done is shared");
_Static_assert(TP_PORT_MAX_BUFFERS < 256, "the count of buffers has 8 bits");

struct TP_MAY_ALIAS iocp_socket {
    iocp_port *port; /* the owner word of port_backend.h */
    SOCKET handle;   /* valid while `state` counts anything */
    _Atomic uint64_t state;
    _Atomic(iocp_request *) turn; /* iocp_post.c */
    iocp_request *turn_rest;      /* the turn owner's: taken, not yet run */
    iocp_request *receive;        /* the receive in progress */
    uint8_t *receive_buffer;      /* its posted buffer, or NULL */
    iocp_request *close;          /* the op of tp_socket_close */
    iocp_listener *listener;      /* owned; NULL: a connection */
};

_Static_assert(sizeof(iocp_socket) <= sizeof(tp_socket), "a socket has room for what iocp keeps");
_Static_assert(alignof(iocp_socket) <= alignof(tp_socket), "a socket is aligned for iocp");
_Static_assert(offsetof(iocp_socket, port) == 0, "the first word is the owner");

/* What `state` is made of. */
#define IOCP_COUNT   UINT64_C(0x00000000ffffffff)
#define IOCP_CLOSING UINT64_C(0x0000000100000000) /* tp_socket_close has been called */
#define IOCP_PAUSED  UINT64_C(0x0000000200000000)
#define IOCP_PARKED  UINT64_C(0x0000000400000000) /* the receive is in nobody's hands */

#define IOCP_ENTRIES 32 /* completions taken at once: more would keep them from idle workers */
/* Of one batch all sockets together read about so much, and each at least IOCP_SHARE_LEAST. */
#define IOCP_BATCH_BYTES ((size_t)256 * 1024)
#define IOCP_SHARE_LEAST ((size_t)20 * 1024)

typedef struct iocp_worker {
    tp_worker head; /* first */
    /* Its own thread's alone. */
    unsigned budget; /* what this dispatch may still run beyond what was taken */
    size_t ran;      /* `done`s in this dispatch */
    iocp_request *ready_first;
    iocp_request *ready_last;
    uint8_t *buffer; /* for receives that waited with no buffer */
    size_t share;    /* what a socket that waited with no buffer reads in this batch */
    ULONG taken;     /* entries */
    OVERLAPPED_ENTRY entries[IOCP_ENTRIES];
    /* Shared with those who wake. */
    atomic_bool woken;
    _Atomic DWORD thread_id; /* who sits here, 0: nobody yet */
} iocp_worker;

struct iocp_port {
    tp_port head; /* first */
    HANDLE kernel;
    size_t receive_buffer;
    bool post_receive_buffers;
    size_t most_per_send; /* bytes given to one WSASend */
    LPFN_ACCEPTEX accept_ex;
    LPFN_CONNECTEX connect_ex;
    LPFN_GETACCEPTEXSOCKADDRS accepted_addresses;
    iocp_worker *workers[TP_PORT_MAX_WORKERS];
    _Atomic(iocp_request *) late;
    atomic_size_t sockets; /* attached and not yet closed */
    SRWLOCK retries_lock;  /* guards the list; only failing listeners come here */
    iocp_listener *retries;
    _Atomic uint64_t retry_due; /* when the first of them is due (tp_clock_ms); 0: none */
    SLIST_HEADER buffers;
    SRWLOCK shared_lock; /* guards the list: iocp_shared.c */
    iocp_request *shared_first;
    iocp_request *shared_last;
    atomic_uint shared_count;
    atomic_bool called;
};

extern const tp__port_backend tp__iocp_backend;

static inline iocp_port *iocp_port_of(const iocp_worker *worker) {
    return (iocp_port *)(void *)worker->head.port;
}

/* ---- iocp_wait.c, iocp_dispatch.c ------------------------------------------------------------ */

tp_err tp__iocp_wait(tp_worker *worker, int timeout_ms);
size_t tp__iocp_dispatch(tp_worker *worker);

/* Runs `request`'s done. */
void tp__iocp_done(iocp_worker *worker, iocp_request *request, tp_completion *completion);

/* To be run by this worker's dispatch. On its thread. */
void tp__iocp_ready(iocp_worker *worker, iocp_request *request);

/* Runs a request by its kind. */
void tp__iocp_run(iocp_worker *worker, iocp_request *request, size_t bytes);

/* ---- iocp_shared.c --------------------------------------------------------------------------- */

/* Is the request of a kind that any worker may take? */
bool tp__iocp_is_shared(const iocp_request *request);
/* Puts it on the list; tp__iocp_call() after that, unless this worker looks there itself. Any
 * thread. */
void tp__iocp_share(iocp_port *port, iocp_request *request);
/* Makes a worker that is free look at the list. Any thread. */
void tp__iocp_call(iocp_port *port);
bool tp__iocp_has_shared(iocp_port *port);
/* Takes what is shared, a turn's worth. */
void tp__iocp_run_shared(iocp_worker *worker);

/* ---- iocp_post.c ----------------------------------------------------------------------------- */

tp_err tp__iocp_post(tp_port *port, tp_socket *socket, tp_op *op);

/* To be run by any worker's dispatch. Any thread; cannot fail. */
void tp__iocp_queue(iocp_port *port, iocp_request *request);

/* Moves what is late to the worker's ready list. */
void tp__iocp_take_late(iocp_worker *worker);

/* Adds a request, which holds one count of the socket, to its turn. True: the turn was idle, and
 * the caller now has to see that tp__iocp_run_turn() is called once. */
bool tp__iocp_join_turn(iocp_socket *socket, iocp_request *request);
void tp__iocp_run_turn(iocp_worker *worker, iocp_socket *socket);
/* Takes an idle turn without running anything, and hands it on. Any thread that holds a count. */
bool tp__iocp_begin_turn(iocp_socket *socket);
void tp__iocp_pass_turn(iocp_socket *socket);

/* ---- iocp_socket.c --------------------------------------------------------------------------- */

/* Takes `count` counts, unless the socket is closing. */
bool tp__iocp_enter(iocp_socket *socket, unsigned count);
/* The same, unless it has been closed entirely. */
bool tp__iocp_enter_closing(iocp_socket *socket, unsigned count);
/* Takes one more. The caller holds one. */
void tp__iocp_enter_again(iocp_socket *socket);
/* Gives counts back. `worker`: the caller's, or NULL on other threads. */
void tp__iocp_leave(iocp_worker *worker, iocp_socket *socket, unsigned count);
bool tp__iocp_is_closing(iocp_socket *socket);

/* After every start of an operation, by the one who started it and still holds a count of his
 * own. */
void tp__iocp_started(iocp_socket *socket, iocp_request *request);

/* Makes `handle` the port's and fills `socket`. The handle stays the caller's on error. */
tp_err tp__iocp_adopt(iocp_port *port, iocp_socket *socket, SOCKET handle);

/* Takes a socket that nothing was started on off the port and closes its handle. */
void tp__iocp_abandon(iocp_socket *socket);

void tp__iocp_closed(iocp_worker *worker, iocp_request *request);

tp_err tp__iocp_listen(tp_port *port, tp_socket *socket, const tp_address *address,
    unsigned backlog, tp_address *bound);
tp_err tp__iocp_attach(
    tp_port *port, tp_socket *socket, tp_handle handle, const tp_socket_options *options);
void tp__iocp_finish(tp_worker *worker, tp_socket *socket);
void tp__iocp_close(tp_socket *socket, tp_op *op, bool reset);
tp_err tp__iocp_local_address(const tp_socket *socket, tp_address *address);

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
/* The parked receive of a closing socket: queues its end. Any thread. */
void tp__iocp_end_parked_receive(iocp_socket *socket);

tp_err tp__iocp_accept(tp_socket *listener, tp_op *op);
/* An AcceptEx has ended, on whichever worker took the packet: notes how, before the request is put
 * anywhere; and then delivers it, on whichever worker runs it. */
void tp__iocp_note_accepted(iocp_request *request);
void tp__iocp_accepted(iocp_worker *worker, iocp_request *request);
void tp__iocp_accept_failed(iocp_worker *worker, iocp_request *request);
/* What happens to a listener, in its turn. */
void tp__iocp_accept_event(iocp_worker *worker, iocp_request *request);
iocp_listener *tp__iocp_listener_new(iocp_socket *socket, int family);
void tp__iocp_listener_free(iocp_listener *listener);
void tp__iocp_unlisten(iocp_socket *socket);
/* Starts what is due at `now`. */
void tp__iocp_run_retries(iocp_worker *worker, uint64_t now);

/* ---- iocp_buffers.c -------------------------------------------------------------------------- */

/* A buffer of port->receive_buffer bytes, or NULL. Any thread. */
uint8_t *tp__iocp_buffer_take(iocp_port *port);
void tp__iocp_buffer_give(iocp_port *port, uint8_t *buffer);
void tp__iocp_buffers_free(iocp_port *port);

#endif
