/*
 * Theme `worker_slots`: ports, workers, waiting and waking.
 *
 * Most cases use the worker slot on the main thread themselves, so that they can check the result
 * of each wait.
 */
#include "fixture.h"

#include "cases.h"
#include "os/clock.h"

static tp_port *open_port(unsigned workers) {
    tp_port *port = NULL;
    tp_port_options options = {.size = sizeof options,
        .backend = fixture_under_test.backend,
        .workers = workers,
        .post_receive_buffers = fixture_under_test.post_receive_buffers};
    REQUIRE(tp_port_create(&options, &port) == TP_OK);
    REQUIRE(port != NULL);
    return port;
}

static void backends_have_names(void) {
    const char *const *names = tp_port_backends();
    REQUIRE(names != NULL && names[0] != NULL);
    tp_port *port = open_port(1);
    CHECK_STR(tp_port_backend(port), fixture_under_test.backend);
    tp_port_destroy(port);
    const char *const unnamed[] = {NULL, "auto"};
    for (size_t i = 0; i < TP_COUNT_OF(unnamed); i++) {
        tp_port_options options = {.size = sizeof options, .backend = unnamed[i], .workers = 1};
        REQUIRE(tp_port_create(&options, &port) == TP_OK);
        bool known = false;
        for (const char *const *name = names; *name != NULL; name++) {
            known = known || strcmp(*name, tp_port_backend(port)) == 0;
        }
        CHECK(known);
        tp_port_destroy(port);
    }
}

static void bad_options_are_refused(void) {
    const struct {
        size_t size;
        const char *backend;
        unsigned workers;
        size_t receive_buffer;
        tp_err error;
    } wrong[] = {
        {0, "auto", 1, 0, TP_ERR_INVALID},
        {sizeof(tp_port_options), "auto", 0, 0, TP_ERR_INVALID},
        {sizeof(tp_port_options), "auto", TP_PORT_MAX_WORKERS + 1, 0, TP_ERR_INVALID},
        {sizeof(tp_port_options), "auto", 1, 4095, TP_ERR_INVALID},
        {sizeof(tp_port_options), "auto", 1, 1048577, TP_ERR_INVALID},
        {sizeof(tp_port_options), "carrier-pigeon", 1, 0, TP_ERR_UNSUPPORTED},
    };
    for (size_t i = 0; i < TP_COUNT_OF(wrong); i++) {
        tp_port_options options = {.size = wrong[i].size,
            .backend = wrong[i].backend,
            .workers = wrong[i].workers,
            .receive_buffer = wrong[i].receive_buffer};
        tp_port *port = (tp_port *)(void *)&options; /* anything but NULL */
        CHECK_EQ(tp_port_create(&options, &port), wrong[i].error);
        CHECK(port == NULL);
    }
}

static void worker_slots_are_numbered(void) {
    int contexts[TP_PORT_MAX_WORKERS];
    tp_port *port = open_port(TP_PORT_MAX_WORKERS);
    for (unsigned i = 0; i < TP_PORT_MAX_WORKERS; i++) {
        tp_worker *worker = tp_port_worker(port, i);
        CHECK_EQ(fixture_index_of(worker), i);
        CHECK(fixture_port_of(worker) == port);
        CHECK(tp_worker_context(worker) == NULL);
        tp_worker_set_context(worker, &contexts[i]);
    }
    for (unsigned i = 0; i < TP_PORT_MAX_WORKERS; i++) {
        CHECK(tp_worker_context(tp_port_worker(port, i)) == &contexts[i]);
    }
    tp_port_destroy(port);
}

static void count_done(tp_op *op, const tp_completion *completion) {
    unsigned *count = tp_worker_context(completion->worker);
    (void)op;
    ++*count;
}

static void a_wait_distinguishes_time_out_from_success(void) {
    tp_port *port = open_port(1);
    tp_worker *worker = tp_port_worker(port, 0);
    unsigned count = 0;
    tp_op op = {.done = count_done};
    tp_worker_set_context(worker, &count);

    CHECK_EQ(tp_port_wait(worker, 0), TP_ERR_TIMED_OUT);
    uint64_t before = tp_clock_ns();
    CHECK_EQ(tp_port_wait(worker, 60), TP_ERR_TIMED_OUT);
    uint64_t waited_ms = (tp_clock_ns() - before) / 1000000;
    CHECK_GE(waited_ms, 45); /* clocks that tick 64 times a second may end a wait early */
    for (unsigned i = 0; i < 100; i++) {
        CHECK_EQ(tp_port_post(port, NULL, &op), TP_OK);
        CHECK_EQ(count, i);
        CHECK_EQ(tp_port_wait(worker, i % 2 == 0 ? -1 : 1000), TP_OK);
        CHECK_EQ(count, i); /* a wait runs no `done` */
        CHECK_EQ(tp_port_dispatch(worker), 1);
        CHECK_EQ(count, i + 1);
        CHECK_EQ(tp_port_wait(worker, 0), TP_ERR_TIMED_OUT);
    }
    tp_port_destroy(port);
}

