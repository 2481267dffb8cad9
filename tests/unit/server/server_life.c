/*
 * The server's life: create, start, stop from any thread, drain, restart, options, delayed tasks.
 */
#include "server_fixture.h"

static server_fixture fixture;

static void check_echo(raw_peer *peer, const char *text) {
    char answer[256];
    unsigned type;
    CHECK(raw_send_frame(peer, TP_FRAME_DATA, text, strlen(text)));
    CHECK_EQ(raw_receive_frame(peer, &type, answer, sizeof answer), (long)strlen(text));
    CHECK_EQ(type, TP_FRAME_DATA);
    CHECK_MEM(answer, text, strlen(text));
}

static void a_server_serves_and_stops(void) {
    server_fixture_init(&fixture);
    server_fixture_open(&fixture);
    CHECK(tp_server_address(fixture.server).port != 0);
    CHECK(strlen(tp_server_io(fixture.server)) > 0);
    raw_peer *peer = fixture_connect_peer(&fixture);
    check_echo(peer, "hello");
    check_echo(peer, "");
    CHECK_EQ(atomic_load(&fixture.joins), 1);
    CHECK_EQ(tp_server_session_count(fixture.server), 1);
    raw_close(peer, false);
    FIXTURE_WAIT(atomic_load(&fixture.leaves) == 1);
    CHECK_EQ(atomic_load(&fixture.last_reason), TP_END_PEER_CLOSED);
    CHECK_EQ(atomic_load(&fixture.sends), 2);
    server_fixture_close(&fixture);
}

static void a_server_can_be_started_again(void) {
    server_fixture_init(&fixture);
    REQUIRE(tp_server_create(&fixture.options, &fixture.handlers, &fixture.server) == TP_OK);
    tp_session_id first = TP_NO_SESSION;
    for (int round = 0; round < 5; round++) {
        REQUIRE(tp_server_start(fixture.server) == TP_OK);
        CHECK_EQ(tp_server_start(fixture.server), TP_ERR_STATE);
        raw_peer *peer = fixture_connect_peer(&fixture);
        check_echo(peer, "again");
        CHECK_NE(atomic_load(&fixture.last_joined), first);
        first = atomic_load(&fixture.last_joined);
        CHECK_EQ(tp_server_wait(fixture.server, 0), TP_ERR_STATE);
        tp_server_stop(fixture.server);
        tp_server_stop(fixture.server);
        raw_close(peer, false);
        CHECK_EQ(tp_server_wait(fixture.server, -1), TP_OK);
        CHECK_EQ(atomic_load(&fixture.joins), (unsigned)round + 1);
        CHECK_EQ(atomic_load(&fixture.leaves), (unsigned)round + 1);
    }
    tp_server_destroy(fixture.server);
}

static void a_running_server_can_be_destroyed(void) {
    server_fixture_init(&fixture);
    server_fixture_open(&fixture);
    raw_peer *peer = fixture_connect_peer(&fixture);
    check_echo(peer, "x");
    tp_server_destroy(fixture.server);
    CHECK_EQ(atomic_load(&fixture.leaves), 1);
    CHECK_EQ(atomic_load(&fixture.last_reason), TP_END_SHUTDOWN);
    raw_end(peer);
    raw_close(peer, false);
}

static void stop_in_handler(server_fixture *s, tp_session_id session, tp_packet *packet) {
    (void)session, (void)packet;
    tp_server_stop(s->server);
    CHECK_EQ(tp_server_wait(s->server, -1), TP_ERR_WRONG_THREAD);
}

