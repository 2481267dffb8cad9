/* The server as a whole: create, start, stop from everywhere, drain, start again, tasks. */
#include "server_stage.h"

static server_stage stage;

static void check_echo(raw_peer *peer, const char *text) {
    char answer[256];
    unsigned type;
    CHECK(raw_send_frame(peer, TP_FRAME_DATA, text, strlen(text)));
    CHECK_EQ(raw_receive_frame(peer, &type, answer, sizeof answer), (long)strlen(text));
    CHECK_EQ(type, TP_FRAME_DATA);
    CHECK_MEM(answer, text, strlen(text));
}

static void serves_and_stops(void) {
    server_stage_init(&stage);
    server_stage_open(&stage);
    CHECK(tp_server_address(stage.server).port != 0);
    CHECK(strlen(tp_server_io(stage.server)) > 0);
    raw_peer *peer = stage_connect_peer(&stage);
    check_echo(peer, "hello");
    check_echo(peer, "");
    CHECK_EQ(atomic_load(&stage.joins), 1);
    CHECK_EQ(tp_server_session_count(stage.server), 1);
    raw_close(peer, false);
    STAGE_WAIT(atomic_load(&stage.leaves) == 1);
    CHECK_EQ(atomic_load(&stage.last_reason), TP_END_PEER_CLOSED);
    CHECK_EQ(atomic_load(&stage.sends), 2);
    server_stage_close(&stage);
}

static void starts_again_in_the_same_process(void) {
    server_stage_init(&stage);
    REQUIRE(tp_server_create(&stage.options, &stage.handlers, &stage.server) == TP_OK);
    tp_session_id first = TP_NO_SESSION;
    for (int round = 0; round < 5; round++) {
        REQUIRE(tp_server_start(stage.server) == TP_OK);
        CHECK_EQ(tp_server_start(stage.server), TP_ERR_STATE);
        raw_peer *peer = stage_connect_peer(&stage);
        check_echo(peer, "again");
        CHECK_NE(atomic_load(&stage.last_joined), first);
        first = atomic_load(&stage.last_joined);
        CHECK_EQ(tp_server_wait(stage.server, 0), TP_ERR_STATE);
        tp_server_stop(stage.server);
        tp_server_stop(stage.server);
        raw_close(peer, false);
        CHECK_EQ(tp_server_wait(stage.server, -1), TP_OK);
        CHECK_EQ(atomic_load(&stage.joins), (unsigned)round + 1);
        CHECK_EQ(atomic_load(&stage.leaves), (unsigned)round + 1);
    }
    tp_server_destroy(stage.server);
}

static void is_destroyed_while_running(void) {
    server_stage_init(&stage);
    server_stage_open(&stage);
    raw_peer *peer = stage_connect_peer(&stage);
    check_echo(peer, "x");
    tp_server_destroy(stage.server);
    CHECK_EQ(atomic_load(&stage.leaves), 1);
    CHECK_EQ(atomic_load(&stage.last_reason), TP_END_SHUTDOWN);
    raw_end(peer);
    raw_close(peer, false);
}

static void stop_in_handler(server_stage *s, tp_session_id session, tp_packet *packet) {
    (void)session, (void)packet;
    tp_server_stop(s->server);
    CHECK_EQ(tp_server_wait(s->server, -1), TP_ERR_WRONG_THREAD);
}

/* The stop that hangs when it is called from the wrong thread: not here. */
static void stops_from_inside_a_handler(void) {
    server_stage_init(&stage);
    stage.on_message = stop_in_handler;
    server_stage_open(&stage);
    raw_peer *peer = stage_connect_peer(&stage);
    CHECK(raw_send_frame(peer, TP_FRAME_DATA, "stop", 4));
    uint8_t payload[8];
    unsigned type;
    CHECK_EQ(raw_receive_frame(peer, &type, payload, sizeof payload), 2);
    CHECK_EQ(type, TP_FRAME_CLOSE);
    CHECK_EQ(tp_frame_close_reason(payload), TP_CLOSE_SHUTDOWN);
    CHECK_EQ(raw_end(peer), TP_ERR_CLOSED);
    raw_close(peer, false);
    CHECK_EQ(tp_server_wait(stage.server, -1), TP_OK);
    CHECK_EQ(atomic_load(&stage.last_reason), TP_END_SHUTDOWN);
    tp_server_destroy(stage.server);
}

#define DRAIN_PACKETS 200u
#define DRAIN_SIZE    20000u