/* The wait of a port whose queue was closed has to fail. Only where the queue is a descriptor that
 * tp_handle_close() can close, and whose number is known: the system hands out the lowest free
 * one. */
static void a_wait_distinguishes_failure_from_time_out(void) {
    if (!fixture_backend_is("epoll")) {
        SKIP("the queue of this back end cannot be closed from outside");
    }
    fixture s;
    fixture_listener listener;
    fixture_link client;
    fixture_open_workers(&s, 1);
    fixture_listener_open(&listener, &s);
    fixture_link_init(&client, &s, "client");
    REQUIRE(fixture_connect(&client, &listener.address) == TP_OK);
    tp_handle lowest = fixture_listener_take(&listener, NULL);
    tp_handle_close(lowest, false);

    tp_port *port = open_port(1);
    tp_worker *worker = tp_port_worker(port, 0);
    CHECK_EQ(tp_port_wait(worker, 0), TP_ERR_TIMED_OUT);
    tp_handle_close(lowest, false);
    tp_err error = tp_port_wait(worker, 0);
    CHECK_NE(error, TP_OK);
    CHECK_NE(error, TP_ERR_TIMED_OUT);
    CHECK_NE(tp_os_error(), 0);
    tp_port_destroy(port);

    fixture_shut_and_wait(&client, false);
    fixture_listener_close(&listener);
    fixture_close(&s);
}

static void a_wake_before_the_wait_is_not_lost(void) {
    tp_port *port = open_port(1);
    tp_worker *worker = tp_port_worker(port, 0);
    for (int i = 0; i < 100; i++) {
        tp_port_wake(port);
        CHECK_EQ(tp_port_wait(worker, 5000), TP_OK);
        CHECK_EQ(tp_port_dispatch(worker), 0);
        CHECK_EQ(tp_port_wait(worker, 0), TP_ERR_TIMED_OUT); /* one wake, one return */
    }
    tp_port_destroy(port);
}

/* ---- several workers, woken ------------------------------------------------------------------ */

typedef struct sleeper {
    tp_thread thread;
    tp_worker *worker;
    atomic_uint entered; /* waits begun */
    atomic_uint woken;   /* waits ended */
    atomic_bool *leave;
} sleeper;

static void sleeper_main(void *argument) {
    sleeper *me = argument;
    while (!atomic_load(me->leave)) {
        atomic_fetch_add(&me->entered, 1);
        tp_err error = tp_port_wait(me->worker, -1);
        if (error != TP_OK) {
            fixture_fault("a wake ended the wait with %s", fixture_error_name((int)error));
        }
        atomic_fetch_add(&me->woken, 1);
        (void)tp_port_dispatch(me->worker);
        fixture_changed();
    }
}

static void sleepers_start(tp_port *port, sleeper *sleepers, unsigned count, atomic_bool *leave) {
    for (unsigned i = 0; i < count; i++) {
        atomic_init(&sleepers[i].entered, 0);
        atomic_init(&sleepers[i].woken, 0);
        sleepers[i].worker = tp_port_worker(port, i);
        sleepers[i].leave = leave;
        REQUIRE(
            tp_thread_start(&sleepers[i].thread, "sleeper", sleeper_main, &sleepers[i]) == TP_OK);
    }
}

static void a_wake_reaches_every_worker(void) {
    sleeper sleepers[FIXTURE_MAX_WORKERS];
    atomic_bool leave;
    atomic_init(&leave, false);
    unsigned count = fixture_under_test.workers;
    tp_port *port = open_port(count);
    sleepers_start(port, sleepers, count, &leave);
    for (unsigned round = 1; round <= 200; round++) {
        for (unsigned i = 0; i < count; i++) {
            FIXTURE_UNTIL(atomic_load(&sleepers[i].entered) > atomic_load(&sleepers[i].woken));
        }
        unsigned before[FIXTURE_MAX_WORKERS];
        for (unsigned i = 0; i < count; i++) {
            before[i] = atomic_load(&sleepers[i].woken);
        }
        tp_port_wake(port);
        for (unsigned i = 0; i < count; i++) {
            FIXTURE_UNTIL(atomic_load(&sleepers[i].woken) > before[i]);
        }
    }
    atomic_store(&leave, true);
    tp_port_wake(port);
    for (unsigned i = 0; i < count; i++) {
        tp_thread_join(&sleepers[i].thread);
    }
    tp_port_destroy(port);
}

