/*
 * The seam: the interface between the core and the operating system. It is a completion port, cut
 * at the operation: receive, send, accept, connect, post, close.
 *
 * There is one contract, with one folder for each implementation (back end): `epoll` (os/linux) and
 * `iocp` (os/win32). Code above this header does not depend on the operating system; code below it
 * has no sessions and no packets. tests/port is the conformance suite that every back end passes.
 *
 *   port    a completion port with its worker slots; a process may have several
 *   worker  one worker slot; its thread calls tp_port_wait() and tp_port_dispatch() alternately
 *   socket  a listener or a connection, attached to one port for life
 *   op      one operation in progress; its callback is `done`
 *
 * How the back ends differ:
 *   iocp    all workers share one kernel port, and any worker takes any completion;
 *   epoll   each worker has a queue of its own, and a connection stays with one worker.
 * Callers assume neither: two completions of one socket may run on two workers at once.
 *
 * BLOCKED WORKERS. A `done` that blocks delays its worker: the completions that the worker has
 * taken and, with epoll, the connections that it serves. It delays no listener and no post without
 * a socket: a worker takes these one at a time, and the others are left to workers that are free.
 *
 * THE PROMISE. An op whose start succeeded comes back: its `done` runs exactly once. For receive
 * and accept it runs any number of times, once for each delivery, and exactly one delivery, the
 * final one, has `last` set. `done` runs inside tp_port_dispatch() of some worker of the port,
 * never inside the call that started the op. An op whose start returned an error has not started,
 * and its `done` does not run. From the start until the (last) `done` the op's memory belongs to
 * the port. Inside the last `done` it is the caller's again, and the caller may start the op anew
 * there.
 *
 * A result that is available at once is put on the worker's ready list. Dispatch runs that list
 * within a budget, so that no connection starves the others.
 *
 * THREADS. Any thread may call tp_port_post(), and tp_socket_close() once for each socket. Listen,
 * attach, connect and accept may also be called on any thread. Any other operation on a socket is
 * started on the thread of a worker for which tp_port_serves(worker, socket) is true; a caller on
 * another thread posts the work there. At most one receive and one send are in progress on a socket
 * at a time.
 */
#ifndef TWINPORT_OS_PORT_H
#define TWINPORT_OS_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "twinport/address.h"
#include "twinport/error.h"

typedef struct tp_port tp_port;
typedef struct tp_worker tp_worker;
typedef struct tp_op tp_op;
typedef struct tp_socket tp_socket;

/* One piece of a gathered send. */
typedef struct tp_buffer {
    const uint8_t *bytes;
    size_t size;
} tp_buffer;

/* The system's socket, as accept delivers it: a descriptor or a SOCKET, or TP_NO_HANDLE. */
typedef intptr_t tp_handle;
#define TP_NO_HANDLE ((tp_handle)-1)

/* The argument of `done`. */
typedef struct tp_completion {
    tp_worker *worker;    /* the worker on which `done` runs */
    tp_err error;         /* TP_OK, or why the operation failed */
    int os_error;         /* the system's code behind `error`, or 0 */
    bool last;            /* receive, accept: no delivery follows; other operations: true */
    const uint8_t *bytes; /* receive: the bytes, lent until `done` returns; NULL at the end */
    size_t count;         /* receive: number of bytes; send: number of bytes sent */
    tp_handle handle;     /* accept: the new connection; `done` owns it */
    tp_address address;   /* accept: the remote address */
} tp_completion;

typedef void tp_done(tp_op *op, const tp_completion *completion);

/*
 * An operation, embedded in the caller's struct. The caller sets `done` before each start and does
 * not touch `os`. Each back end checks at compile time that its own struct fits.
 */
#define TP_OP_WORDS 7
struct tp_op {
    tp_done *done;
    uint64_t os[TP_OP_WORDS];
};

/* A socket, embedded in the caller's struct; opaque. All zero: attached to nothing. */
#define TP_SOCKET_WORDS 9
struct tp_socket {
    uint64_t os[TP_SOCKET_WORDS];
};

/* ---- ports and workers ----------------------------------------------------------------------- */

typedef struct tp_port_options {
    size_t size;               /* sizeof(tp_port_options) */
    const char *backend;       /* "auto", "epoll", "iocp"; NULL means "auto" */
    unsigned workers;          /* number of worker slots, 1..TP_PORT_MAX_WORKERS */
    unsigned running;          /* iocp: how many threads the kernel lets run at once; 0: as many as
                                  workers. Other back ends ignore it */
    size_t receive_buffer;     /* bytes read at once, 4,096..1,048,576; 0: 65,536 */
    bool post_receive_buffers; /* iocp: true posts a buffer with each receive; false (the default)
                                  waits with a zero-byte receive, so that idle sockets pin no
                                  memory. Other back ends ignore it */
    unsigned reserve_descriptors; /* Linux: how many of the process's descriptors accepted
                                     connections leave free, at most a quarter of its limit; 0:
                                     none. Other back ends ignore it */
} tp_port_options;