static void queue_much_and_stop(server_stage *s, tp_session_id session, tp_packet *packet) {
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

/* What was queued before the stop arrives, then CLOSE, then the end. */
static void drains_before_it_ends(void) {
    server_stage_init(&stage);
    stage.on_message = queue_much_and_stop;
    stage.options.drain_timeout_ms = 60000;
    server_stage_open(&stage);
    raw_peer *peer = stage_connect_peer(&stage);
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
    CHECK_EQ(tp_server_wait(stage.server, -1), TP_OK);
    tp_server_destroy(stage.server);
}

/* A peer that does not read does not hold up a stop for longer than the drain allows. */
static void cuts_who_does_not_drain(void) {
    server_stage_init(&stage);
    stage.on_message = queue_much_and_stop;
    stage.options.drain_timeout_ms = 100;
    server_stage_open(&stage);
    raw_peer *peer = stage_connect_peer(&stage);
    CHECK(raw_send_frame(peer, TP_FRAME_DATA, "go", 2));
    STAGE_WAIT(atomic_load(&stage.messages) == 1);
    CHECK_EQ(tp_server_wait(stage.server, -1), TP_OK);
    CHECK_EQ(atomic_load(&stage.leaves), 1);
    CHECK_EQ(atomic_load(&stage.last_reason), TP_END_SHUTDOWN);
    raw_close(peer, false);
    tp_server_destroy(stage.server);
}

static void says_that_the_port_is_in_use(void) {
    server_stage_init(&stage);
    server_stage_open(&stage);
    static server_stage second;
    server_stage_init(&second);
    second.options.address = tp_server_address(stage.server);
    REQUIRE(tp_server_create(&second.options, &second.handlers, &second.server) == TP_OK);
    CHECK_EQ(tp_server_start(second.server), TP_ERR_ADDRESS_IN_USE);
    CHECK_EQ(atomic_load(&second.errors), 1);
    CHECK_EQ(atomic_load(&second.last_error), TP_ERR_ADDRESS_IN_USE);
    /* and the first does not notice */
    raw_peer *peer = stage_connect_peer(&stage);
    check_echo(peer, "still here");
    raw_close(peer, false);
    server_stage_close(&stage);
    CHECK_EQ(tp_server_start(second.server), TP_OK);
    tp_server_destroy(second.server);
}

static void refuses_options_out_of_range(void) {
    server_stage_init(&stage);
    tp_server_options good = stage.options;
    tp_server *server = NULL;
#define REFUSES(field, bad)                                                                        \
    do {                                                                                           \
        stage.options = good;                                                                      \
        stage.options.field = (bad);                                                               \
        CHECK_EQ(tp_server_create(&stage.options, &stage.handlers, &server), TP_ERR_INVALID);      \
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
    REFUSES(access.allow_count, 1); /* of no list */
    REFUSES(access.deny_count, 1);
    /* Each in its range, and together none that can be meant. */
    good.idle_timeout_ms = 1000;
    good.workers = 2;
    REFUSES(ping_interval_ms, 1000);
    REFUSES(ping_interval_ms, 49);
    REFUSES(running, 3);
    stage.options = good;
    stage.options.ping_interval_ms = 999;
    stage.options.running = 2;
    CHECK_EQ(tp_server_create(&stage.options, &stage.handlers, &server), TP_OK);
    tp_server_destroy(server);
    const tp_network networks[] = {{.bits = 128}, {.bits = 129}};
    stage.options = good;
    stage.options.access.allow = stage.options.access.deny = networks;
    stage.options.access.allow_count = 2;
    CHECK_EQ(tp_server_create(&stage.options, &stage.handlers, &server), TP_ERR_INVALID);
    stage.options.access.allow_count = 1;
    stage.options.access.deny_count = 2;
    CHECK_EQ(tp_server_create(&stage.options, &stage.handlers, &server), TP_ERR_INVALID);
    CHECK(server == NULL);
    size_t *shorter = malloc(sizeof *shorter); /* of another version: not a byte more is read */
    REQUIRE(shorter != NULL);
    *shorter = sizeof *shorter;
    CHECK_EQ(tp_server_create((const tp_server_options *)(void *)shorter, &stage.handlers, &server),
        TP_ERR_INVALID);
    free(shorter);
    stage.handlers.size = 1;
    stage.options = good;
    CHECK_EQ(tp_server_create(&stage.options, &stage.handlers, &server), TP_ERR_INVALID);
    stage.handlers.size = sizeof stage.handlers;
    stage.options.io = "carrier pigeon";
    REQUIRE(tp_server_create(&stage.options, &stage.handlers, &server) == TP_OK);
    CHECK_EQ(tp_server_start(server), TP_ERR_UNSUPPORTED);
    tp_server_destroy(server);
    tp_server_destroy(NULL);
}

/* ---- tasks ----------------------------------------------------------------------------------- */

static atomic_uint places_taken;
static atomic_uint ordered_done;

typedef struct ordered {
    uint64_t earliest_ms; /* due at some time from here ... */
    uint64_t latest_ms;   /* ... to here */
    atomic_uint place;    /* in which it ran */
} ordered;

static void run_ordered(void *context) {
    ordered *task = context;
    CHECK_GE(tp_clock_ms(), task->earliest_ms);
    atomic_store(&task->place, atomic_fetch_add(&places_taken, 1));
    atomic_fetch_add(&ordered_done, 1); /* last: who sees it reads the place */
}

static void post_ordered(ordered *task, unsigned delay_ms) {
    task->earliest_ms = tp_clock_ms() + delay_ms;
    CHECK_EQ(tp_server_post(stage.server, delay_ms, run_ordered, task), TP_OK);
    task->latest_ms = tp_clock_ms() + delay_ms;
}

/*
 * Those posted last are due first. False: this machine stalled between the posts, and they are not;
 * or so long that the worker found what was to wait due together with what was not.
 */
static bool run_in_order(void) {
    static ordered late, early, at_once;
    atomic_store(&places_taken, 0);
    atomic_store(&ordered_done, 0);
    post_ordered(&late, 120);
    post_ordered(&early, 40);
    post_ordered(&at_once, 0);
    STAGE_WAIT(atomic_load(&ordered_done) == 3);
    if (early.latest_ms >= late.earliest_ms) {
        return false;
    }
    CHECK_LT(atomic_load(&early.place), atomic_load(&late.place));
    return atomic_load(&at_once.place) == 0;
}

static void runs_tasks_when_they_are_due(void) {
    static ordered late;
    server_stage_init(&stage);
    server_stage_open(&stage);
    bool decided = false;
    for (unsigned i = 0; i < 100 && !decided; i++) {
        decided = run_in_order();
    }
    CHECK(decided);
    CHECK_EQ(tp_server_post(stage.server, 86400001, run_ordered, &late), TP_ERR_INVALID);
    CHECK_EQ(tp_server_post(stage.server, 0, NULL, &late), TP_ERR_INVALID);
    /* one whose time does not come is dropped */
    CHECK_EQ(tp_server_post(stage.server, 3600000, run_ordered, &late), TP_OK);
    tp_server_stop(stage.server);
    CHECK_NE(tp_server_address(stage.server).port, 0);
    CHECK_EQ(tp_server_wait(stage.server, -1), TP_OK);
    CHECK_EQ(tp_server_address(stage.server).port, 0);
    CHECK_EQ(tp_server_post(stage.server, 0, run_ordered, &late), TP_ERR_STATE);
    tp_server_destroy(stage.server);
    CHECK_EQ(atomic_load(&places_taken), 3);
}

static atomic_uint many_run;

static void run_one_of_many(void *context) {
    (void)context;
    atomic_fetch_add(&many_run, 1);
}

static void bounds_the_number_of_tasks(void) {
    server_stage_init(&stage);
    server_stage_open(&stage);
    for (unsigned i = 0; i < TP_SERVER_MAX_TASKS; i++) {
        REQUIRE(tp_server_post(stage.server, 3000000 + i % 1000, run_one_of_many, NULL) == TP_OK);
    }
    CHECK_EQ(tp_server_post(stage.server, 1, run_one_of_many, NULL), TP_ERR_FULL);
    tp_server_destroy(stage.server);
    CHECK_EQ(atomic_load(&many_run), 0);
}

CHECK_MAIN(CASE(serves_and_stops), CASE(starts_again_in_the_same_process),
    CASE(is_destroyed_while_running), CASE(stops_from_inside_a_handler),
    CASE(drains_before_it_ends), CASE(cuts_who_does_not_drain), CASE(says_that_the_port_is_in_use),
    CASE(refuses_options_out_of_range), CASE(runs_tasks_when_they_are_due),
    CASE(bounds_the_number_of_tasks))
