/*
 * The epoll back end: the structs and functions that its files share.
 *
 *   epoll_port.c      the port, its workers, the back end's table
 *   epoll_wait.c      fetching events
 *   epoll_dispatch.c  running them, what is ready, and what is shared
 *   epoll_close.c     a connection's end
 *   epoll_post.c  epoll_accept.c  epoll_connect.c  epoll_receive.c  epoll_send.c
 *   epoll_listen.c    a listener's life
 *   epoll_retries.c   listeners that try again to accept
 *   epoll_socket.c    a connection's life: attach, finish
 *   epoll_shared.c    work that any worker may take
 *   epoll_ready.c     handing ops to a worker, and waking it
 *
 * A file calls those below it in this list, never one above it. The iocp back end (os/win32) has a
 * file for each of these nouns.
 *
 * Each worker has an epoll descriptor of its own, and a connection stays with one worker for life.
 * Only that worker's thread touches the connection's state, except for `closing`, so there is no
 * lock. Other threads post to the worker (epoll_ready.c).
 *
 * Listeners, and posts without a socket, belong to no worker: any free worker takes them
 * (epoll_shared.c, epoll_accept.c).
 *
 * EDGES. A descriptor is registered once, edge-triggered, for all events. So each edge is either
 * handled at once or remembered (`readable`). A system call that would block (EAGAIN), or that
 * transfers less than it could have, arms the next edge by itself.
 *
 * A worker has two lists, linked through the ops:
 *   ready   results and posted ops, which run after the current batch of events
 *   later   ops that have used up their budget and have input left (a full buffer); they run again
 *           after the next wait, so that new events are handled in between
 *
 * WHY A STALE EVENT IS HARMLESS. An event carries a pointer to its socket. A wait fetches events,
 * and dispatch handles the whole batch before it runs the ready list. Closing a socket first
 * removes its descriptor from the epoll set and then appends the close op to the ready list; only
 * the `done` of that op gives the socket's memory back. So when that `done` runs, the batch has no
 * event of the socket any more, and no later wait returns one. In between, dispatch ignores events
 * of a socket whose `closed` is set. A listener is registered with every worker, and no thread can
 * look into another worker's batch. So a listener's events carry a mark, and no pointer.
 *
 * WHY THE CLOSE COMES LAST. Every op of a socket that has not come back is referred to by the
 * socket (`input`, `output`) or is on a list. Closing appends the former to the ready list, and
 * then the close op; both lists are first in, first out. Only an input op may be on a list already.
 * Then the close op is appended to the later list, which is moved to the end of the ready list in
 * its order: the close op still comes behind the input op. No op can be started once `closed` is
 * set.
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

/* What a worker does with an op from a list. */
typedef enum epoll_op_kind {
    OP_RESULT,  /* deliver error, os_error and sent: posts, sends, connects, closes */
    OP_RECEIVE, /* read once more, or deliver the cancellation */
    OP_ACCEPT,  /* accept once more, or deliver the cancellation; on the shared lists only */
    OP_CLOSE,   /* close the socket: tp_socket_close() was called on another thread */
} epoll_op_kind;

/* The back end's view of a tp_op. */
struct TP_MAY_ALIAS epoll_op {
    tp_done *done;
    epoll_op *next;       /* on one of the lists, or in the post queue */
    epoll_socket *socket; /* NULL for a post */
    union {
        struct {
            /* Valid until the send is over. */
            const tp_buffer *buffers; /* the first buffer that is not sent completely */
            size_t count;             /* how many buffers are left, that one included */
            size_t offset;            /* how much of that one is sent */
        } send;
        bool reset; /* OP_CLOSE */
    } u;
    size_t sent;
    int os_error;
    uint8_t error; /* a tp_err */
    uint8_t kind;  /* an epoll_op_kind */
    bool queued;   /* on one of the worker's lists, or on a shared one */
};
_Static_assert(sizeof(epoll_op) <= sizeof(tp_op), "an epoll_op fits into a tp_op");

typedef enum epoll_socket_kind {
    SOCKET_STREAM,
    SOCKET_CONNECTING,
    SOCKET_LISTENER,
} epoll_socket_kind;

/* The back end's view of a tp_socket. */
struct TP_MAY_ALIAS epoll_socket {
    epoll_worker *worker; /* the owner; first, as port_backend.h requires. A listener's worker only
                             runs the posts that name it */
    int descriptor;       /* -1 once closed */
    int broken;           /* the errno that ended the connection, as the send or the receive that
                             detected it first got it; 0: none */
    epoll_op *input;      /* the receive in progress */
    epoll_op *output;     /* the send that waits for the kernel, or the connect in progress */
    epoll_listener *listener; /* NULL: a connection */
    uint8_t kind;             /* an epoll_socket_kind */
    bool readable;            /* an input edge came, and the input has not been read completely */
    bool ended;               /* the stream's end or an error was reported: read until it shows */
    bool paused;              /* deliveries are suspended */
    bool closed;              /* nothing may be started or delivered any more */
    atomic_bool closing;      /* tp_socket_close() was called: no new bytes. Any thread */
};
_Static_assert(sizeof(epoll_socket) <= sizeof(tp_socket), "an epoll_socket fits into a tp_socket");
_Static_assert(offsetof(epoll_socket, worker) == 0, "the owner is the first word");

