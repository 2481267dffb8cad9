/*
 * The fixture's port, workers and operations. See fixture.h for what is checked here.
 *
 * The main thread opens, waits and closes; worker threads run the loop below and every `done`.
 * `here` is each thread's record of what it is running, so that a `done` inside a start is detected
 * on the thread on which it happens.
 */
#include "fixture.h"

fixture_variant fixture_under_test;

atomic_uint check_failures;
atomic_uint check_skips;

static TP_THREAD_LOCAL struct {
    const tp_worker *worker; /* the worker whose loop this thread runs, or NULL */
    bool dispatching;
    unsigned starting; /* how many starts this thread is inside of */
} here;

const char *fixture_error_name(int error) {
    switch (error) {
#define ERROR_CASE(name, value, text)                                                              \
    case value:                                                                                    \
        return #name;
        TP_ERRORS(ERROR_CASE)
#undef ERROR_CASE
    case FIXTURE_PENDING:
        return "nothing yet";
    default:
        return "a value that is no tp_err";
    }
}

bool fixture_backend_is(const char *name) {
    return strcmp(fixture_under_test.backend, name) == 0;
}

/* ---- waiting --------------------------------------------------------------------------------- */

static tp_mutex change_mutex;
static tp_condition change_condition;
static tp_once change_once;
static atomic_uint_fast64_t changes;
static atomic_uint_fast64_t came_back; /* how many `done` have run, of all fixtures */

static void change_initialise(void) {
    tp_mutex_init(&change_mutex);
    tp_condition_init(&change_condition);
}

/* After how many checks without a result a wait gives up. */
static unsigned max_looks(void) {
    static unsigned looks; /* main thread only */
    if (looks == 0) {
        const char *text = getenv("TWINPORT_TIME_FACTOR");
        long factor = text == NULL ? 1 : strtol(text, NULL, 10);
        looks = FIXTURE_LOOKS * (factor >= 1 && factor <= 100 ? (unsigned)factor : 1);
    }
    return looks;
}

fixture_patience fixture_patience_begin(void) {
    return (fixture_patience){
        .changes = atomic_load(&changes), .came_back = atomic_load(&came_back)};
}

bool fixture_wait(fixture_patience *patience) {
    /* Not every change is announced, for the sake of speed: check again after 2 ms. */
    tp_once_run(&change_once, change_initialise);
    tp_mutex_lock(&change_mutex);
    if (atomic_load(&changes) == patience->changes) {
        (void)tp_condition_wait(&change_condition, &change_mutex, 2);
    }
    tp_mutex_unlock(&change_mutex);
    fixture_patience now = fixture_patience_begin();
    bool idle = now.changes == patience->changes && now.came_back == patience->came_back;
    now.looks = idle ? patience->looks + 1 : 0;
    *patience = now;
    return now.looks < max_looks();
}

void fixture_changed(void) {
    tp_once_run(&change_once, change_initialise);
    tp_mutex_lock(&change_mutex);
    atomic_fetch_add(&changes, 1);
    tp_mutex_unlock(&change_mutex);
    tp_condition_wake_all(&change_condition);
}

void fixture_fault(const char *format, ...) {
    static atomic_uint lines;
    atomic_fetch_add(&check_failures, 1);
    if (atomic_fetch_add(&lines, 1) >= 20) {
        return;
    }
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    printf("%s, %u workers%s: %s\n", fixture_under_test.backend, fixture_under_test.workers,
        fixture_under_test.post_receive_buffers ? ", posted receives" : "", text);
    fflush(stdout);
}

/* ---- port and workers ------------------------------------------------------------------------ */

static void raise_maximum(atomic_uint_fast64_t *highest, uint64_t value) {
    uint64_t seen = atomic_load(highest);
    while (seen < value && !atomic_compare_exchange_weak(highest, &seen, value)) {
    }
}

static void worker_main(void *argument) {
    fixture_worker *slot = argument;
    fixture *s = slot->fixture;
    here.worker = slot->worker;
    while (!atomic_load(&s->stopping)) {
        tp_err error = tp_port_wait(slot->worker, -1);
        if (error != TP_OK) {
            fixture_fault("tp_port_wait without a limit gave %s (%d)",
                fixture_error_name((int)error), tp_os_error());
            return;
        }
        atomic_fetch_add(&s->wakes, 1);
        here.dispatching = true;
        size_t ran = tp_port_dispatch(slot->worker);
        here.dispatching = false;
        atomic_fetch_add(&s->dispatched, ran);
        raise_maximum(&s->longest_run, ran);
    }
}

void fixture_open(fixture *s) {
    fixture_open_workers(s, fixture_under_test.workers);
}

static void open_port(fixture *s, unsigned workers, unsigned reserve_descriptors) {
    memset(s, 0, sizeof *s);
    s->workers = workers;
    tp_port_options options = {
        .size = sizeof options,
        .backend = fixture_under_test.backend,
        .workers = workers,
        .post_receive_buffers = fixture_under_test.post_receive_buffers,
        .reserve_descriptors = reserve_descriptors,
    };
    REQUIRE(workers <= FIXTURE_MAX_WORKERS);
    REQUIRE(tp_port_create(&options, &s->port) == TP_OK);
    for (unsigned i = 0; i < workers; i++) {
        s->slots[i].fixture = s;
        s->slots[i].worker = tp_port_worker(s->port, i);
    }
    for (unsigned i = 0; i < workers; i++) {
        REQUIRE(
            tp_thread_start(&s->slots[i].thread, "fixture", worker_main, &s->slots[i]) == TP_OK);
    }
}