/* A stop called inside a handler does not deadlock. */
static void a_handler_can_stop_its_server(void) {
    server_fixture_init(&fixture);
    fixture.on_message = stop_in_handler;
    server_fixture_open(&fixture);
    raw_peer *peer = fixture_connect_peer(&fixture);
    CHECK(raw_send_frame(peer, TP_FRAME_DATA, "stop", 4));
    uint8_t payload[8];
    unsigned type;
    CHECK_EQ(raw_receive_frame(peer, &type, payload, sizeof payload), 2);
    CHECK_EQ(type, TP_FRAME_CLOSE);
    CHECK_EQ(tp_frame_close_reason(payload), TP_CLOSE_SHUTDOWN);
    CHECK_EQ(raw_end(peer), TP_ERR_CLOSED);
    raw_close(peer, false);
    CHECK_EQ(tp_server_wait(fixture.server, -1), TP_OK);
    CHECK_EQ(atomic_load(&fixture.last_reason), TP_END_SHUTDOWN);
    tp_server_destroy(fixture.server);
}

#define DRAIN_PACKETS 200u
#define DRAIN_SIZE    20000u

static void queue_much_and_stop(server_fixture *s, tp_session_id session, tp_packet *packet) {
    (void)packet;
    for (unsigned i = 0; i < DRAIN_PACKETS; i++) {
        tp_packet *big = tp_packet_new(DRAIN_SIZE);
        REQUIRE(big != NULL);
        memset(tp_packet_put_space(big, DRAIN_SIZE), (int)(i & 0xff), DRAIN_SIZE);
        CHECK(tp_server_send(s->server, session, big));
        tp_packet_release(big);
    }
    tp_server_stop(s->server);
}

/* What was queued before the stop arrives, then CLOSE, then the end of the stream. */
static void a_stop_drains_the_queues(void) {
    server_fixture_init(&fixture);
    fixture.on_message = queue_much_and_stop;
    fixture.options.drain_timeout_ms = 60000;
    server_fixture_open(&fixture);
    raw_peer *peer = fixture_connect_peer(&fixture);
    CHECK(raw_send_frame(peer, TP_FRAME_DATA, "go", 2));
    static uint8_t payload[DRAIN_SIZE];
    unsigned type;
    for (unsigned i = 0; i < DRAIN_PACKETS; i++) {
        REQUIRE(raw_receive_frame(peer, &type, payload, sizeof payload) == DRAIN_SIZE);
        CHECK_EQ(payload[0], i & 0xff);
        CHECK_EQ(payload[DRAIN_SIZE - 1], i & 0xff);
    }
    CHECK_EQ(raw_receive_frame(peer, &type, payload, sizeof payload), 2);
    CHECK_EQ(type, TP_FRAME_CLOSE);
    CHECK_EQ(raw_end(peer), TP_ERR_CLOSED);
    raw_close(peer, false);
    CHECK_EQ(tp_server_wait(fixture.server, -1), TP_OK);
    tp_server_destroy(fixture.server);
}

/* A peer that does not read delays a stop by the drain time-out at most. */
static void a_stop_cuts_peers_that_do_not_read(void) {
    server_fixture_init(&fixture);
    fixture.on_message = queue_much_and_stop;
    fixture.options.drain_timeout_ms = 100;
    server_fixture_open(&fixture);
    raw_peer *peer = fixture_connect_peer(&fixture);
    CHECK(raw_send_frame(peer, TP_FRAME_DATA, "go", 2));
    FIXTURE_WAIT(atomic_load(&fixture.messages) == 1);
    CHECK_EQ(tp_server_wait(fixture.server, -1), TP_OK);
    CHECK_EQ(atomic_load(&fixture.leaves), 1);
    CHECK_EQ(atomic_load(&fixture.last_reason), TP_END_SHUTDOWN);
    raw_close(peer, false);
    tp_server_destroy(fixture.server);
}

static void a_port_in_use_is_an_error(void) {
    server_fixture_init(&fixture);
    server_fixture_open(&fixture);
    static server_fixture second;
    server_fixture_init(&second);
    second.options.address = tp_server_address(fixture.server);
    REQUIRE(tp_server_create(&second.options, &second.handlers, &second.server) == TP_OK);
    CHECK_EQ(tp_server_start(second.server), TP_ERR_ADDRESS_IN_USE);
    CHECK_EQ(atomic_load(&second.errors), 1);
    CHECK_EQ(atomic_load(&second.last_error), TP_ERR_ADDRESS_IN_USE);
    /* The first server is not affected. */
    raw_peer *peer = fixture_connect_peer(&fixture);
    check_echo(peer, "still here");
    raw_close(peer, false);
    server_fixture_close(&fixture);
    CHECK_EQ(tp_server_start(second.server), TP_OK);
    tp_server_destroy(second.server);
}

