/*
 * Stops from everywhere: inside each handler, inside a task, by several threads at the same time,
 * and within a given time. A stop must not hang, each session must leave once, and the server must
 * be able to start again.
 */
#include "server_fixture.h"

#include "core/memory/memory.h"

typedef enum stop_point {
    IN_REQUEST,
    IN_JOIN,
    IN_RECV,
    IN_SEND,
    IN_LEAVE,
    IN_BEGIN,
    IN_END,
    IN_ERROR,
    IN_TASK,
    STOP_POINTS
} stop_point;

static const char *const stop_point_names[STOP_POINTS] = {"on_connection_request", "on_join",
    "on_recv", "on_send", "on_leave", "on_worker_begin", "on_worker_end", "on_error", "a task"};

static server_fixture fixture;
static stop_point where;
static atomic_bool armed; /* set: the next call of `where` stops the server */
static atomic_int wait_result;

/* Stops the server, and checks that a wait is refused there instead of waiting for itself. */
static void stop_if_armed(tp_server *server, stop_point at) {
    if (at == where && atomic_exchange(&armed, false)) {
        tp_server_stop(server);
        atomic_store(&wait_result, tp_server_wait(server, -1));
    }
}

static bool on_request(tp_server *server, const tp_address *peer) {
    bool welcome = fixture_on_request(server, peer);
    stop_if_armed(server, IN_REQUEST);
    return welcome;
}

static void on_join(tp_server *server, tp_session_id session) {
    fixture_on_join(server, session);
    stop_if_armed(server, IN_JOIN);
}

static void on_recv(tp_server *server, tp_session_id session, tp_packet *packet) {
    fixture_on_recv(server, session, packet);
    stop_if_armed(server, IN_RECV);
}

static void on_send(tp_server *server, tp_session_id session, size_t packets, size_t bytes) {
    fixture_on_send(server, session, packets, bytes);
    stop_if_armed(server, IN_SEND);
}

static void on_leave(tp_server *server, tp_session_id session, tp_end_reason reason) {
    fixture_on_leave(server, session, reason);
    stop_if_armed(server, IN_LEAVE);
}

static void on_worker_begin(tp_server *server, unsigned worker) {
    fixture_on_begin(server, worker);
    stop_if_armed(server, IN_BEGIN);
}

static void on_worker_end(tp_server *server, unsigned worker) {
    fixture_on_end(server, worker);
    stop_if_armed(server, IN_END);
}

static void on_error(tp_server *server, tp_err error, int os_error, const char *text) {
    fixture_on_error(server, error, os_error, text);
    stop_if_armed(server, IN_ERROR);
}

static void stopping_task(void *context) {
    stop_if_armed(context, IN_TASK);
}

static void open_fixture(unsigned workers) {
    server_fixture_init(&fixture);
    fixture.options.workers = workers;
    fixture.options.drain_timeout_ms = 100; /* the peers here do not answer CLOSE */
    fixture.handlers = (tp_handlers){.size = sizeof fixture.handlers,
        .on_connection_request = on_request,
        .on_join = on_join,
        .on_leave = on_leave,
        .on_recv = on_recv,
        .on_send = on_send,
        .on_worker_begin = on_worker_begin,
        .on_worker_end = on_worker_end,
        .on_error = on_error};
    server_fixture_open(&fixture);
}

/* A message for which there is no memory: on_error is called, and the session ends. */
static void provoke_error(raw_peer *peer) {
    static const uint8_t large[200000];
    tp__memory_fail_from(1);
    (void)raw_send_frame(peer, TP_FRAME_DATA, large, sizeof large);
    FIXTURE_WAIT(atomic_load(&wait_result) != TP_OK);
    tp__memory_fail_from(-1);
}

