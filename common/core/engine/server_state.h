/*
 * The state of a server, shared by the files of the core.
 *
 * A server's state is one word (tp__server_state). Start and wait change it from IDLE and back to
 * it, on the caller's thread; stop changes it to DRAINING; the sweep, which one worker at a time
 * runs, does the rest:
 *
 *     IDLE --start--> STARTING ------> RUNNING --stop--> DRAINING --deadline--> CUTTING
 *                        |                                  ^  |                   |
 *                        +--stop--> CALLED_OFF --start------+  +-- nothing left ---+--> ENDING
 *
 *     ENDING --wait--> IDLE; a start that fails goes back to IDLE
 *
 * Any thread may enter the port while the server is RUNNING, and not before: STARTING and
 * CALLED_OFF belong to the thread inside start, and only that thread leaves them. So a stop that
 * comes while the port and the workers are being made is remembered, and carried out when they
 * exist.
 *
 * ENDING is set only when the listener is closed, no slot is in use, no task is posted, and no
 * thread from outside is inside the port (`callers`). From then on nothing can reach the port: the
 * workers end, and wait frees it. The listener counts as open (`attached`) until start has finished
 * with it, so ENDING does not come before that either.
 */
#ifndef TWINPORT_CORE_ENGINE_SERVER_STATE_H
#define TWINPORT_CORE_ENGINE_SERVER_STATE_H

#include <assert.h>
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
    TP__WORKER_READY,
    TP__WORKER_FAILED /* no memory for the thread cache: the thread has ended */
} tp__worker_up;

/* A thread of the server at its worker slot. Everything in it belongs to that thread, except
 * `counters`, `now_ms` and `time`, which other threads read, and `up`, which is under the server's
 * mutex. */
typedef struct tp__worker {
    tp_server *server;
    tp_worker *port_worker;
    tp__thread_cache *thread_cache; /* of this thread */
    unsigned index;
    tp__worker_up up;
    bool runs_tasks;         /* inside tp__tasks_run() */
    void *delivery;          /* with a layer: what its `permit` gets (frames.c) */
    _Atomic uint64_t now_ms; /* read once per batch */
    tp__service_time time;   /* its clock of served time (served.c) */
    uint64_t served_ms;      /* served time of the sessions that it serves, as of now_ms */
    /* How long it has stalled recently, as of now_ms; where any worker serves any session: it, or
     * all workers at once, whichever is longer. */
    uint64_t stall_ms;
    tp__session *flush_first; /* sessions to flush when the batch is done */
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
    _Atomic bool open;     /* accepts were started and it is not closed: the sweep may close it */
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
    bool reserved;        /* options.reserve_bytes are reserved, and must be given back */

    const char *io_in_use; /* the name of the port's back end, a static text */
    tp_port *port;         /* from start to the end of wait */
    tp__worker *workers;   /* options.workers of them, kept between starts */
    unsigned workers_started;
    tp__listener listener;

    tp__layer layer;       /* all zero: none */
    uint64_t send_packets; /* the most that one send takes */
    uint64_t send_bytes;
    uint8_t *layer_states; /* slots.count times layer.state_bytes; NULL without a layer */
    tp__session *sessions; /* slots.count of them */
    tp__slots slots;
    tp__ledger *ledger;
    tp__tasks tasks;
    tp__counters outside;  /* of threads that are not workers of this server */
    tp__service_time time; /* time that any worker has served; written under `mutex` (served.c) */

    _Atomic int state;              /* tp__server_state */
    _Atomic unsigned callers;       /* calls that may be inside the port; it is freed only at 0 */
    _Atomic(tp__session *) orphans; /* unreferenced sessions that the port refused to post */
    _Atomic unsigned slots_used;
    _Atomic unsigned session_count; /* quotas in use: joined or about to, and not being ended */
    _Atomic uint64_t next_number;
    _Atomic uint64_t sweep_due_ms;
    _Atomic unsigned timekeeper; /* index of the worker that wakes in time for what is due */
    _Atomic bool sweeping;
    _Atomic bool no_drain;      /* a stop cuts at once */
    _Atomic uint64_t cut_by_ms; /* the earliest time that tp_server_stop_within() was asked for */
    uint64_t drain_until_ms;    /* in served time; the sweep's, as sweep_from, drain_begun,
                                   cut_begun */
    uint32_t sweep_from;
    _Atomic bool budget_busy;   /* budget.c: a worker has the next three */
    uint64_t budget_due_ms;     /* when to check again */
    uint64_t budget_until_ms;   /* how long to wait for the release of the session ended last */
    tp_session_id budget_ended; /* that session */
    _Atomic uint32_t cut_from;  /* shortage.c: where the next scan begins */
    bool drain_begun;
    bool cut_begun;

    tp_mutex mutex; /* state changes that are waited for, each worker's `up`, listener.bound,
                       io_in_use and what follows */
    tp_condition changed;
    unsigned workers_running; /* under the mutex */
    bool freeing;             /* under the mutex: one of the threads in wait frees the port */
};

/* Is more queued than one send takes? */
static inline bool tp__exceeds_one_send(const tp_server *server, uint64_t queued) {
    return (queued >> TP__QUEUED_SHIFT) > server->send_packets ||
           (queued & TP__QUEUED_BYTES) > server->send_bytes;
}

static inline int tp__server_state_now(const tp_server *server) {
    return atomic_load_explicit(&server->state, memory_order_seq_cst);
}

