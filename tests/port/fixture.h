/*
 * The fixture of the port's conformance suite: a port with its worker threads, operations that
 * record whether they are in progress, and links (sockets with all their operations).
 *
 * Every operation of every case goes through the fixture, so the promise of common/os/port.h is
 * checked in all cases:
 *   - An op that was started comes back exactly once, and an op that was not started never does.
 *   - `done` runs inside tp_port_dispatch() on the thread of the worker that it names, and never
 *     inside a start.
 *   - Only receive and accept have deliveries that are not the last.
 *   - Deliveries of a socket's receive never overlap. After tp_socket_close() has returned, at most
 *     the one that was running on another thread carries bytes.
 *   - A socket's close comes back after all its other ops, and while no `done` of the socket is
 *     running on another thread, which would use freed memory.
 *
 * A case runs on the program's main thread and waits with FIXTURE_UNTIL. Functions with a tp_worker
 * parameter are called on that worker's thread.
 */
#ifndef TWINPORT_TESTS_FIXTURE_H
#define TWINPORT_TESTS_FIXTURE_H

#define CHECK_SHARED
#include "check.h"

#include "os/compiler.h"
#include "os/port_backend.h"
#include "os/process.h"
#include "os/thread.h"

/* ---- what is tested -------------------------------------------------------------------------- */

typedef struct fixture_variant {
    const char *backend;
    unsigned workers;
    bool post_receive_buffers;
} fixture_variant;

/* The variant that is tested. Set by main() before each case. */
extern fixture_variant fixture_under_test;

bool fixture_backend_is(const char *name);

/* A worker's place in its port, which only tests look at. */
static inline unsigned fixture_index_of(const tp_worker *worker) {
    return worker->index;
}

static inline tp_port *fixture_port_of(const tp_worker *worker) {
    return worker->port;
}

/* ---- waiting --------------------------------------------------------------------------------- */

/*
 * A wait gives up after this many checks of its condition, 2 ms or more apart, during which no op
 * has come back. The number is multiplied by TWINPORT_TIME_FACTOR. Checks are counted instead of
 * time, so that a machine that is slow or stops for seconds is not mistaken for a port that has
 * lost an op. A port that is busy and never fulfils the condition is ended by ctest's time-out.
 */
#define FIXTURE_LOOKS 10000

