/*
 * The stage on which the cases of the port's conformance suite play: a port with its worker
 * threads, operations that know whether they are in progress, and links (sockets with all their
 * operations).
 *
 * Every operation of every case goes through here, so the promise of common/os/port.h is checked in
 * all of them and not only where a case thinks of it:
 *   - what was started comes back exactly once, and nothing comes back that was not started;
 *   - `done` runs inside tp_port_dispatch() on the thread of the worker it names, and never from
 *     inside a start;
 *   - only receive and accept have deliveries that are not the last;
 *   - deliveries of a socket's receive never overlap, and after tp_socket_close() has returned
 *     at most the one that was running elsewhere carries bytes;
 *   - a socket's close comes back after everything else of that socket, and while no `done` of the
 *     socket runs elsewhere: the memory would be gone from under it.
 *
 * A case runs on the program's main thread and waits with STAGE_UNTIL. Functions that take a
 * tp_worker are called on that worker's thread.
 */
#ifndef TWINPORT_TESTS_STAGE_H
#define TWINPORT_TESTS_STAGE_H

#define CHECK_SHARED
#include "check.h"

#include "os/compiler.h"
#include "os/port.h"
#include "os/process.h"
#include "os/thread.h"

/* ---- what is on trial ------------------------------------------------------------------------ */

typedef struct stage_variant {
    const char *backend;
    unsigned workers;
    bool post_receive_buffers;
} stage_variant;

/* Set by main() before each case. */
extern stage_variant stage_on_trial;

bool stage_backend_is(const char *name);

/* ---- waiting --------------------------------------------------------------------------------- */

/*
 * Who waits gives up when it has looked this often, 2 ms or more apart, and nothing at all has come
 * back meanwhile; stretched by TWINPORT_TIME_FACTOR. Looks are counted and not time, so that
 * neither a machine that is slow nor one that stands still for seconds is taken for a port that has
 * lost something. A port that is busy and never gets there is ended by ctest's time-out.
 */
#define STAGE_LOOKS 10000

