/*
 * A server: one network, with its own completion port, workers, sessions and handlers.
 *
 *     static void on_recv(tp_server *server, tp_session_id session, tp_packet *packet) {
 *         tp_server_send(server, session, packet);
 *     }
 *     ...
 *     tp_handlers handlers = {.size = sizeof handlers, .on_recv = on_recv};
 *     tp_server *server = NULL;
 *     tp_err error = tp_server_create(&options, &handlers, &server);
 *     if (!error) error = tp_server_start(server);
 *
 * The libraries `lanserver` and `wanserver` make servers with the protocol and the rules of their
 * network. This header is what both have in common.
 *
 * HANDLERS run on the server's worker threads, never inside a call of yours, and never with a lock
 * held. Every function here may be called from every handler, except tp_server_start(),
 * tp_server_wait() and tp_server_destroy(). For one session, on_join, each on_recv and on_leave run
 * one after another; on_send may overlap them. Between sessions there is no order:
 * on_connection_request, too, may run on several workers at once.
 *
 * A handler that blocks holds up its worker and every session that the worker serves, and nothing
 * else; no session is ended for it. On iocp it holds up the sessions whose input the worker had
 * just taken; there it must not block as long as idle_timeout_ms, after which they count as silent.
 * New connections and tasks go to another worker within 100 ms, as long as one is free (within 0.3
 * s if the handler that blocks is a delayed task or on_worker_begin).
 */
#ifndef TWINPORT_SERVER_H
#define TWINPORT_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "twinport/address.h"
#include "twinport/error.h"
#include "twinport/packet.h"
#include "twinport/session.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tp_server tp_server;

/* ---- handlers -------------------------------------------------------------------------------- */

/* All of them are optional. `context` is the one given in the options:
 * tp_server_context(server). */
typedef struct tp_handlers {
    size_t size; /* sizeof(tp_handlers) */

    /* Called right after accept, before a session exists and after the access list has admitted the
     * address. False turns the connection away: it is reset, counted and logged.
     * May run on several workers at once. */
    bool (*on_connection_request)(tp_server *server, const tp_address *peer);

    /* A session exists. Nothing has been received yet, so the server may send first. */
    void (*on_join)(tp_server *server, tp_session_id session);

    /* The session is released: nothing more is delivered for it, and its id is no longer valid.
     * Called exactly once for each on_join. */
    void (*on_leave)(tp_server *server, tp_session_id session, tp_end_reason reason);

    /* One message. The packet belongs to the server and is valid until the handler returns: retain
     * it to keep it, send it as it is to pass it on. It may be read and edited in place. */
    void (*on_recv)(tp_server *server, tp_session_id session, tp_packet *packet);

    /* `packets` packets of `bytes` bytes, headers included, have been handed to the system. One
     * call for a gathered send, not one for each packet; what was sent inside a handler is in the
     * next call. Not called any more once the session is being closed. */
    void (*on_send)(tp_server *server, tp_session_id session, size_t packets, size_t bytes);

    /* The first is called right after a worker has taken a batch of completions, the second after
     * it has handled them, sends included. `worker` is 0..workers-1. */
    void (*on_worker_begin)(tp_server *server, unsigned worker);
    void (*on_worker_end)(tp_server *server, unsigned worker);

    /* An error that no call of yours could return: the listener could not accept a connection
     * (TP_ERR_NO_DESCRIPTORS), memory was out (TP_ERR_NO_MEMORY), the system lacks buffers
     * (TP_ERR_NO_BUFFERS: WSAENOBUFS), a wait failed. `where` is a short static text. It is counted
     * and logged (rate-limited) whether or not this handler exists. */
    void (*on_error)(tp_server *server, tp_err error, int os_error, const char *where);
} tp_handlers;

/* ---- options --------------------------------------------------------------------------------- */

/*
 * What happens when a session's send queue is at its limit. An empty queue takes any packet, even
 * one that is larger than queue_bytes. So at most the limits are queued, or one packet; and each of
 * several threads that send at the same moment may have one more packet admitted.
 *
 * TP_QUEUE_DISCONNECT ends a session only if its peer is slow. If nothing of the queue could be
 * sent because the worker that serves the session did not come to it (a handler of another session
 * blocked it, the process was stopped), or had stalled just before, the queue grows up to
 * TP_QUEUE_STALL_FACTOR times both limits. What does not fit there is refused, and the session
 * continues. A send that the peer has not taken for 2 s in which the worker served ends the session
 * in any case.
 */
