/*
 * The server above a port that fails (faulty_port.h): each call of the port that can fail does so
 * once, and stops come at the worst moment of a start.
 *
 * No session may be lost, the error must be reported, the server must go on, and a stop must end.
 */
#include "core/engine/server_state.h"
#include "faulty_port.h"
#include "server_fixture.h"

static server_fixture fixture;
static uint8_t in[70000];

static void open_with(unsigned workers) {
    server_fixture_init(&fixture);
    fixture.options.workers = workers;
    faulty_port_reset();
    server_fixture_open(&fixture);
}

static void check_served(void) {
    raw_peer *peer = fixture_connect_peer(&fixture);
    unsigned type;
    CHECK(raw_send_frame(peer, TP_FRAME_DATA, "served", 6));
    CHECK_EQ(raw_receive_frame(peer, &type, in, sizeof in), 6);
    raw_close(peer, false);
}

/* Connects and waits for the end. The reset may come before the connection is established. */
static void connect_and_be_refused(void) {
    tp_address address = tp_server_address(fixture.server);
    raw_peer *peer = raw_connect(&address);
    if (peer) {
        CHECK_NE(raw_end(peer), TP_ERR_TIMED_OUT);
        raw_close(peer, true);
    }
}

static bool send_text(tp_session_id session, const char *text) {
    tp_packet *packet = tp_packet_copy_of(text, strlen(text));
    REQUIRE(packet != NULL);
    bool sent = tp_server_send(fixture.server, session, packet);
    tp_packet_release(packet);
    return sent;
}

/* ---- calls of the port that fail ------------------------------------------------------------- */

static void an_attach_that_fails_ends_one_connection(void) {
    open_with(2);
    atomic_store(&faulty.attaches, 1);
    connect_and_be_refused();
    FIXTURE_WAIT(atomic_load(&fixture.errors) == 1);
    FIXTURE_WAIT(atomic_load(&fixture.server->slots_used) == 0);
    CHECK_EQ(atomic_load(&fixture.last_error), TP_ERR_NO_BUFFERS);
    CHECK_EQ(atomic_load(&fixture.joins), 0);
    check_served();
    server_fixture_close(&fixture);
}

static void a_receive_that_fails_ends_the_session(void) {
    open_with(2);
    atomic_store(&faulty.receives, 1);
    connect_and_be_refused();
    FIXTURE_WAIT(atomic_load(&fixture.leaves) == 1);
    CHECK_EQ(atomic_load(&fixture.last_reason), TP_END_OS);
    check_served();
    server_fixture_close(&fixture);
}

static void a_send_that_fails_ends_the_session(void) {
    open_with(2);
    raw_peer *peer = fixture_connect_peer(&fixture);
    FIXTURE_WAIT(atomic_load(&fixture.joins) == 1);
    atomic_store(&faulty.sends, 1);
    CHECK(send_text(atomic_load(&fixture.last_joined), "lost"));
    CHECK_NE(raw_end(peer), TP_ERR_TIMED_OUT);
    raw_close(peer, false);
    FIXTURE_WAIT(atomic_load(&fixture.leaves) == 1);
    CHECK_EQ(atomic_load(&fixture.last_reason), TP_END_OS);
    tp_session_end end = {.size = sizeof end};
    CHECK_EQ(tp_server_read_ledger(fixture.server, &end, 1), 1);
    CHECK_EQ(end.pending_packets, 1);
    CHECK_EQ(end.pending_bytes, 8);
    check_served();
    server_fixture_close(&fixture);
}