static void options_out_of_range_are_refused(void) {
    server_fixture_init(&fixture);
    tp_server_options good = fixture.options;
    tp_server *server = NULL;
#define REFUSES(field, bad)                                                                        \
    do {                                                                                           \
        fixture.options = good;                                                                    \
        fixture.options.field = (bad);                                                             \
        CHECK_EQ(tp_server_create(&fixture.options, &fixture.handlers, &server), TP_ERR_INVALID);  \
        CHECK(server == NULL);                                                                     \
    } while (0)
    REFUSES(size, 8);
    REFUSES(workers, 65);
    REFUSES(running, 65);
    REFUSES(backlog, 0);
    REFUSES(max_sessions, 0);
    REFUSES(max_sessions, TP_MAX_SESSIONS + 1);
    REFUSES(max_frame, 0);
    REFUSES(max_frame, TP_PACKET_MAX + 1);
    REFUSES(queue_bytes, 1023);
    REFUSES(queue_packets, 0);
    REFUSES(queue_policy, (tp_queue_policy)3);
    REFUSES(idle_timeout_ms, 99);
    REFUSES(connect_timeout_ms, 0);
    REFUSES(receive_buffer, 4095);
    REFUSES(reserve_descriptors, 65537);
    REFUSES(reserve_bytes, ((size_t)1 << 30) + 1);
    REFUSES(name, NULL);
    REFUSES(io, NULL);
    REFUSES(access.size, 1);
    REFUSES(access.allow_count, 1); /* a count without a list */
    REFUSES(access.deny_count, 1);
    /* Each in its range, but impossible together. */
    good.idle_timeout_ms = 1000;
    good.workers = 2;
    REFUSES(ping_interval_ms, 1000);
    REFUSES(ping_interval_ms, 49);
    REFUSES(running, 3);
    fixture.options = good;
    fixture.options.ping_interval_ms = 999;
    fixture.options.running = 2;
    CHECK_EQ(tp_server_create(&fixture.options, &fixture.handlers, &server), TP_OK);
    tp_server_destroy(server);
    const tp_network networks[] = {{.bits = 128}, {.bits = 129}};
    fixture.options = good;
    fixture.options.access.allow = fixture.options.access.deny = networks;
    fixture.options.access.allow_count = 2;
    CHECK_EQ(tp_server_create(&fixture.options, &fixture.handlers, &server), TP_ERR_INVALID);
    fixture.options.access.allow_count = 1;
    fixture.options.access.deny_count = 2;
    CHECK_EQ(tp_server_create(&fixture.options, &fixture.handlers, &server), TP_ERR_INVALID);
    CHECK(server == NULL);
    /* Of an older version: not a byte more may be read. */
    size_t *shorter = malloc(sizeof *shorter);
    REQUIRE(shorter != NULL);
    *shorter = sizeof *shorter;
    CHECK_EQ(
        tp_server_create((const tp_server_options *)(void *)shorter, &fixture.handlers, &server),
        TP_ERR_INVALID);
    free(shorter);
    fixture.handlers.size = 1;
    fixture.options = good;
    CHECK_EQ(tp_server_create(&fixture.options, &fixture.handlers, &server), TP_ERR_INVALID);
    fixture.handlers.size = sizeof fixture.handlers;
    fixture.options.io = "carrier pigeon";
    REQUIRE(tp_server_create(&fixture.options, &fixture.handlers, &server) == TP_OK);
    CHECK_EQ(tp_server_start(server), TP_ERR_UNSUPPORTED);
    tp_server_destroy(server);
    tp_server_destroy(NULL);
}

/* ---- tasks ----------------------------------------------------------------------------------- */

static atomic_uint positions_taken;
static atomic_uint ordered_done;