void fixture_open_workers(fixture *s, unsigned workers) {
    open_port(s, workers, 0);
}

void fixture_open_reserve(fixture *s, unsigned reserve_descriptors) {
    open_port(s, fixture_under_test.workers, reserve_descriptors);
}

long fixture_own_descriptors(const fixture *s) {
    enum { OF_A_THREAD = 2 };
    return fixture_backend_is("iocp") ? OF_A_THREAD * (long)s->workers : 0;
}

void fixture_close(fixture *s) {
    atomic_store(&s->stopping, true);
    tp_port_wake(s->port);
    for (unsigned i = 0; i < s->workers; i++) {
        tp_thread_join(&s->slots[i].thread);
    }
    tp_port_destroy(s->port);
    s->port = NULL;
}

/* ---- operations ------------------------------------------------------------------------------ */

static const char *op_owner(const fixture_op *op) {
    return op->link == NULL ? "no socket" : op->link->name;
}

/* The `done` of every op of every case. */
static void op_done(tp_op *raw, const tp_completion *completion) {
    fixture_op *op = TP_CONTAINER_OF(raw, fixture_op, op);
    if (here.starting > 0) {
        fixture_fault("%s of %s came back inside a start", op->name, op_owner(op));
    }
    if (!here.dispatching || here.worker != completion->worker) {
        fixture_fault(
            "%s of %s came back outside of its worker's dispatch", op->name, op_owner(op));
    }
    if (!fixture_op_in_progress(op)) {
        fixture_fault("%s of %s came back, but is not in progress (started %u, ended %u)", op->name,
            op_owner(op), atomic_load(&op->started), atomic_load(&op->ended));
    }
    atomic_fetch_add(&came_back, 1);
    if (completion->last) {
        atomic_fetch_add(&op->ended, 1);
    } else if (op->link == NULL || (op != &op->link->receive && op != &op->link->accept)) {
        fixture_fault("%s of %s: a delivery that is not the last", op->name, op_owner(op));
    }
    bool counted = op->link != NULL && op != &op->link->close && op != &op->link->task;
    if (counted) {
        atomic_fetch_add(&op->link->running, 1);
    }
    if (op->done != NULL) {
        op->done(op, completion);
    }
    if (counted) {
        atomic_fetch_sub(&op->link->running, 1);
    }
}

void fixture_op_init(fixture_op *op, const char *name, fixture_done *done, void *context) {
    memset(op, 0, sizeof *op);
    op->op.done = op_done;
    op->name = name;
    op->done = done;
    op->context = context;
}

bool fixture_op_in_progress(const fixture_op *op) {
    /* `ended` is read first: it never exceeds `started`, and in this order it cannot appear to. */
    unsigned ended = atomic_load(&op->ended);
    return atomic_load(&op->started) != ended;
}

void fixture_op_starting(fixture_op *op) {
    if (fixture_op_in_progress(op)) {
        fixture_fault("the case starts %s of %s twice", op->name, op_owner(op));
    }
    atomic_fetch_add(&op->started, 1);
    here.starting++;
}

void fixture_op_started(fixture_op *op, tp_err error) {
    here.starting--;
    /* After a start that succeeded the op may be freed already. */
    if (error != TP_OK) {
        atomic_fetch_sub(&op->started, 1);
    }
}

tp_err fixture_post(tp_port *port, tp_socket *socket, fixture_op *op) {
    fixture_op_starting(op);
    tp_err error = tp_port_post(port, socket, &op->op);
    fixture_op_started(op, error);
    return error;
}

/* ---- bytes and random numbers ---------------------------------------------------------------- */

/* A prime, so that the pattern does not repeat at a power of two. */
#define PATTERN_PERIOD 65521

static uint8_t pattern[2 * PATTERN_PERIOD];
static tp_once pattern_once;

static void pattern_initialise(void) {
    uint64_t state = 1;
    for (size_t i = 0; i < PATTERN_PERIOD; i++) {
        pattern[i] = (uint8_t)fixture_chance(&state);
        pattern[i + PATTERN_PERIOD] = pattern[i];
    }
}

static const uint8_t *pattern_at(uint64_t offset, unsigned seed) {
    tp_once_run(&pattern_once, pattern_initialise);
    return pattern + (offset + (uint64_t)seed * 977) % PATTERN_PERIOD;
}

void fixture_pattern_fill(uint8_t *bytes, size_t count, uint64_t offset, unsigned seed) {
    while (count > 0) {
        size_t part = count < PATTERN_PERIOD ? count : PATTERN_PERIOD;
        memcpy(bytes, pattern_at(offset, seed), part);
        bytes += part;
        offset += part;
        count -= part;
    }
}

bool fixture_pattern_check(
    const char *name, const uint8_t *bytes, size_t count, uint64_t offset, unsigned seed) {
    while (count > 0) {
        size_t part = count < PATTERN_PERIOD ? count : PATTERN_PERIOD;
        const uint8_t *wanted = pattern_at(offset, seed);
        if (memcmp(bytes, wanted, part) != 0) {
            size_t at = 0;
            while (bytes[at] == wanted[at]) {
                at++;
            }
            fixture_fault("%s: byte %" PRIu64 " is %02x and should be %02x", name, offset + at,
                (unsigned)bytes[at], (unsigned)wanted[at]);
            return false;
        }
        bytes += part;
        offset += part;
        count -= part;
    }
    return true;
}

uint32_t fixture_chance(uint64_t *state) {
    /* splitmix64: every state, also 0, begins a good sequence. */
    *state += 0x9e3779b97f4a7c15u;
    uint64_t z = *state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)((z ^ (z >> 31)) >> 32);
}