typedef struct epoll_list {
    epoll_op *first;
    epoll_op *last; /* valid while first is not NULL */
} epoll_list;

enum {
    /* How many events one wait takes. Dispatch handles all of them before anything else, so there
     * are few: the bytes and packets of a batch stay in the processor's second-level cache. */
    EVENTS_AT_ONCE = 32,
    /* How much all sockets of one batch read together, about; each may read at least
     * MIN_READ_BUDGET, which is enough for a full record of the WAN or for 16 messages of 1 KiB. */
    BATCH_BYTES = 256 * 1024,
    MIN_READ_BUDGET = 20 * 1024,
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
    bool took_accept; /* the last shared entry that it took was an accept */
    unsigned char *receive_buffer;
    size_t receive_size;
    size_t read_budget;     /* how much one socket reads in this batch, up to receive_size */
    bool waited;            /* since the last dispatch: ops of `later` may run */
    unsigned char *scratch; /* SCRATCH_SIZE bytes: the small buffers of one send, copied together */
    struct epoll_event events[EVENTS_AT_ONCE];

    /* Written by other threads, so a cache line away from what the worker itself writes. */
    unsigned char gap[TP_CACHE_LINE];
    _Atomic(epoll_op *) posts;
    atomic_uint sockets;      /* how many are attached and not yet closed */
    atomic_bool unresponsive; /* an accept was reserved for it, and it has not run since */
    unsigned char gap_behind[TP_CACHE_LINE];
};