/* One peer stays, and another one connects, sends and leaves, so that every handler is called. */
static void call_every_handler(raw_peer *staying, tp_address address) {
    if (where == IN_ERROR) {
        provoke_error(staying);
        return;
    }
    (void)raw_send_frame(staying, TP_FRAME_DATA, "hello", 5);
    if (where == IN_TASK) {
        CHECK_EQ(tp_server_post(fixture.server, 0, stopping_task, fixture.server), TP_OK);
    }
    raw_peer *passing = raw_connect(&address); /* may fail after the stop */
    if (passing != NULL) {
        (void)raw_send_frame(passing, TP_FRAME_DATA, "hello", 5);
        raw_close(passing, true);
    }
}

static void check_stop_in(stop_point at, unsigned workers) {
    where = at;
    atomic_store(&wait_result, TP_OK);
    open_fixture(workers);
    tp_address address = tp_server_address(fixture.server);
    raw_peer *staying = fixture_connect_peer(&fixture);
    FIXTURE_WAIT(atomic_load(&fixture.joins) == 1);
    atomic_store(&armed, true);
    call_every_handler(staying, address);

    FIXTURE_WAIT(atomic_load(&wait_result) != TP_OK); /* by then the stop has been requested */
    CHECK_EQ(tp_server_wait(fixture.server, -1), TP_OK);
    CHECK_EQ(atomic_load(&wait_result), TP_ERR_WRONG_THREAD);
    CHECK_EQ(atomic_load(&fixture.joins), atomic_load(&fixture.leaves));
    CHECK_EQ(tp_server_session_count(fixture.server), 0);
    raw_close(staying, true);

    REQUIRE(tp_server_start(fixture.server) == TP_OK); /* and everything works again */
    raw_peer *later = fixture_connect_peer(&fixture);
    uint8_t payload[8];
    unsigned type;
    CHECK(raw_send_frame(later, TP_FRAME_DATA, "again", 5));
    CHECK_EQ(raw_receive_frame(later, &type, payload, sizeof payload), 5);
    raw_close(later, false);
    server_fixture_close(&fixture);
}

static void a_stop_inside_each_handler_ends(void) {
    for (stop_point at = 0; at < STOP_POINTS; at++) {
        unsigned failures = atomic_load(&check_failures);
        check_stop_in(at, 1);
        check_stop_in(at, 4);
        if (atomic_load(&check_failures) != failures) {
            printf("    inside %s\n", stop_point_names[at]);
        }
    }
}

/* ---- several threads at the same time -------------------------------------------------------- */

#define THREADS 8

static atomic_bool go;

static void stop_when_started(void *unused) {
    (void)unused;
    while (!atomic_load(&go)) {
        tp_thread_yield();
    }
    tp_server_stop(fixture.server);
}

static void several_threads_may_stop_at_the_same_time(void) {
    where = STOP_POINTS;
    for (unsigned round = 0; round < 20; round++) {
        tp_thread threads[THREADS];
        open_fixture(4);
        raw_peer *peer = fixture_connect_peer(&fixture);
        FIXTURE_WAIT(atomic_load(&fixture.joins) == 1);
        atomic_store(&go, false);
        for (unsigned i = 0; i < THREADS; i++) {
            REQUIRE(tp_thread_start(&threads[i], "stops", stop_when_started, NULL) == TP_OK);
        }
        atomic_store(&go, true);
        (void)raw_send_frame(peer, TP_FRAME_DATA, "hello", 5);
        for (unsigned i = 0; i < THREADS; i++) {
            tp_thread_join(&threads[i]);
        }
        CHECK_EQ(tp_server_wait(fixture.server, -1), TP_OK);
        CHECK_EQ(atomic_load(&fixture.leaves), 1);
        CHECK_EQ(atomic_load(&fixture.last_reason), TP_END_SHUTDOWN);
        tp_server_stop(fixture.server); /* a late one changes nothing */
        tp_server_destroy(fixture.server);
        raw_close(peer, true);
    }
}

/* ---- within a time --------------------------------------------------------------------------- */

static void open_with_long_drain(raw_peer **peer) {
    where = STOP_POINTS;
    server_fixture_init(&fixture);
    fixture.options.workers = 2;
    fixture.options.drain_timeout_ms = 600000; /* longer than the test's time-out */
    server_fixture_open(&fixture);
    *peer = fixture_connect_peer(&fixture);
    FIXTURE_WAIT(atomic_load(&fixture.joins) == 1);
}

