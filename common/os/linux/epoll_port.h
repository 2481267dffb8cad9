/*
 * The epoll back end: what its files share.
 *
 * Every worker has an epoll descriptor of its own, and a connection stays with one worker for life.
 * All of a socket's state except `closing` is touched by its worker's thread alone, so there is no
 * lock; what other threads want is posted (epoll_post.c).
 *
 * Listeners, and posts that name no socket, belong to no worker: whoever is free takes them
 * (epoll_shared.c, epoll_accept.c).
 *
 * A descriptor is registered once, edge-triggered, for everything. The rule that follows: an edge
 * is either acted upon at once or remembered (`readable`), and the system calls that would wait
 * (EAGAIN) or that came up short arm the next edge by themselves.
 *
 * Two lists hang on a worker, both threaded through the ops:
 *   ready   results and posted ops, run after the batch of events in hand;
 *   later   ops that used up their turn with input left over (a full buffer): they get one turn in
 *           each dispatch, so that new events come in between.
 *
 * WHY A STALE EVENT IS HARMLESS. An event carries a pointer to its socket. Events are fetched by
 * wait, and dispatch handles the whole batch before it runs the ready list. Closing a socket takes
 * its descriptor out of the epoll set before anything else, and puts the close op at the end of the
 * ready list; only that op's `done` gives the socket's memory back. So when it runs, no event of
 * the batch is left, and no later wait can return one. Between the two, `closed` turns events away.
 * A listener is registered with every worker, whose batches nobody else can look into: so its
 * events carry no pointer to it, but a mark.
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
#include "os/thread.h"

typedef struct epoll_op epoll_op;
typedef struct epoll_socket epoll_socket;
typedef struct epoll_listener epoll_listener;
typedef struct epoll_worker epoll_worker;
typedef struct epoll_port epoll_port;

/* What running an op from the ready list means. */
typedef enum epoll_op_kind {
    OP_RESULT,  /* deliver error, os_error and sent: posts, sends, connects, closes */
    OP_RECEIVE, /* read once more, or deliver the cancellation */
    OP_ACCEPT,  /* accept once more, or deliver the cancellation: on the shared lists only */
    OP_CLOSE,   /* a close that was called on another thread */
} epoll_op_kind;

/* Our view of a tp_op. */
struct TP_MAY_ALIAS epoll_op {
    tp_done *done;
    epoll_op *next;       /* on one of the lists, or in the post queue */
    epoll_socket *socket; /* NULL for a post */
    union {
        struct {
            /* While the send waits; not kept once it is over. */
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
    bool queued;   /* on one of the worker's lists, or of the shared ones */
};
_Static_assert(sizeof(epoll_op) <= sizeof(tp_op), "our part of an op fits");

typedef enum epoll_socket_kind {
    SOCKET_STREAM,
    SOCKET_CONNECTING,
    SOCKET_LISTENER,
} epoll_socket_kind;

/* Our view of a tp_socket. */
struct TP_MAY_ALIAS epoll_socket {
    epoll_worker *worker; /* the owner: first word, as port_backend.h asks. A listener's only runs
                             the posts that name it */
    int descriptor;       /* -1 once closed */
    int broken;           /* the errno that ended the connection, as whoever met it first saw it */
    epoll_op *input;      /* the receive in progress */
    epoll_op *output;     /* the send that waits for room, or the connect in progress */
    epoll_listener *listener; /* NULL: a connection */
    uint8_t kind;             /* an epoll_socket_kind */
    bool readable;            /* an input edge came that has not been read dry */
    bool ended;               /* the peer's end or a break was flagged: read until it shows */
    bool paused;              /* no deliveries now */
    bool closed;              /* nothing may be started or delivered any more */
    atomic_bool closing;      /* tp_socket_close() was called: no fresh bytes. Any thread */
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
    /* Of one batch all sockets together read about so much, and each at least TURN_LEAST: so much
     * that a full record of the WAN, or 16 messages of 1 KiB, come in one turn. */
    BATCH_BYTES = 256 * 1024,
    TURN_LEAST = 20 * 1024,
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
    bool took_newcomer; /* the last it took of what is shared */
    unsigned char *receive_buffer;
    size_t receive_size;
    size_t turn_size;       /* what one socket reads in this batch, up to receive_size */
    bool waited;            /* since the last dispatch: some of `later` may run */
    unsigned char *scratch; /* SCRATCH_SIZE bytes: small buffers of one send, copied together */
    struct epoll_event events[EVENTS_AT_ONCE];

