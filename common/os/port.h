/*
 * The seam: a completion port, cut at the operation.
 *
 * One contract, one folder per implementation: `epoll` (os/linux), `iocp` (os/win32). Everything
 * above this header is free of operating systems; everything below it is free of sessions and
 * packets. tests/port holds one conformance suite that every implementation passes.
 *
 * A PORT is one network's completion port. A WORKER is a thread's seat at it: the thread that sits
 * there calls tp_port_wait() and tp_port_dispatch() in turn. A SOCKET is attached to one port for
 * life. An OP is one operation in progress.
 *
 *   - `iocp`: one kernel port shared by all workers; any worker takes any completion.
 *   - `epoll`: each worker has its own queue inside the port, and a connection stays with one
 *     worker.
 *   Callers assume neither: two completions of one socket may run on two workers at once.
 *
 * A callee that blocks holds up its worker, what that worker has in hand, and with `epoll` the
 * connections that stay with it. It holds up no listener and no post that names no socket: what is
 * to be accepted or posted while another worker is free goes there, and one callee at a time has
 * it.
 *
 * THE PROMISE. An op that was started successfully comes back through its `done` exactly once
 * (receive and accept: any number of deliveries, of which exactly one, the final one, says `last`).
 * `done` runs inside tp_port_dispatch() of some worker of the port, never from inside the call that
 * started it. A start that returns an error has not started: `done` will not run. From start until
 * (last) `done`, the op's memory belongs to the port; inside its last `done` it is the caller's
 * again, who may start it anew there.
 *
 * A result that is there at once goes on the worker's ready list, which dispatch drains within a
 * budget, so that no connection starves the rest.
 *
 * THREADS. tp_port_post() may be called from any thread. tp_socket_close() may be called from any
 * thread, once per socket. The start of any other operation on a socket needs a worker for which
 * tp_port_serves(worker, socket) is true, and is called on that worker's thread; post the work
 * there if it is not. At most one receive and one send are in progress on a socket at a time.
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

/* The system's socket as accept delivers it: -1 (TP_NO_HANDLE) or a descriptor or SOCKET. */
typedef intptr_t tp_handle;
#define TP_NO_HANDLE ((tp_handle)-1)

/* What `done` is told. */
typedef struct tp_completion {
    tp_worker *worker;    /* the worker it runs on */
    tp_err error;         /* TP_OK, or why it failed */
    int os_error;         /* the system's code behind `error`, or 0 */
    bool last;            /* receive, accept: no delivery follows; everything else: true */
    const uint8_t *bytes; /* receive: the bytes, lent until `done` returns; NULL at the end */
    size_t count;         /* receive: how many bytes; send: how many were sent */
    tp_handle handle;     /* accept: the new connection; the callee owns it now */
    tp_address address;   /* accept: the peer's address */
} tp_completion;

typedef void tp_done(tp_op *op, const tp_completion *completion);

/*
 * An operation, embedded in the caller's struct. The caller sets `done` before each start and
 * touches nothing else. The back end checks at compile time that its part fits.
 */
#define TP_OP_WORDS 7
struct tp_op {
    tp_done *done;
    uint64_t os[TP_OP_WORDS];
};

/* A socket, embedded in the caller's struct; opaque. All zero is "no socket". */
#define TP_SOCKET_WORDS 9
struct tp_socket {
    uint64_t os[TP_SOCKET_WORDS];
};

/* ---- ports and workers ----------------------------------------------------------------------- */

typedef struct tp_port_options {
    size_t size;               /* sizeof(tp_port_options) */
    const char *backend;       /* "auto", "epoll", "iocp"; NULL means "auto" */
    unsigned workers;          /* 1..TP_PORT_MAX_WORKERS seats */
    unsigned running;          /* iocp: threads the kernel lets run at once; 0: as many as workers.
                                  Others ignore it */
    size_t receive_buffer;     /* bytes read at once, 4,096..1,048,576; 0: 65,536 */
    bool post_receive_buffers; /* iocp: true posts a buffer per receive; false (default) waits with
                                  a zero-byte receive, so that idle sockets pin no memory */
    unsigned reserve_descriptors; /* Linux: so many of the process's descriptors, but at most a
                                     quarter, are not for accepted connections. 0: none */
} tp_port_options;

#define TP_PORT_MAX_WORKERS 64

/* Names of the back ends built in, best first, NULL at the end. */
const char *const *tp_port_backends(void);

/*
 * Creates a port with all its seats. TP_ERR_INVALID, TP_ERR_UNSUPPORTED (no such back end here),
 * TP_ERR_NO_MEMORY, TP_ERR_NO_DESCRIPTORS, TP_ERR_OS. On error *port is NULL.
 */
