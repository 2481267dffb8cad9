/*
 * The epoll back end: what its files share.
 *
 * Every worker has an epoll descriptor of its own, and a socket stays with one worker for life. All
 * of a socket's state except `closing` is touched by its worker's thread alone, so there is no
 * lock; what other threads want is posted (epoll_post.c).
 *
 * A descriptor is registered once, edge-triggered, for everything. The rule that follows: an edge
 * is either acted upon at once or remembered (`readable`), and the system calls that would wait
 * (EAGAIN) or that came up short arm the next edge by themselves.
 *
 * Two lists hang on a worker, both threaded through the ops:
 *   ready   results and posted ops, run after the batch of events in hand;
 *   later   ops that used up their turn with input left over (a full buffer, many connections to
 *           accept): they get one turn in each dispatch, so that new events come in between.
 *
 * WHY A STALE EVENT IS HARMLESS. An event carries a pointer to its socket. Events are fetched by
 * wait, and dispatch handles the whole batch before it runs the ready list. Closing a socket takes
 * its descriptor out of the epoll set before anything else, and puts the close op at the end of the
 * ready list; only that op's `done` gives the socket's memory back. So when it runs, no event of
 * the batch is left, and no later wait can return one. Between the two, `closed` turns events away.
 *
 * WHY CLOSE IS LAST. What is due to come back of a socket hangs on it (`input`, `output`) or is on
 * a list. Closing pushes what hangs on it to the ready list, and then the close op; both lists are
 * first in, first out. Only an input op may sit on the later list at that moment; then the close op
 * goes to the later list too, which is joined to the end of the ready list: so it still comes
 * behind. Nothing can be started once `closed` is set.
 */
#ifndef TWINPORT_OS_LINUX_EPOLL_PORT_H
#define TWINPORT_OS_LINUX_EPOLL_PORT_H

#include <stdatomic.h>
#include <sys/epoll.h>

#include "os/compiler.h"
#include "os/port_backend.h"

typedef struct epoll_op epoll_op;
typedef struct epoll_socket epoll_socket;
typedef struct epoll_worker epoll_worker;
typedef struct epoll_port epoll_port;

/* What running an op from the ready list means. */
typedef enum epoll_op_kind {
    OP_RESULT,  /* deliver error, os_error and sent: posts, sends, connects, closes */
    OP_RECEIVE, /* read once more, or deliver the cancellation */
    OP_ACCEPT,  /* accept once more, or deliver the cancellation */
    OP_BEGIN,   /* an accept that was started on another thread */
    OP_CLOSE,   /* a close that was called on another thread */
} epoll_op_kind;

/* Our view of a tp_op. */
struct TP_MAY_ALIAS epoll_op {
    tp_done *done;
    epoll_op *next;       /* on the ready list, the later list or the post queue */
    epoll_socket *socket; /* NULL for a post */
    union {
        struct {
            const tp_buffer *buffers; /* the first one that is not sent completely */
            size_t count;             /* how many are left, that one included */
            size_t offset;            /* how much of that one is sent */
        } send;
        bool reset; /* OP_CLOSE */
    } u;
    size_t sent;
    int os_error;
    uint8_t error; /* a tp_err */
    uint8_t kind;  /* an epoll_op_kind */
    bool queued;   /* on one of the worker's lists */
};
_Static_assert(sizeof(epoll_op) <= sizeof(tp_op), "our part of an op fits");

typedef enum epoll_socket_kind {
    SOCKET_STREAM,
    SOCKET_CONNECTING,
    SOCKET_LISTENER
} epoll_socket_kind;

/* Our view of a tp_socket. */
struct TP_MAY_ALIAS epoll_socket {
    epoll_worker *worker; /* the owner: first word, as port_backend.h asks */
    int descriptor;       /* -1 once closed */
    int broken;           /* the errno that ended the connection, as whoever met it first saw it */
    epoll_op *input;      /* the receive or accept in progress */
    epoll_op *output;     /* the send that waits for room, or the connect in progress */
    epoll_socket *next;   /* listener: on the worker's list of resting ones */
    uint64_t rests_until; /* listener: when accepting goes on, by tp_clock_ms() */
    uint8_t kind;         /* an epoll_socket_kind */
    bool readable;        /* an input edge came that has not been read dry */
    bool ended;           /* the peer's end or a break was flagged: read until it shows */
    bool paused;          /* no deliveries now */
    bool closed;          /* the worker has closed it: nothing may be started or delivered */
    atomic_bool closing;  /* tp_socket_close() was called: no fresh bytes. Any thread */
};
_Static_assert(sizeof(epoll_socket) <= sizeof(tp_socket), "our part of a socket fits");
_Static_assert(offsetof(epoll_socket, worker) == 0, "the owner is the first word");

