/*
 * The server's inside: what its files share.
 *
 * A server's state is one word (tp__server_state). Start and wait move it from idle and back to it,
 * on the caller's thread; stop moves it to draining; the sweep, which one worker at a time runs,
 * does the rest:
 *
 *     IDLE --start--> STARTING ------> RUNNING --stop--> DRAINING --deadline--> CUTTING
 *                        |                                  ^  |                   |
 *                        +--stop--> CALLED_OFF --start------+  +-- no session -----+--> ENDING
 *
 *     ENDING --wait--> IDLE; a start that fails goes back to IDLE
 *
 * The port may be reached by anybody while the server is RUNNING, not before: STARTING and
 * CALLED_OFF belong to the thread inside start, which alone leaves them. So a stop that comes while
 * the port and the workers are being made is remembered, and carried out when they are there.
 *
 * ENDING is set only when the listener is closed, no slot is in use, no task is posted and no
 * thread from outside is inside the port (`callers`): from then on nothing can reach the port, the
 * workers leave, and wait frees it. The listener counts as open (`attached`) until start has
 * finished with it, so that ENDING does not come before that either.
 */
#ifndef TWINPORT_CORE_ENGINE_SERVER_STATE_H
#define TWINPORT_CORE_ENGINE_SERVER_STATE_H

#include <limits.h>

#include "core/engine/counters.h"
#include "core/engine/layer.h"
#include "core/engine/ledger.h"
#include "core/engine/service_time.h"
#include "core/engine/session_state.h"
#include "core/engine/slots.h"
#include "core/engine/tasks.h"
#include "core/memory/thread_cache.h"
#include "os/thread.h"

typedef enum tp__server_state {
    TP__SERVER_IDLE,
    TP__SERVER_STARTING,
    TP__SERVER_CALLED_OFF, /* starting, and to be stopped as soon as it runs */
    TP__SERVER_RUNNING,
    TP__SERVER_DRAINING,
    TP__SERVER_CUTTING,
    TP__SERVER_ENDING
} tp__server_state;

typedef enum tp__worker_up {
    TP__WORKER_STARTING,
    TP__WORKER_SEATED,
    TP__WORKER_FAILED /* no memory for the thread's record: the thread has ended */
} tp__worker_up;

/* A thread of the server at its seat. All of it belongs to that thread but `counters`, `now_ms` and
 * `time`, which others read, and `up`, which is under the server's mutex. */
typedef struct tp__worker {
    tp_server *server;
    tp_worker *seat;
    tp__local *local; /* the thread's record */
    unsigned index;
    tp__worker_up up;
    bool runs_tasks;          /* is inside tp__tasks_run() */
    _Atomic uint64_t now_ms;  /* read once per batch */
    tp__service_time time;    /* in which it has served (served.c) */
    uint64_t served_ms;       /* that of the sessions that it serves, as of now_ms */
    uint64_t stall_ms;        /* how long it stood still of late, as of now_ms */
    tp__session *flush_first; /* sessions to flush when the batch in hand is done */
    tp__session *flush_last;
    size_t unflushed_bytes; /* received since the last flush */
    tp_thread thread;
    tp__counters counters;
} tp__worker;

static inline uint64_t tp__worker_now_ms(const tp__worker *worker) {
    return atomic_load_explicit(&worker->now_ms, memory_order_relaxed);
}

typedef struct tp__listener {
    tp_socket socket;
    tp_op accept_op;
    tp_op close_op;
    _Atomic bool open;     /* accepts have been started, and it is not closed: the sweep may */
    _Atomic bool attached; /* until the close op is back */
    tp_address bound;
} tp__listener;

#define TP__NAME_SIZE 12
#define TP__IO_SIZE   16

struct tp_server {
    tp_server_options options; /* complete: no 0 left that stands for a default */
    tp_handlers handlers;
    char name[TP__NAME_SIZE];
    char io[TP__IO_SIZE];
    tp_network *networks; /* the access list's own copy */
    bool reserved;        /* options.reserve_bytes are, and are to be given up */