/* Work that any worker may take: epoll_shared.c. */
typedef struct epoll_shared {
    tp_mutex mutex;            /* guards the fields down to `gap`, and the listeners */
    epoll_list tasks;          /* posts without a socket; the ends of listeners */
    epoll_list accepts;        /* accept ops of listeners with a waiting connection, each once */
    epoll_listener *listeners; /* those that are open */
    int highest_accepted;      /* the highest descriptor of an accepted connection; 0: none yet */
    unsigned char gap[TP_CACHE_LINE];
    atomic_uint waiting;        /* ops on the two lists */
    atomic_uint watchers;       /* workers whose sleep is limited for the sake of waiting ops */
    _Atomic uint64_t retry_due; /* when the first listener tries again (tp_clock_ms); 0: none */
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

/* ---- lists: on the worker's own thread; those of `shared` under shared.mutex ----------------- */

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

/* Removes the op from any position of the list; false if it is not on it. */
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

/* Moves the first ops of `other`, at most `most`, to the end of `list`; returns how many. */
static inline unsigned epoll_list_move(epoll_list *list, epoll_list *other, unsigned most) {
    unsigned moved = 0;
    for (; moved < most && other->first != NULL; moved++) {
        epoll_list_push(list, epoll_list_pop(other));
    }
    return moved;
}

/* Runs the op again after the next wait, because it has used up its budget. */
static inline void epoll_run_later(epoll_worker *worker, epoll_op *op) {
    epoll_list_push(&worker->later, op);
}

/* ---- epoll_ready.c --------------------------------------------------------------------------- */

/* The worker whose dispatch this thread is running, or NULL. */
epoll_worker *tp__epoll_current(void);
void tp__epoll_set_current(epoll_worker *worker);

/* Queues the op to the worker, which runs it by its kind. Any thread. */
void tp__epoll_hand_over(epoll_worker *worker, epoll_op *op);
/* Moves what was handed over to the end of the ready list. The worker's thread. */
void tp__epoll_take_posts(epoll_worker *worker);
/* True if something is handed over. A hint. */
bool tp__epoll_has_posts(epoll_worker *worker);
/* Announces that the worker may sleep; false if there is something to take instead. */
bool tp__epoll_fall_asleep(epoll_worker *worker);
/* Announces that the worker is awake: threads that want to wake a worker choose another one. */
void tp__epoll_awake(epoll_worker *worker);
bool tp__epoll_is_asleep(epoll_worker *worker);
/* Wakes the worker if it is asleep. Returns whether it was. Any thread. */
bool tp__epoll_rouse(epoll_worker *worker);
/* Ends the worker's wait, or its next one. Any thread. */
void tp__epoll_sound_alarm(epoll_worker *worker);

/* ---- epoll_post.c, epoll_wait.c, epoll_dispatch.c -------------------------------------------- */

tp_err tp__epoll_post(tp_port *port, tp_socket *socket, tp_op *op);
tp_err tp__epoll_wait(tp_worker *worker, int timeout_ms);
size_t tp__epoll_dispatch(tp_worker *worker);

/* ---- epoll_socket.c -------------------------------------------------------------------------- */

/* Fills the socket and registers it with the worker, which gets its events from then on. Any
 * thread. On error the socket is not attached, and the caller still owns the descriptor. */
tp_err tp__epoll_register(epoll_worker *worker, epoll_socket *socket, int descriptor,
    epoll_socket_kind kind, epoll_op *output);
/* Fills the socket without registering it. */
void tp__epoll_fill(epoll_worker *worker, epoll_socket *socket, int descriptor,
    epoll_socket_kind kind, epoll_op *output);
/* The error of a registration that failed with `os_error`, which is kept for tp_os_error(). */
tp_err tp__epoll_register_error(int os_error);

tp_err tp__epoll_attach(
    tp_port *port, tp_socket *socket, tp_handle handle, const tp_socket_options *options);
bool tp__epoll_serves(const tp_worker *worker, const tp_socket *socket);
void tp__epoll_finish(tp_worker *worker, tp_socket *socket);

/* ---- epoll_close.c --------------------------------------------------------------------------- */

/* Closes the socket of the close op `op`. The thread of the socket's worker. */
void tp__epoll_close_now(epoll_worker *worker, epoll_op *op);

void tp__epoll_close(tp_socket *socket, tp_op *op, bool reset);

/* ---- epoll_receive.c ------------------------------------------------------------------------- */

/* Reads once, within the budget, and delivers the result. Returns how many `done` ran. The socket
 * has an input op that is not queued, and is neither closed nor paused. The worker's thread. */
size_t tp__epoll_receive_once(epoll_worker *worker, epoll_socket *socket);
/* Runs an input op from the ready list: as above, or delivers its cancellation. */
size_t tp__epoll_receive_again(epoll_worker *worker, epoll_op *op);

tp_err tp__epoll_receive(tp_worker *worker, tp_socket *socket, tp_op *op);
void tp__epoll_pause(tp_worker *worker, tp_socket *socket);
void tp__epoll_resume(tp_worker *worker, tp_socket *socket);

/* ---- epoll_send.c ---------------------------------------------------------------------------- */

/* Continues the waiting send. If it is over now, puts it on the ready list. The worker's thread. */
void tp__epoll_send_more(epoll_worker *worker, epoll_socket *socket);

tp_err tp__epoll_send(
    tp_worker *worker, tp_socket *socket, tp_op *op, const tp_buffer *buffers, size_t count);
tp_err tp__epoll_send_now(
    tp_worker *worker, tp_socket *socket, const tp_buffer *buffers, size_t count, size_t *sent);
bool tp__epoll_send_take_back(tp_worker *worker, tp_socket *socket, tp_op *op, size_t *sent);
bool tp__epoll_send_waits(const tp_worker *worker, const tp_socket *socket);

/* ---- epoll_shared.c -------------------------------------------------------------------------- */

/* Runs the op by its kind on any free worker. Any thread. */
void tp__epoll_share(epoll_port *port, epoll_op *op);
/* The same under shared.mutex; the caller calls tp__epoll_wake_one() after the unlock. */
void tp__epoll_share_locked(epoll_port *port, epoll_op *op);
/* Wakes one sleeping worker, if there is one: that with the fewest sockets. Any thread. */
void tp__epoll_wake_one(epoll_port *port);
/* Wakes a worker unless there is a watcher, so that one looks for the shared work in time. */
void tp__epoll_wake_watcher(epoll_port *port);
/* Wakes the worker for which the accepts on the list are reserved, unless that is `worker`, which
 * has found them and is about to dispatch. */
void tp__epoll_wake_for_accepts(epoll_worker *worker);

/* What is left for other workers when a worker has taken an entry. It is read under shared.mutex;
 * the worker passes it to tp__epoll_wake_next() after the unlock and before the callee runs, which
 * may block. */
typedef enum epoll_leftover {
    LEFT_NOTHING,
    LEFT_RETRY, /* a listener that will try again */
    LEFT_ACCEPTS,
    LEFT_TASKS
} epoll_leftover;
epoll_leftover tp__epoll_leftover(const epoll_port *port);
void tp__epoll_wake_next(epoll_port *port, epoll_leftover left);

/* Takes a task off the list; NULL: none. Under shared.mutex. */
epoll_op *tp__epoll_take_task(epoll_shared *shared);
/* 0 if there is an entry that the worker may take; otherwise how long the first of the other
 * entries may wait, UINT64_MAX: there is none. Under shared.mutex. */
uint64_t tp__epoll_shared_delay(epoll_worker *worker, uint64_t now);
/* Chooses the worker that is to serve a connection which no worker has accepted: one with few
 * sockets that is not blocked, as far as that can be known. Any thread. */
epoll_worker *tp__epoll_assign_worker(epoll_port *port);

/* ---- epoll_connect.c ------------------------------------------------------------------------- */

/* The connect has succeeded or failed: puts its op on the ready list. The worker's thread. */
void tp__epoll_connect_done(epoll_worker *worker, epoll_socket *socket);

tp_err tp__epoll_connect(tp_port *port, tp_socket *socket, const tp_address *address,
    const tp_socket_options *options, tp_op *op);

#endif