/* The peer does not close, so that each of these stops would take ten minutes. */
static void a_stop_within_a_time_ends_in_time(void) {
    raw_peer *peer;
    open_with_long_drain(&peer);
    tp_server_stop_within(fixture.server, 50);
    CHECK_EQ(tp_server_wait(fixture.server, -1), TP_OK);
    CHECK_EQ(atomic_load(&fixture.leaves), 1);
    raw_close(peer, true);

    /* The time of the last stop has no effect on the next run. */
    REQUIRE(tp_server_start(fixture.server) == TP_OK);
    peer = fixture_connect_peer(&fixture);
    FIXTURE_WAIT(atomic_load(&fixture.joins) == 2);
    tp_server_stop(fixture.server);
    CHECK_EQ(tp_server_wait(fixture.server, 300), TP_ERR_TIMED_OUT);
    tp_server_stop_within(fixture.server, 600000); /* never later than the first one */
    tp_server_stop_within(fixture.server, 0);
    CHECK_EQ(tp_server_wait(fixture.server, -1), TP_OK);
    CHECK_EQ(atomic_load(&fixture.leaves), 2);
    raw_close(peer, true);
    tp_server_destroy(fixture.server);
}

/* The server does not end the stream of such a session, and neither does its peer. */
static void a_stop_within_a_time_cuts_refused_peers(void) {
    raw_peer *peer;
    unsigned type;
    uint8_t in[16];
    open_with_long_drain(&peer);
    tp_session_id id = atomic_load(&fixture.last_joined);
    CHECK(tp_server_turn_away(fixture.server, id, TP_CLOSE_KICKED));
    CHECK_EQ(raw_receive_frame(peer, &type, in, sizeof in), 2);
    CHECK_EQ(type, TP_FRAME_CLOSE);
    CHECK_EQ(atomic_load(&fixture.leaves), 0);
    tp_server_stop_within(fixture.server, 50);
    CHECK_EQ(tp_server_wait(fixture.server, -1), TP_OK);
    CHECK_EQ(atomic_load(&fixture.leaves), 1);
    CHECK_EQ(atomic_load(&fixture.last_reason), TP_END_KICKED);
    CHECK_NE(raw_end(peer), TP_ERR_TIMED_OUT);
    raw_close(peer, true);
    tp_server_destroy(fixture.server);
}

/* ---- during queries -------------------------------------------------------------------------- */

/* Any thread may query the address: it gets the whole address, or none if the server does not
 * listen. */
static void query_address(void *unused) {
    (void)unused;
    while (!atomic_load(&go)) {
        tp_address address = tp_server_address(fixture.server);
        CHECK_EQ(address.port != 0, address.ip[15] == 1); /* 127.0.0.1 */
        CHECK(strlen(tp_server_io(fixture.server)) < 8);
    }
}

static void the_address_can_be_queried_during_starts_and_stops(void) {
    tp_thread thread;
    where = STOP_POINTS;
    open_fixture(1);
    atomic_store(&go, false);
    REQUIRE(tp_thread_start(&thread, "asks", query_address, NULL) == TP_OK);
    for (unsigned round = 0; round < 50; round++) {
        tp_server_stop(fixture.server);
        CHECK_EQ(tp_server_wait(fixture.server, -1), TP_OK);
        REQUIRE(tp_server_start(fixture.server) == TP_OK);
    }
    atomic_store(&go, true);
    tp_thread_join(&thread);
    server_fixture_close(&fixture);
}

CHECK_MAIN(CASE(a_stop_inside_each_handler_ends), CASE(several_threads_may_stop_at_the_same_time),
    CASE(a_stop_within_a_time_ends_in_time), CASE(a_stop_within_a_time_cuts_refused_peers),
    CASE(the_address_can_be_queried_during_starts_and_stops))