/* As each server stops: a flag is set, one wake follows, and every worker's thread ends. */
static void a_flag_and_one_wake_stop_every_worker(void) {
    uint64_t chance = 7;
    for (unsigned round = 0; round < 100; round++) {
        sleeper sleepers[FIXTURE_MAX_WORKERS];
        atomic_bool leave;
        atomic_init(&leave, false);
        unsigned count = fixture_under_test.workers;
        tp_port *port = open_port(count);
        sleepers_start(port, sleepers, count, &leave);
        for (uint32_t pause = fixture_chance(&chance) % 200; pause > 0; pause--) {
            tp_thread_yield();
        }
        atomic_store(&leave, true);
        tp_port_wake(port);
        for (unsigned i = 0; i < count; i++) {
            tp_thread_join(&sleepers[i].thread); /* a lost wake shows by ctest's time-out */
        }
        tp_port_destroy(port);
    }
}

/* ---- several ports --------------------------------------------------------------------------- */

static void echo_back(fixture_link *link, const tp_completion *completion) {
    uint8_t *byte = link->context;
    *byte = completion->bytes[0];
    static tp_buffer buffer;
    CHECK_EQ(fixture_send_bytes(completion->worker, link, &buffer, byte, 1), TP_OK);
}

static void send_one_byte(tp_worker *worker, fixture_link *link, void *argument) {
    static tp_buffer buffer;
    CHECK_EQ(fixture_send_bytes(worker, link, &buffer, argument, 1), TP_OK);
}

static void two_ports_live_in_one_process(void) {
    fixture a;
    fixture b;
    fixture_listener listener;
    fixture_link client;
    fixture_link server;
    static uint8_t byte;
    fixture_open(&a);
    fixture_open(&b);
    fixture_listener_open(&listener, &a);
    fixture_link_init(&client, &b, "client on the second port");
    fixture_link_init(&server, &a, "server on the first port");
    server.context = &byte;
    server.on_bytes = echo_back;
    fixture_pair(&listener, &client, &server);
    for (unsigned i = 0; i < a.workers; i++) {
        CHECK(!tp_port_serves(tp_port_worker(a.port, i), &client.socket));
    }
    fixture_run(&client, fixture_act_receive, NULL);
    fixture_run(&server, fixture_act_receive, NULL);
    uint8_t sent = 42;
    fixture_run(&client, send_one_byte, &sent);
    FIXTURE_UNTIL(atomic_load(&client.received) == 1);

    /* The second port is destroyed, the first one continues to work. */
    fixture_shut_and_wait(&client, false);
    fixture_close(&b);
    FIXTURE_UNTIL(atomic_load(&server.receive_result) == TP_ERR_CLOSED);
    fixture_shut_and_wait(&server, false);
    fixture_link_init(&client, &a, "client on the first port");
    fixture_link_init(&server, &a, "server on the first port");
    fixture_pair(&listener, &client, &server);
    fixture_unpair(&client, &server);
    fixture_listener_close(&listener);
    fixture_close(&a);
}

/* A thread that has not seen the close yet may still call tp_port_serves(). */
static void a_closed_socket_keeps_its_worker(void) {
    fixture s;
    fixture_listener listener;
    fixture_link client;
    fixture_link server;
    bool before[FIXTURE_MAX_WORKERS];
    fixture_open(&s);
    fixture_listener_open(&listener, &s);
    fixture_link_init(&client, &s, "client");
    fixture_link_init(&server, &s, "server");
    fixture_pair(&listener, &client, &server);
    for (unsigned i = 0; i < s.workers; i++) {
        before[i] = tp_port_serves(tp_port_worker(s.port, i), &client.socket);
    }
    fixture_unpair(&client, &server);
    for (unsigned i = 0; i < s.workers; i++) {
        CHECK_EQ(tp_port_serves(tp_port_worker(s.port, i), &client.socket), before[i]);
    }
    fixture_listener_close(&listener);
    fixture_close(&s);
}

static void ports_leave_no_descriptors(void) {
    tp_port_destroy(open_port(4)); /* afterwards everything that the process opens once is open */
    long before = tp_process_open_descriptors();
    if (before < 0) {
        SKIP("the system does not provide the number of open descriptors");
    }
    for (int i = 0; i < 200; i++) {
        tp_port_destroy(open_port(4));
    }
    CHECK_LE(tp_process_open_descriptors(), before);
}

PORT_THEME(worker_slots, PORT_CASE(backends_have_names, ONCE),
    PORT_CASE(bad_options_are_refused, ONCE), PORT_CASE(worker_slots_are_numbered, ONCE),
    PORT_CASE(a_wait_distinguishes_time_out_from_success, ONCE),
    PORT_CASE(a_wait_distinguishes_failure_from_time_out, ONCE),
    PORT_CASE(a_wake_before_the_wait_is_not_lost, ONCE),
    PORT_CASE(a_wake_reaches_every_worker, EACH_WORKERS),
    PORT_CASE(a_flag_and_one_wake_stop_every_worker, EACH_WORKERS),
    PORT_CASE(two_ports_live_in_one_process, EACH_WORKERS),
    PORT_CASE(a_closed_socket_keeps_its_worker, EACH_WORKERS),
    PORT_CASE(ports_leave_no_descriptors, ONCE))