#define TP_PORT_MAX_WORKERS 64

/* The names of the back ends of this build, best first, NULL at the end. */
const char *const *tp_port_backends(void);

/*
 * Creates a port with all its worker slots. TP_ERR_INVALID, TP_ERR_UNSUPPORTED (no such back end on
 * this system), TP_ERR_NO_MEMORY, TP_ERR_NO_DESCRIPTORS, TP_ERR_OS. On error *port is NULL.
 */
tp_err tp_port_create(const tp_port_options *options, tp_port **port);

/* The back end's name ("epoll"). */
const char *tp_port_backend(const tp_port *port);

/*
 * Frees the port. The caller ensures that every op has come back, that every socket is closed
 * (debug builds assert both), and that no thread is inside wait or dispatch. NULL is allowed.
 */
void tp_port_destroy(tp_port *port);

/* The worker slot `index`, 0..workers-1. */
tp_worker *tp_port_worker(tp_port *port, unsigned index);

/* A pointer that the port keeps for the caller in the worker slot. */
void tp_worker_set_context(tp_worker *worker, void *context);
void *tp_worker_context(const tp_worker *worker);

/*
 * Waits until the worker has something to dispatch, at most `timeout_ms` (-1: without limit; 0: not
 * at all). Called on the worker's thread. TP_OK: call tp_port_dispatch(). TP_ERR_TIMED_OUT: nothing
 * to dispatch. Any other error is a failure of the wait itself, whose code is in tp_os_error(); the
 * port is still intact, and waiting again is allowed.
 */
tp_err tp_port_wait(tp_worker *worker, int timeout_ms);

/*
 * Runs the `done` of what the last wait found, and of what became ready meanwhile, within a budget.
 * Called on the worker's thread, never inside a `done`. Returns how many `done` ran. What is left
 * over makes the next wait return at once.
 */
size_t tp_port_dispatch(tp_worker *worker);

/*
 * Runs `op->done` on a worker of the port: on one that serves `socket`, or on any free worker if
 * `socket` is NULL. Any thread. Here and in tp_port_serves() the close of `socket` may have
 * completed, as long as its memory holds no other socket. The posts of one thread to one socket run
 * in order; posts without a socket may run at the same time. A lack of memory is no failure: iocp
 * keeps what the kernel refuses in a list of its own. TP_ERR_OS: the post has not started; no
 * present back end returns it.
 */
tp_err tp_port_post(tp_port *port, tp_socket *socket, tp_op *op);

/* Ends the wait of every worker once, the present one or else the next one, so that the workers'
 * threads read the caller's flags. Any thread. */
void tp_port_wake(tp_port *port);

/* ---- sockets --------------------------------------------------------------------------------- */

typedef struct tp_socket_options {
    bool nodelay;          /* TCP_NODELAY */
    bool send_buffer_zero; /* iocp: SO_SNDBUF = 0, the kernel sends from the caller's memory. Other
                              back ends ignore it */
    unsigned keepalive_s;  /* seconds of silence after which TCP probes the connection; 0: never */
} tp_socket_options;

/*
 * True if a connection of this port stays with one worker for life (epoll): all its completions run
 * on that worker's thread, and so do the posts that name it, even after its close.
 */
bool tp_port_binds(const tp_port *port);

/* True if operations on `socket` may be started on this worker's thread. Any thread. The result
 * does not change while the socket is attached, nor after its close. */
bool tp_port_serves(const tp_worker *worker, const tp_socket *socket);

/*
 * Creates a socket that listens at `address` (port 0: the system chooses a free one) and attaches
 * it. `bound`, unless it is NULL, receives the address with the actual port. Any thread.
 * TP_ERR_ADDRESS_IN_USE, TP_ERR_ADDRESS, TP_ERR_ACCESS, TP_ERR_NO_DESCRIPTORS, TP_ERR_OS.
 */
tp_err tp_socket_listen(tp_port *port, tp_socket *socket, const tp_address *address,
    unsigned backlog, tp_address *bound);

/*
 * Attaches an accepted connection. The port chooses the worker that serves it. (epoll: within a
 * dispatch, the dispatching worker, so that the worker that accepts also serves; otherwise the one
 * with the fewest sockets among the workers that are not known to be blocked.) Any thread. On
 * success the socket owns the handle; on error the caller still does and closes it with
 * tp_handle_close(). TP_ERR_OS, TP_ERR_NO_BUFFERS.
 */
tp_err tp_socket_attach(
    tp_port *port, tp_socket *socket, tp_handle handle, const tp_socket_options *options);

/* Closes a handle that was never attached; with `reset`, by a reset instead of an orderly end. Any
 * thread. */
void tp_handle_close(tp_handle handle, bool reset);

/*
 * Starts a connection and attaches `socket`, which the caller closes with tp_socket_close()
 * whatever the result of the op. Any thread. `done`: TP_OK, TP_ERR_REFUSED, TP_ERR_UNREACHABLE,
 * TP_ERR_TIMED_OUT, TP_ERR_CANCELLED, TP_ERR_OS. If the start fails, `socket` is not attached.
 */