/* current.c: the calling thread's worker of this server, or NULL. */
tp__worker *tp__worker_here(const tp_server *server);

/* Is the calling thread a worker of the session's server, and the session's owner if it has one? */
static inline bool tp__session_is_here(const tp__session *session) {
    const tp__worker *worker = tp__worker_here(session->server);
    const tp__worker *owner = atomic_load_explicit(&session->owner, memory_order_relaxed);
    return worker && (!owner || owner == worker);
}

/* Asserts that the calling thread may be the session's flusher or its receiver, which are on a
 * worker that serves the session's socket; and that it is this worker. */
#define TP_ASSERT_WORKER(session)   assert(tp__session_is_here(session))
#define TP_ASSERT_ON_WORKER(worker) assert(tp__worker_here((worker)->server) == (worker))

/* Adds to a counter of the calling thread's row. `worker` is the thread's worker of this server, or
 * NULL. */
#define TP__COUNT(server, worker, counter, n)                                                      \
    do {                                                                                           \
        if (worker) {                                                                              \
            tp__count_own(&(worker)->counters.counter, (n));                                       \
        } else {                                                                                   \
            tp__count_shared(&(server)->outside.counter, (n));                                     \
        }                                                                                          \
    } while (0)

/* ---- port_guard.c ---------------------------------------------------------------------------- */

/*
 * Enters the port, from any thread: it is not freed until tp__server_leave_port(). False (and
 * nothing to leave): the server is not running.
 */
bool tp__server_enter_port(tp_server *server);
void tp__server_leave_port(tp_server *server);

/* ---- listener.c: socket options, of outgoing connections too --------------------------------- */
tp_socket_options tp__server_socket_options(const tp_server *server);

#define TP__MEMORY_LIMIT_MAX ((uint64_t)1 << 40)

/* ---- server_options.c ------------------------------------------------------------------------ */

/* Checks the ranges and fills in the defaults that stand for 0. TP_ERR_INVALID: the log names the
 * option. */
tp_err tp__server_options_complete(const tp_server_options *given, tp_server_options *options);
/* Logs that the size of `what` is another version's, or that a required part is missing; returns
 * TP_ERR_INVALID. */
tp_err tp__server_options_wrong(const char *what);

/* ---- worker.c -------------------------------------------------------------------------------- */

void tp__worker_main(void *worker);

/* latency.c: applies the option low_latency to the calling thread. Once, on the worker's thread. */
void tp__worker_apply_low_latency(const tp__worker *worker);

/* ---- served.c: served time ------------------------------------------------------------------- */

/* The worker's clock starts; the worker is about to wait for work, at most wait_ms from now; it is
 * back from that wait. On its own thread. */
void tp__worker_clock_start(tp__worker *worker, uint64_t now_ms);
void tp__worker_clock_wait(tp__worker *worker, uint64_t now_ms, int wait_ms);
void tp__worker_clock_resume(tp__worker *worker, uint64_t now_ms);

/* Served time of the worker with this index, or with TP__ANY_WORKER the server's, which stands
 * still only while all workers do. Any thread, while the server runs. */
#define TP__ANY_WORKER UINT_MAX
uint64_t tp__server_served_ms(const tp_server *server, unsigned worker, uint64_t now_ms);

/* The calling worker's index if the port binds sockets to workers; otherwise, and on other threads,
 * TP__ANY_WORKER. */
unsigned tp__server_worker_here(const tp_server *server);

/* The served time that counts for this session: that of the worker that serves it; where any worker
 * does, the server's. Its socket is attached. */
uint64_t tp__session_served_ms(const tp__session *session, uint64_t now_ms);
/* The same plus `ms`: a deadline. */
uint64_t tp__session_deadline_ms(const tp__session *session, unsigned ms);

/* The session's queue is full: is that because the server has not sent, rather than because the
 * peer does not read? The caller has a reference, or is the owner. Any thread. */
bool tp__session_awaits_server(const tp__session *session);

/* ---- server_sessions.c ----------------------------------------------------------------------- */

/* tp__session_served_ms() by id, for callers with time-outs of their own; 0: no such session. */
uint64_t tp__server_session_served_ms(tp_server *server, tp_session_id id, uint64_t now_ms);

/* ---- listener.c ------------------------------------------------------------------------------ */

/* Binds and listens; accepts nothing yet. TP_OK also if the server does not listen. */
tp_err tp__listener_open(tp_server *server);
/* Starts to accept, unless `called_off`. From here on the listener may be closed, and must be if
 * this fails. */
tp_err tp__listener_accept(tp_server *server, bool called_off);
/* Closes the listener if that is allowed; `attached` becomes false when the port has done it. One
 * thread at a time. */
void tp__listener_close(tp_server *server);

/* ---- shortage.c ------------------------------------------------------------------------------ */

/* Called before a slot is taken. If few are left, cuts a session that is being ended, so that its
 * slot becomes free. */
void tp__server_cut_for_slot(tp_server *server);

/* ---- sweep.c --------------------------------------------------------------------------------- */

/* Does what is due by the clock: idle sessions, PINGs, overdue ends, delayed tasks, the progress of
 * a stop. Every worker calls it after each wait; one at a time does the work. */
void tp__sweep(tp__worker *worker);

/* How long the worker may wait before a sweep is due, in milliseconds. */
int tp__sweep_wait_ms(const tp__worker *worker, uint64_t now_ms);

#endif