tp_err tp_port_create(const tp_port_options *options, tp_port **port);

/* The back end's name ("epoll"). */
const char *tp_port_backend(const tp_port *port);

/*
 * Frees the port. Every op must have come back and every socket be closed: that is the caller's
 * duty, and an assertion in debug builds. No thread may be inside wait or dispatch.
 */
void tp_port_destroy(tp_port *port);

/* Seat number `index` (0..workers-1). */
tp_worker *tp_port_worker(tp_port *port, unsigned index);
unsigned tp_worker_index(const tp_worker *worker);
tp_port *tp_worker_port(const tp_worker *worker);

/* A pointer of the caller's, kept with the seat. */
void tp_worker_set_context(tp_worker *worker, void *context);
void *tp_worker_context(const tp_worker *worker);

/*
 * Waits until the worker has something to dispatch, at most `timeout_ms` (-1: for ever; 0: does not
 * wait). TP_OK: call tp_port_dispatch(). TP_ERR_TIMED_OUT: nothing came. Anything else is a failure
 * of the wait itself (tp_os_error() says which); the port is still intact and may be waited on
 * again.
 */
tp_err tp_port_wait(tp_worker *worker, int timeout_ms);

/* Runs the `done` of what the last wait found and of what became ready meanwhile, within the
 * budget. Returns how many ran. What is left over makes the next wait return at once. */
size_t tp_port_dispatch(tp_worker *worker);

/*
 * Runs `op->done` on a worker of the port: one that serves `socket`, or any that is free if
 * `socket` is NULL. Any thread. Cannot fail for lack of memory. A socket may be named here and in
 * tp_port_serves() even if its close has completed, as long as its memory holds no other socket.
 * From one thread to one socket, posts arrive in order; those without a socket may overlap. Fails
 * with TP_ERR_OS only if the system refuses (iocp: no non-paged pool), and then has not started.
 */
tp_err tp_port_post(tp_port *port, tp_socket *socket, tp_op *op);

/* Wakes every worker that is waiting, once, so that it looks at the caller's flags. Any thread. */
void tp_port_wake(tp_port *port);

/* ---- sockets --------------------------------------------------------------------------------- */

typedef struct tp_socket_options {
    bool nodelay;          /* TCP_NODELAY */
    bool send_buffer_zero; /* iocp: SO_SNDBUF = 0, the kernel sends from the caller's memory; others
                              ignore it */
    unsigned keepalive_s;  /* seconds of silence before TCP probes; 0: none */
} tp_socket_options;

/* Does a connection of this port stay with one worker for life (epoll), so that all of its
 * completions, and the posts that name it even after its close, run on that worker's thread? */
bool tp_port_binds(const tp_port *port);

/* May operations on `socket` be started on this worker's thread? Any thread, and after its close
 * still: the answer stays the same. */
bool tp_port_serves(const tp_worker *worker, const tp_socket *socket);

/*
 * Makes a listening socket bound to `address` (port 0: a free one) and attaches it.
 * `bound` receives the address with its real port; may be NULL. Any thread.
 * TP_ERR_ADDRESS_IN_USE, TP_ERR_ADDRESS, TP_ERR_ACCESS, TP_ERR_NO_DESCRIPTORS, TP_ERR_OS.
 */
tp_err tp_socket_listen(tp_port *port, tp_socket *socket, const tp_address *address,
    unsigned backlog, tp_address *bound);

/*
 * Attaches an accepted connection. The port chooses the worker that serves it (epoll: in a dispatch
 * the worker whose it is, so that who accepts serves; else the least loaded, of those that are not
 * known to be held up). Any thread. On success the handle belongs to the socket; on error it is
 * still the caller's: tp_handle_close() it. TP_ERR_OS, TP_ERR_NO_BUFFERS.
 */
tp_err tp_socket_attach(
    tp_port *port, tp_socket *socket, tp_handle handle, const tp_socket_options *options);

/* Closes a handle that was never attached; `reset` sends a reset instead of an orderly end. */
void tp_handle_close(tp_handle handle, bool reset);

/*
 * Starts a connection. `socket` is attached by this call and must be closed with tp_socket_close()
 * whatever becomes of the op. Any thread. `done`: TP_OK, TP_ERR_REFUSED, TP_ERR_UNREACHABLE,
 * TP_ERR_TIMED_OUT, TP_ERR_CANCELLED, TP_ERR_OS. A start that fails leaves `socket` unattached.
 */
tp_err tp_socket_connect(tp_port *port, tp_socket *socket, const tp_address *address,
    const tp_socket_options *options, tp_op *op);

