/*
 * The server above a port that refuses: every call of the port that may fail does so once, and
 * things happen at the worst moment. What must hold: nobody is forgotten, an error is told, the
 * server goes on, and a stop ends.
 */
#include "core/engine/server_state.h"
#include "faulty_port.h"
#include "server_stage.h"

static server_stage stage;
static uint8_t in[70000];

static void open_with(unsigned workers) {
    server_stage_init(&stage);
    stage.options.workers = workers;
    faulty_port_reset();
    server_stage_open(&stage);
}

static void check_served(void) {
    raw_peer *peer = stage_connect_peer(&stage);
    unsigned type;
    CHECK(raw_send_frame(peer, TP_FRAME_DATA, "served", 6));
    CHECK_EQ(raw_receive_frame(peer, &type, in, sizeof in), 6);
    raw_close(peer, false);
}

/* The reset may come before the connection has been seen to stand. */
static void be_turned_away(void) {
    tp_address address = tp_server_address(stage.server);
    raw_peer *peer = raw_connect(&address);
    if (peer) {
        CHECK_NE(raw_end(peer), TP_ERR_TIMED_OUT);
        raw_close(peer, true);
    }
}

static bool send_text(tp_session_id session, const char *text) {
    tp_packet *packet = tp_packet_copy_of(text, strlen(text));
    REQUIRE(packet != NULL);
    bool sent = tp_server_send(stage.server, session, packet);
    tp_packet_release(packet);
    return sent;
}

/* ---- calls of the port that fail ------------------------------------------------------------- */

static void an_attach_that_fails_ends_one_connection(void) {
    open_with(2);
    atomic_store(&faulty.attaches, 1);
    be_turned_away();
    STAGE_WAIT(atomic_load(&stage.errors) == 1);
    STAGE_WAIT(atomic_load(&stage.server->slots_used) == 0);
    CHECK_EQ(atomic_load(&stage.last_error), TP_ERR_NO_BUFFERS);
    CHECK_EQ(atomic_load(&stage.joins), 0);
    check_served();
    server_stage_close(&stage);
}

static void a_receive_that_fails_ends_the_session(void) {
    open_with(2);
    atomic_store(&faulty.receives, 1);
    be_turned_away();
    STAGE_WAIT(atomic_load(&stage.leaves) == 1);
    CHECK_EQ(atomic_load(&stage.last_reason), TP_END_OS);
    check_served();
    server_stage_close(&stage);
}

static void a_send_that_fails_ends_the_session(void) {
    open_with(2);
    raw_peer *peer = stage_connect_peer(&stage);
    STAGE_WAIT(atomic_load(&stage.joins) == 1);
    atomic_store(&faulty.sends, 1);
    CHECK(send_text(atomic_load(&stage.last_joined), "lost"));
    CHECK_NE(raw_end(peer), TP_ERR_TIMED_OUT);
    raw_close(peer, false);
    STAGE_WAIT(atomic_load(&stage.leaves) == 1);
    CHECK_EQ(atomic_load(&stage.last_reason), TP_END_OS);
    tp_session_end end = {.size = sizeof end};
    CHECK_EQ(tp_server_read_ledger(stage.server, &end, 1), 1);
    CHECK_EQ(end.pending_packets, 1);
    CHECK_EQ(end.pending_bytes, 8);
    check_served();
    server_stage_close(&stage);
}

/* The flush cannot be handed over, and then the release cannot either: the sweep finds it. */
static void posts_that_fail_lose_no_session(void) {
    open_with(2);
    raw_peer *peer = stage_connect_peer(&stage);
    STAGE_WAIT(atomic_load(&stage.joins) == 1);
    atomic_store(&faulty.posts, 1);
    CHECK(send_text(atomic_load(&stage.last_joined), "lost"));
    CHECK_NE(raw_end(peer), TP_ERR_TIMED_OUT);
    raw_close(peer, false);
    STAGE_WAIT(atomic_load(&stage.leaves) == 1);
    CHECK_EQ(atomic_load(&stage.last_reason), TP_END_OS);
    CHECK_EQ(atomic_load(&faulty.posts), 0);
    check_served();
    STAGE_WAIT(atomic_load(&stage.server->slots_used) == 0);

    /* An abandoned session has no socket: its release is a post, and goes to the orphans. */
    unsigned left = atomic_load(&stage.leaves);
    atomic_store(&faulty.posts, 1);
    atomic_store(&faulty.attaches, 1);
    be_turned_away();
    STAGE_WAIT(atomic_load(&faulty.posts) == 0);
    STAGE_WAIT(atomic_load(&stage.server->slots_used) == 0);
    CHECK_EQ(atomic_load(&stage.leaves), left);
    check_served();
    server_stage_close(&stage);
}