#define STAGE_UNTIL(condition)                                                                     \
    do {                                                                                           \
        stage_patience patience_ = stage_patience_begin();                                         \
        while (!(condition)) {                                                                     \
            if (!stage_wait(&patience_)) {                                                         \
                stage_give_up(#condition, __FILE__, __LINE__);                                     \
            }                                                                                      \
        }                                                                                          \
    } while (0)

typedef struct stage_patience {
    uint64_t changes; /* those there were before the last look */
    uint64_t came_back;
    unsigned looks; /* since something came back */
} stage_patience;

/* Before the first look. */
stage_patience stage_patience_begin(void);
/* Between two looks: returns at the next change, or after a moment. False: it is time to give
 * up. */
bool stage_wait(stage_patience *patience);
/* Makes those who wait look again. Any thread. */
void stage_changed(void);
/* Says what was waited for and what is in progress, and ends the program with 1. */
TP_NORETURN void stage_give_up(const char *waited_for, const char *file, int line);

/* Says that the back end broke the promise, counts it as a failure; silent after 20 lines. */
void stage_fault(const char *format, ...) TP_PRINTF(1, 2);

/* The error's name, without the help of the code above the seam; STAGE_PENDING is "nothing yet". */
const char *stage_error_name(int error);

/* ---- port and workers ------------------------------------------------------------------------ */

#define STAGE_MAX_WORKERS 8

typedef struct stage stage;

typedef struct stage_seat {
    stage *stage;
    tp_worker *worker;
    tp_thread thread;
} stage_seat;

struct stage {
    tp_port *port;
    unsigned workers;
    stage_seat seats[STAGE_MAX_WORKERS];
    atomic_bool stopping;
    atomic_uint_fast64_t wakes;       /* waits that ended with TP_OK */
    atomic_uint_fast64_t dispatched;  /* `done`s that ran */
    atomic_uint_fast64_t longest_run; /* the most of them in one dispatch */
};

/* A port of the variant on trial, its workers running. */
void stage_open(stage *s);
/* The same with a number of workers of the case's own. */
void stage_open_workers(stage *s, unsigned workers);
/* With descriptors that are not for accepted connections. */
void stage_open_reserve(stage *s, unsigned reserve_descriptors);
/*
 * Waits until no more descriptors are open than before. Its threads may have opened some of their
 * own: under Win32 each keeps a few from its first call on a socket, and which worker makes that
 * call when is nobody's promise.
 */
#define STAGE_UNTIL_DESCRIPTORS(s, before)                                                         \
    STAGE_UNTIL(tp_process_open_descriptors() <= (before) + stage_own_descriptors(s))
long stage_own_descriptors(const stage *s);
/* Ends the workers and destroys the port. Every link must be closed. */
void stage_close(stage *s);

#define STAGE_PENDING (-1) /* in place of a tp_err: has not come back */

/* ---- operations ------------------------------------------------------------------------------ */

typedef struct stage_op stage_op;
typedef struct stage_link stage_link;
typedef void stage_done(stage_op *op, const tp_completion *completion);

struct stage_op {
    tp_op op;
    const char *name;
    stage_link *link; /* NULL: of no socket */
    stage_done *done; /* may be NULL */
    void *context;
    atomic_uint started;
    atomic_uint ended;
};

void stage_op_init(stage_op *op, const char *name, stage_done *done, void *context);
bool stage_op_in_progress(const stage_op *op);
/* Around every start: the op is in progress from before the call; a start that failed was none. */
void stage_op_starting(stage_op *op);
void stage_op_started(stage_op *op, tp_err error);

/* tp_port_post of an op of the case's own. Any thread. */
tp_err stage_post(tp_port *port, tp_socket *socket, stage_op *op);

/* ---- links ----------------------------------------------------------------------------------- */

struct stage_link {
    tp_socket socket;
    stage *stage;
    const char *name;
    stage_op connect;
    stage_op accept;
    stage_op receive;
    stage_op send;
    stage_op close;
    stage_op task;

    /* The case's part; any may be NULL. Called on workers. */
    void (*on_connected)(stage_link *link, const tp_completion *completion);
    void (*on_accepted)(stage_link *link, const tp_completion *completion);
    void (*on_bytes)(stage_link *link, const tp_completion *completion);
    void (*on_received_all)(stage_link *link, const tp_completion *completion); /* the last one */
    void (*on_sent)(stage_link *link, const tp_completion *completion);
    void *context;

    /* What has come back: a tp_err, or STAGE_PENDING. */
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
    atomic_uint late_deliveries; /* with bytes, begun after close had returned */
    atomic_bool delivering;
    atomic_int running; /* `done`s of its operations, close and task excepted, on any worker now */
    bool none_late;     /* set by the case: not even one of those is possible */
    size_t sending;     /* bytes of the send in progress */
    stage_link *next;
    stage_link *previous;
};

void stage_link_init(stage_link *link, stage *s, const char *name);

/* The starts of port.h, with the checks around them. */
tp_err stage_connect(stage_link *link, const tp_address *address);
tp_err stage_attach(stage_link *link, tp_handle handle);
tp_err stage_listen(
    stage_link *link, const tp_address *address, unsigned backlog, tp_address *bound);
tp_err stage_accept(stage_link *link);
tp_err stage_receive(tp_worker *worker, stage_link *link);
tp_err stage_send(tp_worker *worker, stage_link *link, const tp_buffer *buffers, size_t count);
tp_err stage_send_bytes(
    tp_worker *worker, stage_link *link, tp_buffer *buffer, const void *bytes, size_t size);
void stage_shut(stage_link *link, bool reset);      /* tp_socket_close; any thread, once */
void stage_shut_once(stage_link *link, bool reset); /* the same, unless it was called before */

/* The close has come back and whoever called it has let go: the memory is the case's again. */
bool stage_link_over(const stage_link *link);

/* Closes and waits for the end of it. Main thread. */
void stage_shut_and_wait(stage_link *link, bool reset);

/* Runs `act` on a worker that serves the link and waits until it has. Main thread. */
typedef void stage_act(tp_worker *worker, stage_link *link, void *argument);
void stage_run(stage_link *link, stage_act *act, void *argument);

/* The commonest acts. */
stage_act stage_act_receive; /* starts receiving */
stage_act stage_act_finish;
stage_act stage_act_pause;
stage_act stage_act_resume;

/* ---- listeners and pairs --------------------------------------------------------------------- */

#define STAGE_ACCEPTED_MAX 1024

/* A link that listens and keeps what it accepted until it is taken. */
typedef struct stage_listener {
    stage_link link;
    tp_address address; /* where it listens */
    tp_mutex mutex;     /* guards `accepted`, `peers` */
    tp_handle accepted[STAGE_ACCEPTED_MAX];
    tp_address peers[STAGE_ACCEPTED_MAX];
    unsigned taken;
    atomic_uint count;    /* accepted since the opening */
    atomic_uint failures; /* deliveries without a handle */
    atomic_int failure;   /* the last of them */
} stage_listener;

/* Listens on a free port of 127.0.0.1 and starts accepting. */
void stage_listener_open(stage_listener *listener, stage *s);
/* The same at an address of the case's own; the accept is started only if `accepting`. */
tp_err stage_listener_open_at(stage_listener *listener, stage *s, const tp_address *address,
    unsigned backlog, bool accepting);
/* 127.0.0.1 and [::1]. */
tp_address stage_loopback(uint16_t port);
tp_address stage_loopback6(uint16_t port);
/* Waits for the next accepted connection; `peer` may be NULL. Main thread. */
tp_handle stage_listener_take(stage_listener *listener, tp_address *peer);
/* Closes it, and the connections nobody took. Main thread. */
void stage_listener_close(stage_listener *listener);

/* Connects `client` to the listener and attaches the accepted end to `server`; both are
 * initialised. Main thread; no other connection may be on its way to the listener. */
void stage_pair(stage_listener *listener, stage_link *client, stage_link *server);
/* Closes both and waits. */
void stage_unpair(stage_link *client, stage_link *server);

/* ---- bytes and chance ------------------------------------------------------------------------ */

/* The byte at `offset` of the endless pattern `seed`. */
void stage_pattern_fill(uint8_t *bytes, size_t count, uint64_t offset, unsigned seed);
/* Are these the pattern's bytes from `offset`? If not, says where they differ. */
bool stage_pattern_check(
    const char *name, const uint8_t *bytes, size_t count, uint64_t offset, unsigned seed);

/* The next number of a sequence that its start value decides. */
uint32_t stage_chance(uint64_t *state);

#endif