/* The post of the flush fails, and so does the post of the release: the sweep finds the session. */
static void posts_that_fail_lose_no_session(void) {
    open_with(2);
    raw_peer *peer = fixture_connect_peer(&fixture);
    FIXTURE_WAIT(atomic_load(&fixture.joins) == 1);
    atomic_store(&faulty.posts, 1);
    CHECK(send_text(atomic_load(&fixture.last_joined), "lost"));
    CHECK_NE(raw_end(peer), TP_ERR_TIMED_OUT);
    raw_close(peer, false);
    FIXTURE_WAIT(atomic_load(&fixture.leaves) == 1);
    CHECK_EQ(atomic_load(&fixture.last_reason), TP_END_OS);
    CHECK_EQ(atomic_load(&faulty.posts), 0);
    check_served();
    FIXTURE_WAIT(atomic_load(&fixture.server->slots_used) == 0);

    /* A session without a socket is released by a post, and joins the orphans when that fails. */
    unsigned left = atomic_load(&fixture.leaves);
    atomic_store(&faulty.posts, 1);
    atomic_store(&faulty.attaches, 1);
    connect_and_be_refused();
    FIXTURE_WAIT(atomic_load(&faulty.posts) == 0);
    FIXTURE_WAIT(atomic_load(&fixture.server->slots_used) == 0);
    CHECK_EQ(atomic_load(&fixture.leaves), left);
    check_served();
    server_fixture_close(&fixture);
}

/* Sessions that join on another worker than the one that accepted them. */
static void a_join_that_cannot_be_posted_ends_the_connection(void) {
    open_with(2);
    atomic_store(&faulty.posts, 1);
    raw_peer *peers[8];
    tp_address address = tp_server_address(fixture.server);
    for (unsigned i = 0; i < 8; i++) {
        peers[i] = raw_connect(&address); /* NULL: reset before it was established */
    }
    /* With iocp no join is posted, because any worker serves any socket. */
    FIXTURE_WAIT(atomic_load(&fixture.joins) + (atomic_load(&faulty.posts) == 0) == 8);
    for (unsigned i = 0; i < 8; i++) {
        if (peers[i]) {
            raw_close(peers[i], false);
        }
    }
    FIXTURE_WAIT(atomic_load(&fixture.server->slots_used) == 0);
    atomic_store(&faulty.posts, 0);
    CHECK_EQ(atomic_load(&fixture.joins), atomic_load(&fixture.leaves));
    check_served();
    server_fixture_close(&fixture);
}

static void a_connect_that_fails_immediately_leaves_nothing(void) {
    open_with(2);
    tp_address address = tp_server_address(fixture.server);
    tp_session_id id = 7;
    atomic_store(&faulty.connects, 1);
    CHECK_EQ(tp_server_connect(fixture.server, &address, &id), TP_ERR_NO_DESCRIPTORS);
    CHECK_EQ(id, TP_NO_SESSION);
    FIXTURE_WAIT(atomic_load(&fixture.server->slots_used) == 0);
    CHECK_EQ(atomic_load(&fixture.leaves), 0);
    check_served();
    server_fixture_close(&fixture);
}

static void an_accept_that_cannot_be_started_is_a_failed_start(void) {
    server_fixture_init(&fixture);
    fixture.options.workers = 3;
    faulty_port_reset();
    atomic_store(&faulty.accepts, 1);
    REQUIRE(tp_server_create(&fixture.options, &fixture.handlers, &fixture.server) == TP_OK);
    CHECK_EQ(tp_server_start(fixture.server), TP_ERR_OS);
    CHECK_EQ(atomic_load(&fixture.errors), 1);
    CHECK_EQ(tp_server_wait(fixture.server, 0), TP_ERR_STATE);
    CHECK_EQ(tp_server_start(fixture.server), TP_OK);
    check_served();
    server_fixture_close(&fixture);
}

/* Each failed wait is reported, and the worker goes on. */
static void waits_that_fail_are_reported(void) {
    open_with(1);
    atomic_store(&faulty.waits, 3);
    FIXTURE_WAIT(atomic_load(&fixture.errors) == 3);
    CHECK_EQ(atomic_load(&fixture.last_error), TP_ERR_OS);
    check_served();
    server_fixture_close(&fixture);
}

/* ---- stops during a start -------------------------------------------------------------------- */

static void stop_now(void) {
    tp_server_stop(fixture.server);
}