    const char *io_in_use; /* the port's own word for its back end */
    tp_port *port;         /* from start to the end of wait */
    tp__worker *workers;   /* options.workers of them, kept between starts */
    unsigned workers_started;
    tp__listener listener;

    tp__layer layer;       /* all zero: none */
    uint64_t send_packets; /* what one send takes, at most */
    uint64_t send_bytes;
    uint8_t *layer_states; /* slots.count times layer.state_bytes; NULL without a layer */
    tp__session *sessions; /* slots.count of them */
    tp__slots slots;
    tp__ledger *ledger;
    tp__tasks tasks;
    tp__counters outside;  /* counters of threads that are not this server's workers */
    tp__service_time time; /* in which any worker has served; written under `mutex` (served.c) */

    _Atomic int state; /* tp__server_state */
    _Atomic unsigned
        callers; /* calls that may be inside the port and that no worker's end waits for */
    _Atomic(tp__session *)
        orphans; /* released sessions that the port refused to carry to a worker */
    _Atomic unsigned slots_used;
    _Atomic unsigned session_count; /* places taken: joined or about to join, and not being ended */
    _Atomic uint64_t next_number;
    _Atomic uint64_t sweep_due_ms;
    _Atomic unsigned keeper; /* the worker that wakes in time for what is due by the clock */
    _Atomic bool sweeping;
    _Atomic bool hurry;         /* a stop does not drain */
    _Atomic uint64_t cut_by_ms; /* the earliest that tp_server_stop_within() was asked for */
    uint64_t drain_until_ms;    /* in served time; the sweep's, like the next three */
    uint32_t sweep_from;
    _Atomic bool budget_busy;   /* budget.c: somebody looks; it has what follows */
    uint64_t budget_due_ms;     /* when to look again */
    uint64_t budget_until_ms;   /* how long the one that was ended last is waited for */
    tp_session_id budget_ended; /* that one */
    _Atomic uint32_t cut_from;  /* shortage.c: where the next look begins */
    bool drain_begun;
    bool cut_begun;

    tp_mutex mutex; /* start, wait, the workers' end, and who asks for listener.bound, io_in_use */
    tp_condition changed;
    unsigned workers_running; /* under the mutex */
    bool freeing;             /* under the mutex: one of those in wait frees the port */
};

/* Is more queued than one send takes? */
static inline bool tp__passes_one_send(const tp_server *server, uint64_t queued) {
    return (queued >> TP__QUEUED_SHIFT) > server->send_packets ||
           (queued & TP__QUEUED_BYTES) > server->send_bytes;
}

static inline int tp__server_state_now(const tp_server *server) {
    return atomic_load_explicit(&server->state, memory_order_seq_cst);
}

/* What the layer keeps beside the session. */
static inline void *tp__layer_state(const tp__session *session) {
    const tp_server *server = session->server;
    return server->layer_states + session->index * server->layer.state_bytes;
}

/* current.c: this thread's worker of this server, or NULL. */
tp__worker *tp__worker_here(const tp_server *server);

/* Adds to a counter of the thread's row: `worker` is the thread's worker of this server, or
 * NULL. */
#define TP__COUNT(server, worker, counter, n)                                                      \
    do {                                                                                           \
        if (worker) {                                                                              \
            tp__count_own(&(worker)->counters.counter, (n));                                       \
        } else {                                                                                   \
            tp__count_shared(&(server)->outside.counter, (n));                                     \
        }                                                                                          \
    } while (0)

/* ---- server_report.c, port_guard.c ----------------------------------------------------------- */

/* Something failed that no call can return: counts, logs and tells on_error. The worker's thread,
 * or with NULL the one inside start. */
void tp__server_report(
    tp_server *server, tp__worker *worker, tp_err error, int os_error, const char *where);

/*
 * The door to the port for calls from anywhere: until tp__server_leave_port() it is not freed.
 * False (and nothing to leave): the server is not running.
 */