#define FIXTURE_UNTIL(condition)                                                                   \
    do {                                                                                           \
        fixture_patience patience_ = fixture_patience_begin();                                     \
        while (!(condition)) {                                                                     \
            if (!fixture_wait(&patience_)) {                                                       \
                fixture_give_up(#condition, __FILE__, __LINE__);                                   \
            }                                                                                      \
        }                                                                                          \
    } while (0)

typedef struct fixture_patience {
    uint64_t changes; /* the number of changes before the last check */
    uint64_t came_back;
    unsigned looks; /* checks since an op came back */
} fixture_patience;

/* Called before the first check. */
fixture_patience fixture_patience_begin(void);
/* Called between two checks: returns at the next change, or after 2 ms. False: give up. */
bool fixture_wait(fixture_patience *patience);
/* Makes waits check their conditions again. Any thread. */
void fixture_changed(void);
/* Prints what was waited for and what is in progress, and ends the program with exit code 1. */
TP_NORETURN void fixture_give_up(const char *waited_for, const char *file, int line);

/* Reports that the back end has broken the promise, and counts it as a failure. Prints at most 20
 * lines. */
void fixture_fault(const char *format, ...) TP_PRINTF(1, 2);

/* The error's name (tp_err_text() is above the seam). FIXTURE_PENDING is "nothing yet". */
const char *fixture_error_name(int error);

/* ---- port and workers ------------------------------------------------------------------------ */

#define FIXTURE_MAX_WORKERS 8

typedef struct fixture fixture;

typedef struct fixture_worker {
    fixture *fixture;
    tp_worker *worker;
    tp_thread thread;
} fixture_worker;

struct fixture {
    tp_port *port;
    unsigned workers;
    fixture_worker slots[FIXTURE_MAX_WORKERS];
    atomic_bool stopping;
    atomic_uint_fast64_t wakes;       /* waits that ended with TP_OK */
    atomic_uint_fast64_t dispatched;  /* `done`s that ran */
    atomic_uint_fast64_t longest_run; /* the most of them in one dispatch */
};

/* Creates a port of the tested variant and starts its workers. */
void fixture_open(fixture *s);
/* The same with another number of workers. */
void fixture_open_workers(fixture *s, unsigned workers);
/* The same with a reserve of descriptors. */
void fixture_open_reserve(fixture *s, unsigned reserve_descriptors);
/*
 * Waits until no more descriptors are open than before. The fixture's threads may have opened some
 * of their own: on Windows each thread keeps a few from its first call on a socket, and it is not
 * defined when a worker makes that call.
 */
#define FIXTURE_UNTIL_DESCRIPTORS(s, before)                                                       \
    FIXTURE_UNTIL(tp_process_open_descriptors() <= (before) + fixture_own_descriptors(s))
long fixture_own_descriptors(const fixture *s);
/* Ends the workers and destroys the port. Every link must be closed. */
void fixture_close(fixture *s);

#define FIXTURE_PENDING (-1) /* instead of a tp_err: the op has not come back */

/* ---- operations ------------------------------------------------------------------------------ */

typedef struct fixture_op fixture_op;
typedef struct fixture_link fixture_link;
typedef void fixture_done(fixture_op *op, const tp_completion *completion);

struct fixture_op {
    tp_op op;
    const char *name;
    fixture_link *link; /* NULL: an op without a socket */
    fixture_done *done; /* may be NULL */
    void *context;
    atomic_uint started;
    atomic_uint ended;
};

void fixture_op_init(fixture_op *op, const char *name, fixture_done *done, void *context);
bool fixture_op_in_progress(const fixture_op *op);
/* Called around every start. The op counts as in progress from before the call. A start that failed
 * is not counted. */
void fixture_op_starting(fixture_op *op);
void fixture_op_started(fixture_op *op, tp_err error);

/* tp_port_post() of an op of the case. Any thread. */
tp_err fixture_post(tp_port *port, tp_socket *socket, fixture_op *op);

/* ---- links ----------------------------------------------------------------------------------- */

struct fixture_link {
    tp_socket socket;
    fixture *fixture;
    const char *name;
    fixture_op connect;
    fixture_op accept;
    fixture_op receive;
    fixture_op send;
    fixture_op close;
    fixture_op task;

    /* The case's callbacks, called on workers; may be NULL. */
    void (*on_connected)(fixture_link *link, const tp_completion *completion);
    void (*on_accepted)(fixture_link *link, const tp_completion *completion);
    void (*on_bytes)(fixture_link *link, const tp_completion *completion);
    void (*on_received_all)(fixture_link *link, const tp_completion *completion); /* the last one */
    void (*on_sent)(fixture_link *link, const tp_completion *completion);
    void *context;

    /* The results: a tp_err, or FIXTURE_PENDING. */
    atomic_int connect_result;
    atomic_int accept_result;
    atomic_int receive_result;
    atomic_int send_result;
    atomic_uint_fast64_t received; /* bytes delivered */
    atomic_uint_fast64_t sent;     /* bytes of sends that came back */

    /* Invariant: attached, then closing, then close_returned in either order with closed. */
    atomic_bool attached;
    atomic_bool closing;
    atomic_bool close_returned;
    atomic_bool closed;
    atomic_uint late_deliveries; /* deliveries with bytes that began after close had returned */
    atomic_bool delivering;
    atomic_int running; /* how many `done` of its ops, except close and task, are running */
    bool none_late;     /* set by the case: not even one late delivery is possible */
    size_t sending;     /* bytes of the send in progress */
    fixture_link *next;
    fixture_link *previous;
};

void fixture_link_init(fixture_link *link, fixture *s, const char *name);

/* The functions of port.h that start ops, with the checks around them. */
tp_err fixture_connect(fixture_link *link, const tp_address *address);
tp_err fixture_attach(fixture_link *link, tp_handle handle);
tp_err fixture_listen(
    fixture_link *link, const tp_address *address, unsigned backlog, tp_address *bound);
tp_err fixture_accept(fixture_link *link);
tp_err fixture_receive(tp_worker *worker, fixture_link *link);
tp_err fixture_send(tp_worker *worker, fixture_link *link, const tp_buffer *buffers, size_t count);
tp_err fixture_send_bytes(
    tp_worker *worker, fixture_link *link, tp_buffer *buffer, const void *bytes, size_t size);
void fixture_shut(fixture_link *link, bool reset);      /* tp_socket_close; any thread, once */
void fixture_shut_once(fixture_link *link, bool reset); /* the same, unless it was called before */

/* True if the close has come back and the call of it has returned: the memory is the case's
 * again. */
bool fixture_link_over(const fixture_link *link);

/* Closes the link and waits until it is over. Main thread. */
void fixture_shut_and_wait(fixture_link *link, bool reset);

/* Runs `act` on a worker that serves the link, and waits until it has run. Main thread. */
typedef void fixture_act(tp_worker *worker, fixture_link *link, void *argument);
void fixture_run(fixture_link *link, fixture_act *act, void *argument);

/* The acts that most cases use. */
fixture_act fixture_act_receive; /* starts receiving */
fixture_act fixture_act_finish;
fixture_act fixture_act_pause;
fixture_act fixture_act_resume;

/* ---- listeners and pairs --------------------------------------------------------------------- */

#define FIXTURE_ACCEPTED_MAX 1024

/* A link that listens, and keeps the accepted connections until the case takes them. */
typedef struct fixture_listener {
    fixture_link link;
    tp_address address; /* where it listens */
    tp_mutex mutex;     /* guards `accepted`, `peers` */
    tp_handle accepted[FIXTURE_ACCEPTED_MAX];
    tp_address peers[FIXTURE_ACCEPTED_MAX];
    unsigned taken;
    atomic_uint count;    /* connections accepted so far */
    atomic_uint failures; /* deliveries without a handle */
    atomic_int failure;   /* the error of the last one */
} fixture_listener;

/* Listens on a free port of 127.0.0.1 and starts accepting. */
void fixture_listener_open(fixture_listener *listener, fixture *s);
/* The same at another address; the accept is started only if `accepting`. */
tp_err fixture_listener_open_at(fixture_listener *listener, fixture *s, const tp_address *address,
    unsigned backlog, bool accepting);
/* 127.0.0.1 and [::1]. */
tp_address fixture_loopback(uint16_t port);
tp_address fixture_loopback6(uint16_t port);
/* Waits for the next accepted connection; `peer` may be NULL. Main thread. */
tp_handle fixture_listener_take(fixture_listener *listener, tp_address *peer);
/* Closes it, and the connections that were not taken. Main thread. */
void fixture_listener_close(fixture_listener *listener);

/* Connects `client` to the listener and attaches the accepted end to `server`; both are
 * initialised. Main thread; no other connect to the listener may be in progress. */
void fixture_pair(fixture_listener *listener, fixture_link *client, fixture_link *server);
/* Closes both and waits. */
void fixture_unpair(fixture_link *client, fixture_link *server);

/* ---- bytes and random numbers ---------------------------------------------------------------- */

/* Fills `bytes` with the endless pattern `seed`, from `offset` on. */
void fixture_pattern_fill(uint8_t *bytes, size_t count, uint64_t offset, unsigned seed);
/* True if these are the pattern's bytes from `offset` on; otherwise reports where they differ. */
bool fixture_pattern_check(
    const char *name, const uint8_t *bytes, size_t count, uint64_t offset, unsigned seed);

/* The next number of a pseudo-random sequence, which depends only on its first state. */
uint32_t fixture_chance(uint64_t *state);

#endif