tp_err tp_socket_connect(tp_port *port, tp_socket *socket, const tp_address *address,
    const tp_socket_options *options, tp_op *op);

/*
 * Starts accepting. Delivers connections until the socket is closed. Several deliveries may run at
 * once on several workers, in no particular order; no other delivery runs beside the last one.
 * Where sockets stay with a worker, the connections are spread over the workers, and those with the
 * fewest sockets come first. Any thread.
 *
 * A temporary failure is delivered with `last` false and TP_NO_HANDLE: no descriptors are left, or
 * the connection was closed before it was accepted. After TP_ERR_NO_DESCRIPTORS and
 * TP_ERR_NO_BUFFERS the port tries again by itself 50 to 200 ms later; it does not spin, and the
 * listener stays open. TP_ERR_NO_DESCRIPTORS is also delivered when only the reserve is left; the
 * connections wait in the backlog meanwhile.
 */
tp_err tp_socket_accept(tp_socket *listener, tp_op *op);

/*
 * Starts receiving. Delivers bytes until the remote side ends its stream (TP_ERR_CLOSED, last), the
 * connection breaks (TP_ERR_RESET, TP_ERR_TIMED_OUT, TP_ERR_OS, last) or the socket is closed
 * (TP_ERR_CANCELLED, last). Deliveries come in order and never two at a time. Once
 * tp_socket_close() has returned, at most one delivery still carries bytes: the one that runs on
 * another thread at that moment.
 */
tp_err tp_socket_receive(tp_worker *worker, tp_socket *socket, tp_op *op);

/*
 * Pause suspends deliveries, so that the remote side's TCP window fills; resume continues them. On
 * the thread of a worker that serves the socket, also inside the receive's own `done`. After a
 * pause outside of that `done` one more delivery may come. The end of the stream or a reset may
 * stay undetected while the receive is paused.
 */
void tp_socket_pause(tp_worker *worker, tp_socket *socket);
void tp_socket_resume(tp_worker *worker, tp_socket *socket);

/*
 * Sends all `count` buffers (1..TP_PORT_MAX_BUFFERS), in order, as one operation. The array and the
 * bytes stay unchanged until `done`, except for what tp_socket_send_waits() permits. `done`: TP_OK
 * once the kernel has all bytes; otherwise TP_ERR_RESET, TP_ERR_CLOSED, TP_ERR_CANCELLED,
 * TP_ERR_NO_BUFFERS or TP_ERR_OS, with the number of bytes that the kernel has in `count`. The back
 * end continues after partial writes.
 */
#define TP_PORT_MAX_BUFFERS 64
tp_err tp_socket_send(
    tp_worker *worker, tp_socket *socket, tp_op *op, const tp_buffer *buffers, size_t count);

/*
 * Sends without an operation: as many bytes as the system takes at once, which may be none. *sent
 * is their number, also on error. No `done` follows. On the thread of a worker that serves the
 * socket, with no send in progress. TP_OK, or the error that `done` of a send would have.
 */
tp_err tp_socket_send_now(
    tp_worker *worker, tp_socket *socket, const tp_buffer *buffers, size_t count, size_t *sent);

/*
 * Takes back the send in progress. On the thread of a worker that serves the socket. True: the send
 * is over, its `done` does not run, and the system has *sent bytes of it. False: the send cannot be
 * taken back (iocp, where the system has the buffers; or a send that has failed), and its `done`
 * runs as usual.
 */
bool tp_socket_send_take_back(tp_worker *worker, tp_socket *socket, tp_op *op, size_t *sent);

/*
 * True if the send in progress on the socket waits until the system takes more of it. The caller
 * may then, between two calls to the port, point `bytes` of its buffers to copies of the same
 * bytes: the back end reads the buffers again when it continues. False if no send is in progress,
 * or if only its `done` is still to run; always false where sockets are not bound (tp_port_binds),
 * because the system has the buffers there. On the thread of a worker that serves the socket.
 */
bool tp_socket_send_waits(const tp_worker *worker, const tp_socket *socket);

/*
 * Ends the stream in the sending direction: sends a FIN behind the bytes sent so far. The receive
 * continues. On the thread of a worker that serves the socket, with no send in progress. Errors are
 * not reported here; the receive reports them.
 */
void tp_socket_finish(tp_worker *worker, tp_socket *socket);

/*
 * Cancels everything in progress on the socket and closes it. Any thread, once. Cannot fail. Every
 * op in progress still comes back, with TP_ERR_CANCELLED or with its actual result. Then `op->done`
 * runs with TP_OK: it is the last completion of the socket, and only inside it does the socket's
 * memory belong to the caller again. With `reset`, the remote side sees a reset instead of an
 * orderly end.
 */
void tp_socket_close(tp_socket *socket, tp_op *op, bool reset);

#endif