#define TP_QUEUE_STALL_FACTOR 4u
typedef enum tp_queue_policy {
    TP_QUEUE_DISCONNECT = 0, /* the session ends, reason TP_END_OVERLOAD; the send returns false */
    TP_QUEUE_DROP = 1,       /* the new packet is dropped and counted; the send returns true */
    TP_QUEUE_REFUSE = 2      /* the send returns false; the session continues */
} tp_queue_policy;

typedef struct tp_server_options {
    size_t size;      /* sizeof(tp_server_options) */
    const char *name; /* for threads and log lines, up to 11 bytes; copied */
    void *context;    /* yours: tp_server_context() */

    bool listen;            /* false: outgoing connections only */
    tp_address address;     /* to listen on; port 0: any free one */
    unsigned backlog;       /* connections waiting for accept, 1..65,535 */
    bool allow_public_bind; /* lanserver: without it a public or wildcard address is refused */
    tp_access access;       /* who may connect; copied */

    const char *io;            /* "auto", "epoll", "iocp" */
    unsigned workers;          /* threads, 1..64; 0: one for each processor available */
    unsigned running;          /* iocp: how many of them run at once, up to `workers`; 0: all */
    bool low_latency;          /* the workers call tp_thread_ask_low_latency() of process.h; a
                                  refusal of the system is logged once */
    bool nodelay;              /* true switches Nagle off */
    bool send_buffer_zero;     /* iocp: SO_SNDBUF = 0 */
    bool post_receive_buffers; /* iocp: a buffer per receive instead of a zero-byte wait */
    size_t receive_buffer;     /* bytes a worker reads at once, 4,096..1,048,576 */

    unsigned reserve_descriptors; /* Linux: how many of the process's descriptors, 0..65,536 and at
                                     most a quarter, are never used for accepted connections; these
                                     then wait in the backlog */

    unsigned max_sessions;  /* 1..TP_MAX_SESSIONS; a connection beyond it gets CLOSE `full` */
    size_t max_frame;       /* largest payload accepted, 1..TP_PACKET_MAX */
    size_t queue_bytes;     /* per session: send queue, bytes, 1,024..2^32-1; may be less than one
                               packet: see tp_queue_policy */
    unsigned queue_packets; /* per session: send queue, packets, 1..2^24-1 */
    tp_queue_policy queue_policy;
    size_t reserve_bytes; /* memory for packets that create reserves, 0..1,073,741,824 */
    /* The most memory that the process may have taken from the system for messages and their
     * bookkeeping, for all its servers (tp_server_stats.memory_held). While it holds more, free
     * memory is given back first, and then this server's sessions are ended, one after the other,
     * the one with the largest queue first, reason TP_END_OVERLOAD. Checked after each batch of a
     * worker, at the latest after 0.3 s. 0: no limit; otherwise 1,048,576..2^40, and not less than
     * reserve_bytes. */
    uint64_t memory_limit;

    /* These four are measured in the time in which the worker that serves the session could serve
     * it: not while a handler blocks the worker or the process stands still, nor while the worker
     * catches up on that (on iocp: not while that holds for all workers). */
    unsigned idle_timeout_ms;    /* silence that ends a session, 0: never; otherwise
                                    100..86,400,000 */
    unsigned ping_interval_ms;   /* silence after which the server sends PING, 0: never; otherwise
                                    at least 50, and less than idle_timeout_ms if that is not 0 */
    unsigned connect_timeout_ms; /* outgoing connections, 100..600,000 */
    unsigned drain_timeout_ms;   /* tp_server_stop(): time for queues to empty, 0..600,000 */
} tp_server_options;

/*
 * A session that is being ended does not count as one of max_sessions, so another may join at once.
 * This many slots beside max_sessions are for those sessions, and for connections that get CLOSE
 * `full`, until their peers have hung up. When they run short, the sessions whose drain_timeout_ms
 * is over first are cut early. All slots together are at most TP_MAX_SESSIONS: above a max_sessions
 * of 838,810 there are fewer such slots.
 */
#define TP_SERVER_ENDING(max_sessions) (64u + (max_sessions) / 4u)

/* ---- create, start, stop, destroy ------------------------------------------------------------ */

/* Fills `options` with the core's defaults: one worker per processor, Nagle off, 1,024 sessions, 1
 * MiB frames, 16 MiB and 65,536 packets of queue, 60 s idle, PING at half of it, 5 s drain. */
void tp_server_defaults(tp_server_options *options);

/*
 * Creates a server and allocates its tables. Handlers and options are copied. TP_ERR_INVALID (an
 * option is out of range, or two contradict each other: the log names them), TP_ERR_NO_MEMORY. On
 * error *server is NULL.
 */