typedef struct epoll_list {
    epoll_op *first;
    epoll_op *last; /* valid while first is not NULL */
} epoll_list;

enum {
    /* What is taken at once is worked through before anything else is looked at: so few that the
     * bytes and packets of a batch stay in the processor's second cache. */
    EVENTS_AT_ONCE = 32,
    /* Of one batch all sockets together read about so much, and each at least TURN_LEAST. */
    BATCH_BYTES = 256 * 1024,
    TURN_LEAST = 16 * 1024,
    /* See epoll_send.c. */
    FLATTEN_BASE = 4096,
    FLATTEN_PER_BUFFER = 1536,
    SCRATCH_SIZE = FLATTEN_BASE + TP_PORT_MAX_BUFFERS * FLATTEN_PER_BUFFER,
};

struct epoll_worker {
    tp_worker head;
    int epoll;
    int alarm; /* an eventfd that ends a wait */
    unsigned event_count;
    epoll_list ready;
    epoll_list later;
    epoll_socket *resting; /* listeners that are out of descriptors */
    int last_accepted;     /* the number of the last connection; 0: none yet */
    unsigned char *receive_buffer;
    size_t receive_size;
    size_t turn_size;      /* what one socket reads in this batch, up to receive_size */
    bool waited;           /* since the last dispatch: some of `later` may run */
    unsigned char *scratch; /* SCRATCH_SIZE bytes: small buffers of one send, copied together */
    struct epoll_event events[EVENTS_AT_ONCE];

    /* Written by other threads: a cache line away from what the worker itself writes. */
    unsigned char gap[TP_CACHE_LINE];
    _Atomic(epoll_op *) posts;
    atomic_uint sockets; /* how many are attached and not yet closed */
    unsigned char gap_behind[TP_CACHE_LINE];
};

struct epoll_port {
    tp_port head;
    atomic_uint next_worker; /* who gets the next post that names no socket */
    unsigned reserve_descriptors;
    epoll_worker *workers;
};

extern const tp__port_backend tp__epoll_backend;

static inline epoll_worker *epoll_worker_of(const tp_worker *worker) {
    return (epoll_worker *)(uintptr_t)worker;
}

static inline epoll_port *epoll_port_of(tp_port *port) {
    return (epoll_port *)(void *)port;
}

/* ---- the lists: the worker's own thread only --------------------------------------------- */

static inline void epoll_list_push(epoll_list *list, epoll_op *op) {
    op->next = NULL;
    op->queued = true;
    if (list->first == NULL) {
        list->first = op;
    } else {
        list->last->next = op;
    }
    list->last = op;
}

static inline epoll_op *epoll_list_pop(epoll_list *list) {
    epoll_op *op = list->first;
    if (op != NULL) {
        list->first = op->next;
        op->queued = false;
    }
    return op;
}

/* Takes the op out of the list, wherever it is; false if it is not in it. */
static inline bool epoll_list_remove(epoll_list *list, epoll_op *op) {
    epoll_op *before = NULL;
    for (epoll_op *at = list->first; at != NULL; before = at, at = at->next) {
        if (at == op) {
            *(before == NULL ? &list->first : &before->next) = op->next;
            list->last = list->last == op ? before : list->last;
            op->queued = false;
            return true;
        }
    }
    return false;
}

/* Moves the first of `other`, at most `most`, behind `list`; returns how many. */
static inline unsigned epoll_list_move(epoll_list *list, epoll_list *other, unsigned most) {
    unsigned moved = 0;
    for (; moved < most && other->first != NULL; moved++) {
        epoll_list_push(list, epoll_list_pop(other));
    }
    return moved;
}

/* The op has had its turn and wants another: after the next look for events. */
static inline void epoll_run_later(epoll_worker *worker, epoll_op *op) {
    epoll_list_push(&worker->later, op);
}

/* ---- epoll_post.c ------------------------------------------------------------------------- */

/* The worker in whose dispatch this thread is, or NULL. */
epoll_worker *tp__epoll_current(void);
void tp__epoll_set_current(epoll_worker *worker);

/* Hands the op to the worker, which runs it by its kind. Any thread. */
void tp__epoll_hand_over(epoll_worker *worker, epoll_op *op);
/* Moves what was handed over to the end of the ready list. The worker's thread. */
void tp__epoll_take_posts(epoll_worker *worker);
/* Is anything handed over? A hint. */
bool tp__epoll_has_posts(epoll_worker *worker);
/* Announces that the worker may sleep; false if there is something to take instead. */
bool tp__epoll_fall_asleep(epoll_worker *worker);
/* Ends the worker's wait, or its next one. Any thread. */
void tp__epoll_sound_alarm(epoll_worker *worker);