bool tp__server_enter_port(tp_server *server);
void tp__server_leave_port(tp_server *server);

/* ---- listener.c, for outgoing connections as well -------------------------------------------- */
tp_socket_options tp__server_socket_options(const tp_server *server);

#define TP__MEMORY_LIMIT_MOST ((uint64_t)1 << 40)

/* ---- server_options.c ------------------------------------------------------------------------ */

/* Checks the ranges and fills in the defaults that stand for 0. TP_ERR_INVALID: logged which. */
tp_err tp__server_options_complete(const tp_server_options *given, tp_server_options *options);
/* Logs that `what` is of another version's size or lacks something; returns TP_ERR_INVALID. */
tp_err tp__server_options_wrong(const char *what);

/* ---- worker.c -------------------------------------------------------------------------------- */

void tp__worker_main(void *worker);

/* latency.c: as the option low_latency asks; on the worker's thread, once. */
void tp__worker_take_latency(const tp__worker *worker);

/* ---- served.c: by which clock whom ----------------------------------------------------------- */

/* The worker begins; it waits for work at most wait_ms from now; it has come back from that. Its
 * own thread. */
void tp__worker_begins(tp__worker *worker, uint64_t now_ms);
void tp__worker_waits(tp__worker *worker, uint64_t now_ms, int wait_ms);
void tp__worker_comes_back(tp__worker *worker, uint64_t now_ms);

/* Looks at the clock in the middle of a round: before somebody is refused for what may have come
 * while a handler of this round held the worker up. True: it has stood still of late. Its own
 * thread. */
bool tp__worker_looks_again(tp__worker *worker);

/* Served time of a worker of the server (its index), or of TP__ANY_WORKER: that stands still only
 * while all of them do. Any thread, while the server runs. */
#define TP__ANY_WORKER UINT_MAX
uint64_t tp__server_served_ms(const tp_server *server, unsigned worker, uint64_t now_ms);

/* The calling worker's index, if sessions stay with the worker that serves them; TP__ANY_WORKER
 * else, and on other threads. */
unsigned tp__server_worker_here(const tp_server *server);

/* The served time by which this session is judged: that of the worker that serves it; where any
 * does, of all. Its socket is attached. */
uint64_t tp__session_served_ms(const tp__session *session, uint64_t now_ms);
/* ... and so much later: a deadline. */
uint64_t tp__session_by_ms(const tp__session *session, unsigned ms);

/* Its queue is full: is that because we have not sent, rather than because its peer does not read?
 * Any thread that holds the session. */
bool tp__session_waits_for_us(const tp__session *session);

/* ---- server_sessions.c ----------------------------------------------------------------------- */

/* tp__session_served_ms() by id, for parts that keep time-outs of their own; 0: there is no such
 * session. */
uint64_t tp__server_session_served_ms(tp_server *server, tp_session_id id, uint64_t now_ms);

/* ---- listener.c ------------------------------------------------------------------------------ */

/* Binds and listens; nothing is taken yet. Nothing to do if the server does not listen. */
tp_err tp__listener_open(tp_server *server);
/* Starts to take connections, unless it is `called_off`. From here on the listener may be closed,
 * and must be if this fails. */
tp_err tp__listener_accept(tp_server *server, bool called_off);
/* Closes if it may be; `attached` goes false when the port has done it. One thread at a time. */
void tp__listener_close(tp_server *server);

/* ---- shortage.c ------------------------------------------------------------------------------ */

/* A slot is about to be taken: if few are left, a session that is being ended is cut, and gives its
 * back. */
void tp__server_make_room(tp_server *server);

/* ---- sweep.c --------------------------------------------------------------------------------- */

/* What is due by the clock: idle sessions, PINGs, unfinished ends, delayed tasks, a stop's
 * progress. Any worker calls it after each wait; one at a time does the work. */
void tp__sweep(tp__worker *worker);

/* How long the worker may wait before somebody must sweep, in milliseconds, or -1. */
int tp__sweep_wait_ms(const tp__worker *worker, uint64_t now_ms);

#endif