tp_err tp_server_create(
    const tp_server_options *options, const tp_handlers *handlers, tp_server **server);

/*
 * Opens the port, starts the workers, listens. When it returns TP_OK, connections are accepted. On
 * error nothing is left running: TP_ERR_ADDRESS_IN_USE, TP_ERR_ADDRESS, TP_ERR_ACCESS,
 * TP_ERR_NO_DESCRIPTORS, TP_ERR_UNSUPPORTED (io), TP_ERR_NO_MEMORY, TP_ERR_STATE (running already),
 * TP_ERR_OS. Each but TP_ERR_STATE is also passed to on_error. Not from a handler.
 */
tp_err tp_server_start(tp_server *server);

/*
 * Begins to stop and returns at once, from any thread and from inside any handler. The listener
 * closes first; every session gets what is queued for it and then CLOSE `shutdown`; sessions that
 * are left after drain_timeout_ms are cut. Every session gets its on_leave. A second call has no
 * effect. While another thread is inside tp_server_start(), the server is stopped as soon as it has
 * started.
 */
void tp_server_stop(tp_server *server);

/*
 * The same, but sessions that are left drain_ms from now are cut, if drain_timeout_ms does not come
 * first: for a program that must end by a given time. 0: what is queued is not waited for. In a
 * stop that is under way, it only brings the cut forward. Any thread, any handler. A call while
 * another thread is just entering tp_server_start() may leave drain_timeout_ms in force. The
 * idle-priority handshake threads of a wanserver finish the job that they are in, which may take a
 * second more on a machine that is busy with other work.
 */
void tp_server_stop_within(tp_server *server, unsigned drain_ms);

/*
 * Waits until a stop has finished and the workers have ended, at most timeout_ms (-1: for ever).
 * After TP_OK no handler runs any more, and tp_server_start() may be called again.
 * TP_ERR_TIMED_OUT; TP_ERR_WRONG_THREAD from a handler of this server, without waiting;
 * TP_ERR_STATE if no stop was asked for, or the stop is over. Any number of threads.
 */
tp_err tp_server_wait(tp_server *server, int timeout_ms);

/* Stops (without drain) and waits if needed, then frees. NULL is ignored. Not from a handler of
 * this server: that ends the process with a message. */
void tp_server_destroy(tp_server *server);

void *tp_server_context(const tp_server *server);
/* The address it listens on, with the real port; all zero if it does not listen. Any thread. */
tp_address tp_server_address(const tp_server *server);
/* The back end in use ("epoll"); "" before the first start. A static text. Any thread. */
const char *tp_server_io(const tp_server *server);

/* ---- sessions: any thread, any handler ------------------------------------------------------- */

/*
 * Queues a packet for the session. The queue takes its own reference; yours remains yours. False,
 * and nothing else happens: the id is stale or wrong, the session is ending, the packet carries an
 * error or is too large, memory is out, or the queue is full (see tp_queue_policy). Packets are
 * sent in the order of the calls, on whatever threads, where one call happened before the other.
 * True does not mean that it will be sent: if another thread ends the session at the same moment,
 * the packet may be queued behind the end, where it is not sent; it is counted in
 * tp_session_end.pending_packets.
 *
 * From inside a handler, packets leave together when the worker has handled its current batch, or
 * at once when more is queued than one send takes. A handler that finds the queue of its own
 * session full (TP_QUEUE_REFUSE) may keep trying: each further call sends what the system takes, so
 * it waits for the peer to read and for nothing else; all other sessions of its worker wait
 * meanwhile. It must not wait for space in the queue of another session, whose worker may be in a
 * handler that waits for this one; nor on iocp with a single worker, where the end of a send that
 * was in progress before is seen only when the handler has returned.
 */
bool tp_server_send(tp_server *server, tp_session_id session, tp_packet *packet);

/* Queues the same packet for many sessions. Returns how many queues took it. */
size_t tp_server_send_many(
    tp_server *server, const tp_session_id *sessions, size_t count, tp_packet *packet);

/* Queues the same packet for every session except `except` (TP_NO_SESSION: none). Does not wait.
 * Returns how many queues took it. */
size_t tp_server_broadcast(tp_server *server, tp_packet *packet, tp_session_id except);

/* Ends a session now; the peer sees a reset (an outgoing session ends in order). What is queued is
 * lost; on_leave follows with TP_END_KICKED. A session that is being ended after what is queued is
 * cut as well, and keeps its reason. False: no such session, or it is cut already. */
bool tp_server_disconnect(tp_server *server, tp_session_id session);