    /* Written by other threads: a cache line away from what the worker itself writes. */
    unsigned char gap[TP_CACHE_LINE];
    _Atomic(epoll_op *) posts;
    atomic_uint sockets; /* how many are attached and not yet closed */
    atomic_bool late;    /* a newcomer was meant for it and it did not come round */
    unsigned char gap_behind[TP_CACHE_LINE];
};

/* What any worker may take: epoll_shared.c. */
typedef struct epoll_shared {
    tp_mutex mutex;            /* the lists, and all of the listeners but what is said there */
    epoll_list tasks;          /* posts that name no socket; the ends of listeners */
    epoll_list newcomers;      /* accepts of listeners where somebody waits, each once */
    epoll_listener *listeners; /* those that are open */
    int highest_accepted;      /* the highest number that a connection had; 0: none yet */
    unsigned char gap[TP_CACHE_LINE];
    atomic_uint waiting;       /* ops on the two lists */
    atomic_uint watchers;      /* workers that sleep no longer than what waits may wait */
    _Atomic uint64_t rest_due; /* when the first resting listener goes on; 0: none rests */
    unsigned char gap_behind[TP_CACHE_LINE];
} epoll_shared;

struct epoll_port {
    tp_port head;
    unsigned reserve_descriptors;
    epoll_worker *workers;
    epoll_shared shared;
};

extern const tp__port_backend tp__epoll_backend;

static inline epoll_worker *epoll_worker_of(const tp_worker *worker) {
    return (epoll_worker *)(uintptr_t)worker;
}

static inline epoll_port *epoll_port_of(tp_port *port) {
    return (epoll_port *)(void *)port;
}

/* ---- the lists: the worker's own thread only; those of `shared` with its mutex --------------- */

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

/* ---- epoll_post.c ---------------------------------------------------------------------------- */

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
/* The worker is back from its sleep: who wants to rouse one looks elsewhere. */
void tp__epoll_awake(epoll_worker *worker);
bool tp__epoll_is_asleep(epoll_worker *worker);
/* Wakes the worker if it is asleep: true, and it is not any more. Any thread. */
bool tp__epoll_rouse(epoll_worker *worker);
/* Ends the worker's wait, or its next one. Any thread. */
void tp__epoll_sound_alarm(epoll_worker *worker);

tp_err tp__epoll_post(tp_port *port, tp_socket *socket, tp_op *op);

/* ---- epoll_worker.c -------------------------------------------------------------------------- */

tp_err tp__epoll_wait(tp_worker *worker, int timeout_ms);
size_t tp__epoll_dispatch(tp_worker *worker);
/* Runs an op by its kind; returns how many `done` ran. */
size_t tp__epoll_run_op(epoll_worker *worker, epoll_op *op);

/* ---- epoll_socket.c -------------------------------------------------------------------------- */

/* Fills the socket and registers it with the worker; from then on its events are delivered. Any
 * thread. On error the socket is attached to nothing and the descriptor still the caller's. */
tp_err tp__epoll_register(epoll_worker *worker, epoll_socket *socket, int descriptor,
    epoll_socket_kind kind, epoll_op *output);
/* Fills the socket, and nothing else. */
void tp__epoll_fill(epoll_worker *worker, epoll_socket *socket, int descriptor,
    epoll_socket_kind kind, epoll_op *output);
/* What registering ends with when the system says `os_error`. */
tp_err tp__epoll_register_error(int os_error);
/* Runs a close on the socket's worker. */
void tp__epoll_close_now(epoll_worker *worker, epoll_op *op);

tp_err tp__epoll_attach(
    tp_port *port, tp_socket *socket, tp_handle handle, const tp_socket_options *options);
bool tp__epoll_serves(const tp_worker *worker, const tp_socket *socket);
void tp__epoll_finish(tp_worker *worker, tp_socket *socket);
void tp__epoll_close(tp_socket *socket, tp_op *op, bool reset);
tp_err tp__epoll_local_address(const tp_socket *socket, tp_address *address);

/* ---- epoll_receive.c ------------------------------------------------------------------------- */

/* Reads once and delivers what came. Returns how many deliveries. The socket has an input op that
 * is not queued, and is neither closed nor paused. */
size_t tp__epoll_receive_turn(epoll_worker *worker, epoll_socket *socket);
/* The input op's turn on the ready list: as above, or its cancellation. */
size_t tp__epoll_receive_again(epoll_worker *worker, epoll_op *op);

tp_err tp__epoll_receive(tp_worker *worker, tp_socket *socket, tp_op *op);
void tp__epoll_pause(tp_worker *worker, tp_socket *socket);
void tp__epoll_resume(tp_worker *worker, tp_socket *socket);

/* ---- epoll_send.c ---------------------------------------------------------------------------- */

/* Goes on with the waiting send; its result, if it has one now, goes on the ready list. */
void tp__epoll_send_more(epoll_worker *worker, epoll_socket *socket);

tp_err tp__epoll_send(
    tp_worker *worker, tp_socket *socket, tp_op *op, const tp_buffer *buffers, size_t count);
tp_err tp__epoll_send_now(
    tp_worker *worker, tp_socket *socket, const tp_buffer *buffers, size_t count, size_t *sent);
bool tp__epoll_send_take_back(tp_worker *worker, tp_socket *socket, tp_op *op, size_t *sent);
bool tp__epoll_send_waits(const tp_worker *worker, const tp_socket *socket);

/* ---- epoll_shared.c -------------------------------------------------------------------------- */

/* Runs the op by its kind on whatever worker is free. Any thread. */
void tp__epoll_share(epoll_port *port, epoll_op *op);
/* The same with shared.mutex held; tp__epoll_call_one() comes after that. */
void tp__epoll_share_locked(epoll_port *port, epoll_op *op);
/* Wakes a worker that is asleep, if there is one: that with the fewest sockets. Any thread. */
void tp__epoll_call_one(epoll_port *port);
/* Somebody waits at the listener: who is to take him finds it. With shared.mutex held. */
void tp__epoll_offer(epoll_port *port, epoll_listener *listener);
/* Takes an offer back. With shared.mutex held. */
void tp__epoll_withdraw(epoll_port *port, epoll_listener *listener);
/* `worker` has found newcomers and will dispatch: calls the one for whom they are. */
void tp__epoll_call_for_newcomers(epoll_worker *worker);
/* What one who has taken something leaves behind: with shared.mutex held; and, when it is given
 * back, and before a callee is run that may block, the call for it. */
typedef enum epoll_leftover {
    LEFT_NOTHING,
    LEFT_PAUSE, /* a listener rests */
    LEFT_NEWCOMERS,
    LEFT_TASKS
} epoll_leftover;
epoll_leftover tp__epoll_leftover(const epoll_port *port);
void tp__epoll_call_next(epoll_port *port, epoll_leftover left);
/* Takes what is shared, a turn's worth. Returns how many `done` ran. The worker's thread. */
size_t tp__epoll_run_shared(epoll_worker *worker);
/* How long the worker may sleep, up to `timeout_ms`, for the sake of what is shared; *watches: it
 * is cut, and the worker is a watcher until tp__epoll_watched(). */
int tp__epoll_watch(epoll_worker *worker, int timeout_ms, bool *watches);
void tp__epoll_watched(epoll_worker *worker);
/* May the worker take something? */
bool tp__epoll_may_take(epoll_worker *worker);
/* Who is to serve a connection that no worker has taken: one with few sockets that is not blocked,
 * as far as that can be known. Any thread. */
epoll_worker *tp__epoll_place(epoll_port *port);

/* ---- epoll_accept.c -------------------------------------------------------------------------- */

/* A connection that was accepted and not yet delivered, or why there is none. */
typedef struct epoll_arrival {
    bool there;
    int handle;   /* -1: a failure */
    int os_error; /* 0: a connection */
    tp_address peer;
} epoll_arrival;

struct epoll_listener {
    epoll_listener *next; /* of the port's */
    epoll_socket *socket;
    epoll_op *accept; /* in progress */
    epoll_op *close;  /* it is closed; this comes back when the accept has */
    epoll_arrival ahead;
    uint64_t offered_ms;  /* since when its accept is on the list */
    uint64_t rests_until; /* when accepting goes on, by tp_clock_ms(); 0: now */
    unsigned delivering;  /* `done`s of the accept that run now */
};

/* Takes one connection of the listener and delivers it. With shared.mutex held, which it gives
 * back. Returns how many `done` ran. */
size_t tp__epoll_accept_one(epoll_worker *worker, epoll_listener *listener);
/* The accept's turn on the list of tasks: its cancellation. */
size_t tp__epoll_accept_end(epoll_worker *worker, epoll_op *op);
/* An event told of a listener. Any worker. */
void tp__epoll_listeners_readable(epoll_worker *worker);
/* Says when the first resting listener goes on. With shared.mutex held. */
void tp__epoll_note_rest_due(epoll_shared *shared);
/* Offers the listeners that have rested until `now`. */
void tp__epoll_end_rests(epoll_port *port, uint64_t now);

tp_err tp__epoll_accept(tp_socket *listener, tp_op *op);

/* ---- epoll_listen.c -------------------------------------------------------------------------- */

/* What an event of a listener carries. */
extern char tp__epoll_listener_mark;

tp_err tp__epoll_listen(tp_port *port, tp_socket *socket, const tp_address *address,
    unsigned backlog, tp_address *bound);
void tp__epoll_unlisten(epoll_listener *listener, epoll_op *close);

/* ---- epoll_connect.c ------------------------------------------------------------------------- */

/* The connection is there or has failed: puts the connect op on the ready list. */
void tp__epoll_connect_done(epoll_worker *worker, epoll_socket *socket);

tp_err tp__epoll_connect(tp_port *port, tp_socket *socket, const tp_address *address,
    const tp_socket_options *options, tp_op *op);

#endif