/*
 * Starts accepting. Delivers connections until the socket is closed, several at once on several
 * workers, in no order; only the last delivery comes alone. Where sockets stay with a worker,
 * connections are spread over them, those first that serve the fewest. A failure that passes (no
 * descriptors left, connection gone before it was taken) is delivered with `last` false and handle
 * TP_NO_HANDLE; the port pauses 50 to 200 ms by itself after TP_ERR_NO_DESCRIPTORS and
 * TP_ERR_NO_BUFFERS: it neither spins nor loses the listener. That only the reserve is left is
 * TP_ERR_NO_DESCRIPTORS too: who comes waits in the backlog. Any thread.
 */
tp_err tp_socket_accept(tp_socket *listener, tp_op *op);

/*
 * Starts receiving. Delivers bytes until the peer ends (TP_ERR_CLOSED, last), the connection breaks
 * (TP_ERR_RESET, TP_ERR_TIMED_OUT, TP_ERR_OS, last) or the socket is closed (TP_ERR_CANCELLED,
 * last). Deliveries are in order and never two at a time. After tp_socket_close() has returned, at
 * most the one delivery that is running elsewhere at that moment still carries bytes.
 */
tp_err tp_socket_receive(tp_worker *worker, tp_socket *socket, tp_op *op);

/* Holds deliveries back, so that the peer's TCP window fills; and lets them go on. Called on a
 * worker that serves the socket, also inside the receive's own `done`. One delivery may still
 * follow a pause that was called outside of it. An end of stream or a reset may stay unseen while
 * paused. */
void tp_socket_pause(tp_worker *worker, tp_socket *socket);
void tp_socket_resume(tp_worker *worker, tp_socket *socket);

/*
 * Sends all the buffers, in order, as one operation. `buffers` (1..TP_PORT_MAX_BUFFERS) and what
 * they point to stay untouched until `done`, but for tp_socket_send_waits(). `done`: TP_OK when all
 * of it is with the kernel, or why not (TP_ERR_RESET, TP_ERR_CLOSED, TP_ERR_CANCELLED,
 * TP_ERR_NO_BUFFERS, TP_ERR_OS) and in `count` how much was. Partial writes are the back end's
 * business.
 */
#define TP_PORT_MAX_BUFFERS 64
tp_err tp_socket_send(
    tp_worker *worker, tp_socket *socket, tp_op *op, const tp_buffer *buffers, size_t count);

/*
 * The same without an operation: gives the system what it takes at once, which may be nothing, and
 * says in *sent how many bytes that were. No `done` follows. Called on a worker that serves the
 * socket, with no send in progress. TP_OK, or why the connection takes no more (as `done` of a
 * send); *sent is right in any case.
 */
tp_err tp_socket_send_now(
    tp_worker *worker, tp_socket *socket, const tp_buffer *buffers, size_t count, size_t *sent);

/*
 * Takes a send in progress back, on a worker that serves the socket. True: it is over, its `done`
 * will not run, and *sent bytes of it are with the system. False: it is not to be had back (iocp,
 * where the system has the buffers; a send that has failed), and its `done` will come.
 */
bool tp_socket_send_take_back(tp_worker *worker, tp_socket *socket, tp_op *op, size_t *sent);

/*
 * Does the send in progress on the socket wait for the system to take more of it? Then the caller
 * may point `bytes` of its buffers to copies of what they point to, between calls of the port: the
 * back end reads them anew when it goes on. False if there is none, or it is over and only `done`
 * is still to run; and always false where sockets are not bound (tp_port_binds), for there the
 * system has the buffers. On the thread of a worker that serves the socket.
 */
bool tp_socket_send_waits(const tp_worker *worker, const tp_socket *socket);

/*
 * Says "no more bytes from here" (FIN) behind what was sent; the receive goes on. Called on a
 * worker that serves the socket, with no send in progress. Errors are not reported: the receive
 * will.
 */
void tp_socket_finish(tp_worker *worker, tp_socket *socket);

/*
 * Cancels everything in progress on the socket and closes it. Any thread, once. Every op still
 * comes back (TP_ERR_CANCELLED, or how it really ended), then `op->done` with TP_OK: it is the last
 * completion of the socket, and only inside it is the socket's memory the caller's again.
 * Cannot fail. With `reset`, the peer sees a reset instead of an orderly end.
 */
void tp_socket_close(tp_socket *socket, tp_op *op, bool reset);

/* The socket's own address. TP_OK or TP_ERR_OS. */
tp_err tp_socket_local_address(const tp_socket *socket, tp_address *address);

#endif