/* Sessions that are to join on another worker than the one that accepted them. */
static void a_join_that_cannot_be_posted_ends_the_connection(void) {
    open_with(2);
    atomic_store(&faulty.posts, 1);
    raw_peer *peers[8];
    tp_address address = tp_server_address(stage.server);
    for (unsigned i = 0; i < 8; i++) {
        peers[i] = raw_connect(&address); /* NULL: likewise */
    }
    /* iocp posts no join: any worker serves any socket. */
    STAGE_WAIT(atomic_load(&stage.joins) + (atomic_load(&faulty.posts) == 0) == 8);
    for (unsigned i = 0; i < 8; i++) {
        if (peers[i]) {
            raw_close(peers[i], false);
        }
    }
    STAGE_WAIT(atomic_load(&stage.server->slots_used) == 0);
    atomic_store(&faulty.posts, 0);
    CHECK_EQ(atomic_load(&stage.joins), atomic_load(&stage.leaves));
    check_served();
    server_stage_close(&stage);
}

static void a_connect_that_fails_at_once_leaves_nothing(void) {
    open_with(2);
    tp_address address = tp_server_address(stage.server);
    tp_session_id id = 7;
    atomic_store(&faulty.connects, 1);
    CHECK_EQ(tp_server_connect(stage.server, &address, &id), TP_ERR_NO_DESCRIPTORS);
    CHECK_EQ(id, TP_NO_SESSION);
    STAGE_WAIT(atomic_load(&stage.server->slots_used) == 0);
    CHECK_EQ(atomic_load(&stage.leaves), 0);
    check_served();
    server_stage_close(&stage);
}

static void an_accept_that_cannot_be_started_is_a_failed_start(void) {
    server_stage_init(&stage);
    stage.options.workers = 3;
    faulty_port_reset();
    atomic_store(&faulty.accepts, 1);
    REQUIRE(tp_server_create(&stage.options, &stage.handlers, &stage.server) == TP_OK);
    CHECK_EQ(tp_server_start(stage.server), TP_ERR_OS);
    CHECK_EQ(atomic_load(&stage.errors), 1);
    CHECK_EQ(tp_server_wait(stage.server, 0), TP_ERR_STATE);
    CHECK_EQ(tp_server_start(stage.server), TP_OK);
    check_served();
    server_stage_close(&stage);
}

/* Every failed wait is told, and the worker goes on. */
static void waits_that_fail_are_told(void) {
    open_with(1);
    atomic_store(&faulty.waits, 3);
    STAGE_WAIT(atomic_load(&stage.errors) == 3);
    CHECK_EQ(atomic_load(&stage.last_error), TP_ERR_OS);
    check_served();
    server_stage_close(&stage);
}

/* ---- a stop while it starts ------------------------------------------------------------------ */

static void stop_now(void) {
    tp_server_stop(stage.server);
}

/* Lets the workers come round often enough that a stop which could go on would have done so. */
static void stop_and_let_them_look(void) {
    tp_server_stop(stage.server);
    unsigned closes = atomic_load(&faulty.closes_seen);
    unsigned waits = atomic_load(&faulty.waits_seen);
    STAGE_WAIT(
        atomic_load(&faulty.waits_seen) - waits > 5 || atomic_load(&faulty.closes_seen) > closes);
}

static tp_thread waiter;

/* Where the start fails, there may be nothing to wait for any more. */
static atomic_bool may_be_over;

static void wait_for_the_stop(void *argument) {
    (void)argument;
    tp_err error = tp_server_wait(stage.server, -1);
    CHECK(error == TP_OK || (error == TP_ERR_STATE && atomic_load(&may_be_over)));
}

static void stop_and_have_somebody_wait(void) {
    tp_server_stop(stage.server);
    REQUIRE(tp_thread_start(&waiter, "waiter", wait_for_the_stop, NULL) == TP_OK);
}

/* The stop is not lost, whenever it comes; the start undoes nothing that the stop is doing. */
static void a_stop_during_start_is_not_lost(void) {
    static void (*const stops[])(void) = {stop_now, stop_and_have_somebody_wait};
    for (unsigned round = 0; round < 6; round++) {
        bool waits = round % 2 == 1;
        bool early = round / 2 % 2 == 0;
        server_stage_init(&stage);
        stage.options.workers = 2;
        stage.options.listen = round < 4;
        faulty_port_reset();
        faulty.on_create = early || !stage.options.listen ? stops[waits] : NULL;
        faulty.on_accept = faulty.on_create ? NULL
                           : waits          ? stop_and_have_somebody_wait
                                            : stop_and_let_them_look;
        REQUIRE(tp_server_create(&stage.options, &stage.handlers, &stage.server) == TP_OK);
        CHECK_EQ(tp_server_start(stage.server), TP_OK);
        if (waits) {
            tp_thread_join(&waiter);
        } else {
            CHECK_EQ(tp_server_wait(stage.server, -1), TP_OK);
        }
        CHECK_EQ(tp_server_wait(stage.server, 0), TP_ERR_STATE);
        faulty.on_create = NULL;
        faulty.on_accept = NULL;
        CHECK_EQ(tp_server_start(stage.server), TP_OK);
        if (stage.options.listen) {
            check_served();
        }
        server_stage_close(&stage);
    }
}