/* Waits until the workers have run often enough to have done what the stop needs. */
static void stop_and_await_workers(void) {
    tp_server_stop(fixture.server);
    unsigned closes = atomic_load(&faulty.closes_seen);
    unsigned waits = atomic_load(&faulty.waits_seen);
    FIXTURE_WAIT(
        atomic_load(&faulty.waits_seen) - waits > 5 || atomic_load(&faulty.closes_seen) > closes);
}

static tp_thread waiter;

/* set where the start fails: the stop may be over before the wait begins */
static atomic_bool may_be_over;

static void wait_for_the_stop(void *argument) {
    (void)argument;
    tp_err error = tp_server_wait(fixture.server, -1);
    CHECK(error == TP_OK || (error == TP_ERR_STATE && atomic_load(&may_be_over)));
}

static void stop_and_wait_on_a_thread(void) {
    tp_server_stop(fixture.server);
    REQUIRE(tp_thread_start(&waiter, "waiter", wait_for_the_stop, NULL) == TP_OK);
}

/* The stop is not lost, at whatever step of the start it comes, and the start undoes nothing that
 * the stop is doing. */
static void a_stop_during_start_is_not_lost(void) {
    static void (*const stops[])(void) = {stop_now, stop_and_wait_on_a_thread};
    for (unsigned round = 0; round < 6; round++) {
        bool waits = round % 2 == 1;
        bool early = round / 2 % 2 == 0;
        server_fixture_init(&fixture);
        fixture.options.workers = 2;
        fixture.options.listen = round < 4;
        faulty_port_reset();
        faulty.on_create = early || !fixture.options.listen ? stops[waits] : NULL;
        faulty.on_accept = faulty.on_create ? NULL
                           : waits          ? stop_and_wait_on_a_thread
                                            : stop_and_await_workers;
        REQUIRE(tp_server_create(&fixture.options, &fixture.handlers, &fixture.server) == TP_OK);
        CHECK_EQ(tp_server_start(fixture.server), TP_OK);
        if (waits) {
            tp_thread_join(&waiter);
        } else {
            CHECK_EQ(tp_server_wait(fixture.server, -1), TP_OK);
        }
        CHECK_EQ(tp_server_wait(fixture.server, 0), TP_ERR_STATE);
        faulty.on_create = NULL;
        faulty.on_accept = NULL;
        CHECK_EQ(tp_server_start(fixture.server), TP_OK);
        if (fixture.options.listen) {
            check_served();
        }
        server_fixture_close(&fixture);
    }
}

static void a_stop_during_a_failing_start_ends(void) {
    atomic_store(&may_be_over, true);
    server_fixture_init(&fixture);
    faulty_port_reset();
    faulty.on_create = stop_and_wait_on_a_thread;
    fixture.options.io = "carrier pigeon";
    REQUIRE(tp_server_create(&fixture.options, &fixture.handlers, &fixture.server) == TP_OK);
    CHECK_EQ(tp_server_start(fixture.server), TP_ERR_UNSUPPORTED);
    tp_thread_join(&waiter);
    faulty.on_create = NULL;
    CHECK_EQ(tp_server_start(fixture.server), TP_ERR_UNSUPPORTED);
    tp_server_destroy(fixture.server);

    server_fixture_init(&fixture);
    faulty_port_reset();
    faulty.on_accept = stop_and_wait_on_a_thread;
    atomic_store(&faulty.accepts, 1);
    REQUIRE(tp_server_create(&fixture.options, &fixture.handlers, &fixture.server) == TP_OK);
    CHECK_EQ(tp_server_start(fixture.server), TP_ERR_OS);
    tp_thread_join(&waiter);
    faulty.on_accept = NULL;
    CHECK_EQ(tp_server_start(fixture.server), TP_OK);
    check_served();
    server_fixture_close(&fixture);
}

/* ---- time ------------------------------------------------------------------------------------ */

static void nothing(void *context) {
    (void)context;
}

/* A delayed task that becomes due while the server drains is dropped. The server does not wait for
 * it in a loop. */