typedef struct ordered {
    uint64_t earliest_ms; /* due at the earliest */
    uint64_t latest_ms;   /* due at the latest */
    atomic_uint position; /* its position among the tasks that ran */
} ordered;

static void run_ordered(void *context) {
    ordered *task = context;
    CHECK_GE(tp_clock_ms(), task->earliest_ms);
    atomic_store(&task->position, atomic_fetch_add(&positions_taken, 1));
    atomic_fetch_add(&ordered_done, 1); /* last: a thread that sees it may read the position */
}

static void post_ordered(ordered *task, unsigned delay_ms) {
    task->earliest_ms = tp_clock_ms() + delay_ms;
    CHECK_EQ(tp_server_post(fixture.server, delay_ms, run_ordered, task), TP_OK);
    task->latest_ms = tp_clock_ms() + delay_ms;
}

/*
 * Runs three tasks; those posted last are due first. False: the machine stalled between the posts,
 * so that the order is not certain, or for so long that the worker found the delayed ones due
 * together with the first.
 */
static bool run_in_order(void) {
    static ordered late, early, immediate;
    atomic_store(&positions_taken, 0);
    atomic_store(&ordered_done, 0);
    post_ordered(&late, 120);
    post_ordered(&early, 40);
    post_ordered(&immediate, 0);
    FIXTURE_WAIT(atomic_load(&ordered_done) == 3);
    if (early.latest_ms >= late.earliest_ms) {
        return false;
    }
    CHECK_LT(atomic_load(&early.position), atomic_load(&late.position));
    return atomic_load(&immediate.position) == 0;
}

static void tasks_run_when_they_are_due(void) {
    static ordered late;
    server_fixture_init(&fixture);
    server_fixture_open(&fixture);
    bool decided = false;
    for (unsigned i = 0; i < 100 && !decided; i++) {
        decided = run_in_order();
    }
    CHECK(decided);
    CHECK_EQ(tp_server_post(fixture.server, 86400001, run_ordered, &late), TP_ERR_INVALID);
    CHECK_EQ(tp_server_post(fixture.server, 0, NULL, &late), TP_ERR_INVALID);
    /* A task that is not due before the stop is dropped. */
    CHECK_EQ(tp_server_post(fixture.server, 3600000, run_ordered, &late), TP_OK);
    tp_server_stop(fixture.server);
    CHECK_NE(tp_server_address(fixture.server).port, 0);
    CHECK_EQ(tp_server_wait(fixture.server, -1), TP_OK);
    CHECK_EQ(tp_server_address(fixture.server).port, 0);
    CHECK_EQ(tp_server_post(fixture.server, 0, run_ordered, &late), TP_ERR_STATE);
    tp_server_destroy(fixture.server);
    CHECK_EQ(atomic_load(&positions_taken), 3);
}

static atomic_uint many_run;

static void run_one_of_many(void *context) {
    (void)context;
    atomic_fetch_add(&many_run, 1);
}

static void the_number_of_tasks_is_bounded(void) {
    server_fixture_init(&fixture);
    server_fixture_open(&fixture);
    for (unsigned i = 0; i < TP_SERVER_MAX_TASKS; i++) {
        REQUIRE(tp_server_post(fixture.server, 3000000 + i % 1000, run_one_of_many, NULL) == TP_OK);
    }
    CHECK_EQ(tp_server_post(fixture.server, 1, run_one_of_many, NULL), TP_ERR_FULL);
    tp_server_destroy(fixture.server);
    CHECK_EQ(atomic_load(&many_run), 0);
}

CHECK_MAIN(CASE(a_server_serves_and_stops), CASE(a_server_can_be_started_again),
    CASE(a_running_server_can_be_destroyed), CASE(a_handler_can_stop_its_server),
    CASE(a_stop_drains_the_queues), CASE(a_stop_cuts_peers_that_do_not_read),
    CASE(a_port_in_use_is_an_error), CASE(options_out_of_range_are_refused),
    CASE(tasks_run_when_they_are_due), CASE(the_number_of_tasks_is_bounded))