static void a_stop_during_a_start_that_fails(void) {
    atomic_store(&may_be_over, true);
    server_stage_init(&stage);
    faulty_port_reset();
    faulty.on_create = stop_and_have_somebody_wait;
    stage.options.io = "carrier pigeon";
    REQUIRE(tp_server_create(&stage.options, &stage.handlers, &stage.server) == TP_OK);
    CHECK_EQ(tp_server_start(stage.server), TP_ERR_UNSUPPORTED);
    tp_thread_join(&waiter);
    faulty.on_create = NULL;
    CHECK_EQ(tp_server_start(stage.server), TP_ERR_UNSUPPORTED);
    tp_server_destroy(stage.server);

    server_stage_init(&stage);
    faulty_port_reset();
    faulty.on_accept = stop_and_have_somebody_wait;
    atomic_store(&faulty.accepts, 1);
    REQUIRE(tp_server_create(&stage.options, &stage.handlers, &stage.server) == TP_OK);
    CHECK_EQ(tp_server_start(stage.server), TP_ERR_OS);
    tp_thread_join(&waiter);
    faulty.on_accept = NULL;
    CHECK_EQ(tp_server_start(stage.server), TP_OK);
    check_served();
    server_stage_close(&stage);
}

/* ---- time ------------------------------------------------------------------------------------ */

static void nothing(void *context) {
    (void)context;
}

/* A delayed task that comes due while the server drains is dropped, not waited for in a circle. */
static void a_task_due_during_a_stop_costs_no_processor(void) {
    server_stage_init(&stage);
    stage.options.workers = 1;
    stage.options.drain_timeout_ms = 600000;
    faulty_port_reset();
    server_stage_open(&stage);
    raw_peer *peer = stage_connect_peer(&stage);
    STAGE_WAIT(atomic_load(&stage.joins) == 1);
    CHECK_EQ(tp_server_post(stage.server, 30, nothing, NULL), TP_OK);
    uint64_t began = tp_clock_ms(); /* all that is counted lies inside the time */
    unsigned waits = atomic_load(&faulty.waits_seen);
    tp_server_stop(stage.server);
    CHECK_EQ(tp_server_wait(stage.server, 400), TP_ERR_TIMED_OUT); /* the peer does not go */
    waits = atomic_load(&faulty.waits_seen) - waits;
    uint64_t ticks = (tp_clock_ms() - began) / 5;
    CHECK_LE(waits, 20 + ticks);
    raw_close(peer, false);
    CHECK_EQ(tp_server_wait(stage.server, -1), TP_OK);
    tp_server_destroy(stage.server);
}

static atomic_ullong connected_at, left_at;

/* Its age is not more than what has passed since it was let connect. */
static void note_join(server_stage *s, tp_session_id session) {
    tp_session_info info = {.size = sizeof info};
    CHECK(tp_server_session_info(s->server, session, &info));
    CHECK_LE(info.age_ms, tp_clock_ms() - atomic_load(&connected_at));
}

static void note_leave(server_stage *s, tp_session_id session, tp_end_reason reason) {
    (void)s, (void)session, (void)reason;
    atomic_store(&left_at, tp_clock_ms());
}

/* The time that a connection took to come about is no silence of the peer's. */
static void a_slow_connect_is_not_idle(void) {
    static server_stage client;
    server_stage_init(&stage);
    stage.options.idle_timeout_ms = 0;
    stage.options.ping_interval_ms = 0;
    server_stage_open(&stage);
    server_stage_init(&client);
    client.options.listen = false;
    client.options.idle_timeout_ms = 500;
    client.options.ping_interval_ms = 0;
    client.options.connect_timeout_ms = 600000;
    client.on_joined = note_join;
    client.on_left = note_leave;
    faulty_port_reset();
    atomic_store(&faulty.hold_connect, true);
    server_stage_open(&client);
    tp_address address = tp_server_address(stage.server);
    tp_session_id id;
    uint64_t began = tp_clock_ms();
    REQUIRE(tp_server_connect(client.server, &address, &id) == TP_OK);
    STAGE_WAIT(tp_clock_ms() - began > 700);
    atomic_store(&connected_at, tp_clock_ms());
    REQUIRE(faulty_port_connect_now() == TP_OK);
    STAGE_WAIT(atomic_load(&client.joins) == 1);
    STAGE_WAIT(atomic_load(&client.leaves) == 1);
    CHECK_EQ(atomic_load(&client.last_reason), TP_END_IDLE);
    CHECK_GE(atomic_load(&left_at) - atomic_load(&connected_at), 500);
    server_stage_close(&client);
    server_stage_close(&stage);
}

CHECK_MAIN(CASE(an_attach_that_fails_ends_one_connection),
    CASE(a_receive_that_fails_ends_the_session), CASE(a_send_that_fails_ends_the_session),
    CASE(posts_that_fail_lose_no_session), CASE(a_join_that_cannot_be_posted_ends_the_connection),
    CASE(a_connect_that_fails_at_once_leaves_nothing),
    CASE(an_accept_that_cannot_be_started_is_a_failed_start), CASE(waits_that_fail_are_told),
    CASE(a_stop_during_start_is_not_lost), CASE(a_stop_during_a_start_that_fails),
    CASE(a_task_due_during_a_stop_costs_no_processor), CASE(a_slow_connect_is_not_idle))