/* Ends a session after what is queued for it now, with a CLOSE frame that carries `close_code` (see
 * proto/frame.h), and then the end of the stream. Further sends return false. If the peer does not
 * take it, and end its own stream, within drain_timeout_ms, the session is cut. False likewise. */
bool tp_server_disconnect_after_send(tp_server *server, tp_session_id session, unsigned close_code);

/* The same for a peer that is not wanted here (no capacity, banned, not understood). A peer that
 * gets CLOSE is expected to hang up, so the stream is not ended from this side first; a peer that
 * has not hung up within drain_timeout_ms is reset. So no connection is left in TIME_WAIT on this
 * system, however many peers come. False likewise. */
bool tp_server_turn_away(tp_server *server, tp_session_id session, unsigned close_code);

/* Opens a connection. Its session gets on_join; or, if it is not established within
 * connect_timeout_ms, only on_leave with TP_END_CONNECT_FAILED: the one case without on_join.
 * Before that, every other call finds no such session: it can neither be sent to nor be
 * disconnected. TP_ERR_FULL, TP_ERR_STATE (not running), TP_ERR_NO_DESCRIPTORS, TP_ERR_NO_MEMORY,
 * TP_ERR_OS. */
tp_err tp_server_connect(tp_server *server, const tp_address *address, tp_session_id *session);

/* False: no such session. `info->size` must be set. */
bool tp_server_session_info(tp_server *server, tp_session_id session, tp_session_info *info);

/* Sessions that count as one of max_sessions now: not those that are being ended. */
unsigned tp_server_session_count(const tp_server *server);

/* ---- statistics, ledger, tasks --------------------------------------------------------------- */

typedef struct tp_server_stats {
    size_t size;        /* sizeof(tp_server_stats), set by the caller */
    uint64_t accepted;  /* connections taken from the listener */
    uint64_t denied;    /* connections turned away by the access list or on_connection_request */
    uint64_t full;      /* connections turned away because max_sessions was reached */
    uint64_t cut_short; /* sessions cut early, for their slots (TP_SERVER_ENDING) */
    uint64_t accept_failures;   /* accepts that failed (no descriptors, closed before, ...) */
    uint64_t joined;            /* sessions that got on_join */
    uint64_t left;              /* sessions released */
    uint64_t received_messages; /* messages given to on_recv */
    uint64_t received_bytes;    /* bytes received, as they are on the network */
    uint64_t sent_messages;     /* messages sent */
    uint64_t sent_bytes;        /* bytes sent, as they are on the network */
    uint64_t sends;             /* gathered sends that carried the messages */
    uint64_t dropped;           /* packets dropped by TP_QUEUE_DROP */
    uint64_t refused;           /* sends that returned false because a queue was full */
    uint64_t no_session;        /* sends and disconnects with a stale or wrong id */
    uint64_t no_memory;         /* allocations that failed */
    uint64_t errors;            /* calls of on_error */
    uint64_t memory_ended;      /* sessions ended because of memory_limit */
    uint64_t memory_held; /* bytes that the process holds of the system now for messages and their
                              bookkeeping, in use or free */
    uint64_t ends[32];    /* sessions released, by tp_end_reason */
} tp_server_stats;

/* Any thread. The numbers are exact once the server has stopped, and close to exact before. */
void tp_server_get_stats(const tp_server *server, tp_server_stats *stats);

/* Copies the last ends, newest first, at most `capacity` (the ledger holds TP_LEDGER_ENTRIES).
 * ends[0].size must be set to sizeof(tp_session_end). Returns how many. Any thread. */
#define TP_LEDGER_ENTRIES 1024
size_t tp_server_read_ledger(const tp_server *server, tp_session_end *ends, size_t capacity);

/*
 * Runs `task(context)` on a worker of this server after `delay_ms` (0: as soon as one is free; at
 * most 86,400,000). The resolution is about 10 ms, or 60 ms while the timekeeping worker is blocked
 * in a handler. Tasks without a delay begin in the order in which they were posted, and may
 * overlap: one that blocks holds up none of the others while another worker is free. Tasks with a
 * delay run one after another, so one that blocks holds up those that are due after it. A stop
 * drops tasks whose time has not come. TP_ERR_INVALID (no task, or the delay is out of range),
 * TP_ERR_FULL (more than TP_SERVER_MAX_TASKS), TP_ERR_NO_MEMORY, TP_ERR_STATE (not running).
 */
#define TP_SERVER_MAX_TASKS 65536
tp_err tp_server_post(
    tp_server *server, unsigned delay_ms, void (*task)(void *context), void *context);

#ifdef __cplusplus
}
#endif
#endif