static void a_task_due_during_a_stop_costs_no_processor(void) {
    server_fixture_init(&fixture);
    fixture.options.workers = 1;
    fixture.options.drain_timeout_ms = 600000;
    faulty_port_reset();
    server_fixture_open(&fixture);
    raw_peer *peer = fixture_connect_peer(&fixture);
    FIXTURE_WAIT(atomic_load(&fixture.joins) == 1);
    CHECK_EQ(tp_server_post(fixture.server, 30, nothing, NULL), TP_OK);
    uint64_t began = tp_clock_ms(); /* the time measured around it includes all that is counted */
    unsigned waits = atomic_load(&faulty.waits_seen);
    tp_server_stop(fixture.server);
    CHECK_EQ(tp_server_wait(fixture.server, 400), TP_ERR_TIMED_OUT); /* the peer does not close */
    waits = atomic_load(&faulty.waits_seen) - waits;
    uint64_t ticks = (tp_clock_ms() - began) / 5;
    CHECK_LE(waits, 20 + ticks);
    raw_close(peer, false);
    CHECK_EQ(tp_server_wait(fixture.server, -1), TP_OK);
    tp_server_destroy(fixture.server);
}

static atomic_ullong connected_at, left_at;

/* The session's age is at most the time since the connect was allowed. */
static void note_join(server_fixture *s, tp_session_id session) {
    tp_session_info info = {.size = sizeof info};
    CHECK(tp_server_session_info(s->server, session, &info));
    CHECK_LE(info.age_ms, tp_clock_ms() - atomic_load(&connected_at));
}

static void note_leave(server_fixture *s, tp_session_id session, tp_end_reason reason) {
    (void)s, (void)session, (void)reason;
    atomic_store(&left_at, tp_clock_ms());
}

/* The time until a connection is established does not count as the peer's silence. */
static void a_slow_connect_is_not_idle(void) {
    static server_fixture client;
    server_fixture_init(&fixture);
    fixture.options.idle_timeout_ms = 0;
    fixture.options.ping_interval_ms = 0;
    server_fixture_open(&fixture);
    server_fixture_init(&client);
    client.options.listen = false;
    client.options.idle_timeout_ms = 500;
    client.options.ping_interval_ms = 0;
    client.options.connect_timeout_ms = 600000;
    client.on_joined = note_join;
    client.on_left = note_leave;
    faulty_port_reset();
    atomic_store(&faulty.hold_connect, true);
    server_fixture_open(&client);
    tp_address address = tp_server_address(fixture.server);
    tp_session_id id;
    uint64_t began = tp_clock_ms();
    REQUIRE(tp_server_connect(client.server, &address, &id) == TP_OK);
    FIXTURE_WAIT(tp_clock_ms() - began > 700);
    atomic_store(&connected_at, tp_clock_ms());
    REQUIRE(faulty_port_connect_now() == TP_OK);
    FIXTURE_WAIT(atomic_load(&client.joins) == 1);
    FIXTURE_WAIT(atomic_load(&client.leaves) == 1);
    CHECK_EQ(atomic_load(&client.last_reason), TP_END_IDLE);
    CHECK_GE(atomic_load(&left_at) - atomic_load(&connected_at), 500);
    server_fixture_close(&client);
    server_fixture_close(&fixture);
}

CHECK_MAIN(CASE(an_attach_that_fails_ends_one_connection),
    CASE(a_receive_that_fails_ends_the_session), CASE(a_send_that_fails_ends_the_session),
    CASE(posts_that_fail_lose_no_session), CASE(a_join_that_cannot_be_posted_ends_the_connection),
    CASE(a_connect_that_fails_immediately_leaves_nothing),
    CASE(an_accept_that_cannot_be_started_is_a_failed_start), CASE(waits_that_fail_are_reported),
    CASE(a_stop_during_start_is_not_lost), CASE(a_stop_during_a_failing_start_ends),
    CASE(a_task_due_during_a_stop_costs_no_processor), CASE(a_slow_connect_is_not_idle))