tp_err tp__epoll_post(tp_port *port, tp_socket *socket, tp_op *op);

/* ---- epoll_worker.c ----------------------------------------------------------------------- */

tp_err tp__epoll_wait(tp_worker *worker, int timeout_ms);
size_t tp__epoll_dispatch(tp_worker *worker);

/* ---- epoll_socket.c ----------------------------------------------------------------------- */

/* The worker with the fewest sockets. Any thread. */
epoll_worker *tp__epoll_least_loaded(epoll_port *port);
/* Fills the socket and registers it with the worker; from then on its events are delivered. Any
 * thread. On error the socket is attached to nothing and the descriptor still the caller's. */
tp_err tp__epoll_register(epoll_worker *worker, epoll_socket *socket, int descriptor,
    epoll_socket_kind kind, epoll_op *output);
/* Runs a close on the socket's worker. */
void tp__epoll_close_now(epoll_worker *worker, epoll_op *op);

tp_err tp__epoll_attach(
    tp_port *port, tp_socket *socket, tp_handle handle, const tp_socket_options *options);
bool tp__epoll_serves(const tp_worker *worker, const tp_socket *socket);
void tp__epoll_finish(tp_worker *worker, tp_socket *socket);
void tp__epoll_close(tp_socket *socket, tp_op *op, bool reset);
tp_err tp__epoll_local_address(const tp_socket *socket, tp_address *address);

/* ---- epoll_receive.c ---------------------------------------------------------------------- */

/* Reads once and delivers what came. Returns how many deliveries. The socket has an input op that
 * is not queued, and is neither closed nor paused. */
size_t tp__epoll_receive_turn(epoll_worker *worker, epoll_socket *socket);
/* The input op's turn on the ready list: as above, or its cancellation. */
size_t tp__epoll_receive_again(epoll_worker *worker, epoll_op *op);

tp_err tp__epoll_receive(tp_worker *worker, tp_socket *socket, tp_op *op);
void tp__epoll_pause(tp_worker *worker, tp_socket *socket);
void tp__epoll_resume(tp_worker *worker, tp_socket *socket);

/* ---- epoll_send.c ------------------------------------------------------------------------- */

/* Goes on with the waiting send; its result, if it has one now, goes on the ready list. */
void tp__epoll_send_more(epoll_worker *worker, epoll_socket *socket);

tp_err tp__epoll_send(
    tp_worker *worker, tp_socket *socket, tp_op *op, const tp_buffer *buffers, size_t count);
tp_err tp__epoll_send_now(tp_worker *worker, tp_socket *socket, const tp_buffer *buffers,
    size_t count, size_t *sent);
bool tp__epoll_send_take_back(tp_worker *worker, tp_socket *socket, tp_op *op, size_t *sent);
bool tp__epoll_send_waits(const tp_worker *worker, const tp_socket *socket);

/* ---- epoll_accept.c ----------------------------------------------------------------------- */

/* Accepts a turn's worth and delivers. Same condition as tp__epoll_receive_turn(). */
size_t tp__epoll_accept_turn(epoll_worker *worker, epoll_socket *listener);
size_t tp__epoll_accept_again(epoll_worker *worker, epoll_op *op);
/* Runs an accept that was started on another thread. */
size_t tp__epoll_accept_begin(epoll_worker *worker, epoll_op *op);
/* Wakes the listeners that have rested long enough; returns `timeout_ms` cut to the next one's
 * time. */
int tp__epoll_end_rests(epoll_worker *worker, int timeout_ms);
/* The listener is closing: takes it off the list of resting ones. */
void tp__epoll_forget_rest(epoll_worker *worker, epoll_socket *listener);

tp_err tp__epoll_listen(tp_port *port, tp_socket *socket, const tp_address *address,
    unsigned backlog, tp_address *bound);
tp_err tp__epoll_accept(tp_socket *listener, tp_op *op);

/* ---- epoll_connect.c ---------------------------------------------------------------------- */

/* The connection is there or has failed: puts the connect op on the ready list. */
void tp__epoll_connect_done(epoll_worker *worker, epoll_socket *socket);

tp_err tp__epoll_connect(tp_port *port, tp_socket *socket, const tp_address *address,
    const tp_socket_options *options, tp_op *op);

#endif
