/*
 * A stop that is asked for wherever it may be asked for: inside each handler, inside a task, by
 * several threads at once. It must not hang, everybody must leave once, and the server must be able
 * to start again.
 */
#include "server_stage.h"

#include "core/memory/memory.h"

typedef enum place {
    IN_REQUEST,
    IN_JOIN,
    IN_RECV,
    IN_SEND,
    IN_LEAVE,
    IN_BEGIN,
    IN_END,
    IN_ERROR,
    IN_TASK,
    PLACES
} place;

static const char *const place_names[PLACES] = {"on_connection_request", "on_join", "on_recv",
    "on_send", "on_leave", "on_worker_begin", "on_worker_end", "on_error", "a task"};

static server_stage stage;
static place where;
static atomic_bool armed; /* the next time `where` is reached */
static atomic_int wait_said;

/* The stop; and a wait, which must be refused there instead of waiting for itself. */
static void reach(tp_server *server, place at) {
    if (at == where && atomic_exchange(&armed, false)) {
        tp_server_stop(server);
        atomic_store(&wait_said, tp_server_wait(server, -1));
    }
}

static bool request(tp_server *server, const tp_address *peer) {
    bool welcome = stage_on_request(server, peer);
    reach(server, IN_REQUEST);
    return welcome;
}

static void join(tp_server *server, tp_session_id session) {
    stage_on_join(server, session);
    reach(server, IN_JOIN);
}

static void receive(tp_server *server, tp_session_id session, tp_packet *packet) {
    stage_on_recv(server, session, packet);
    reach(server, IN_RECV);
}

static void sent(tp_server *server, tp_session_id session, size_t packets, size_t bytes) {
    stage_on_send(server, session, packets, bytes);
    reach(server, IN_SEND);
}

static void leave(tp_server *server, tp_session_id session, tp_end_reason reason) {
    stage_on_leave(server, session, reason);
    reach(server, IN_LEAVE);
}

static void begin(tp_server *server, unsigned worker) {
    stage_on_begin(server, worker);
    reach(server, IN_BEGIN);
}

static void end(tp_server *server, unsigned worker) {
    stage_on_end(server, worker);
    reach(server, IN_END);
}

static void fail(tp_server *server, tp_err error, int os_error, const char *text) {
    stage_on_error(server, error, os_error, text);
    reach(server, IN_ERROR);
}

static void task(void *context) {
    reach(context, IN_TASK);
}

static void open_stage(unsigned workers) {
    server_stage_init(&stage);
    stage.options.workers = workers;
    stage.options.drain_timeout_ms = 100; /* peers here do not answer CLOSE */
    stage.handlers = (tp_handlers){.size = sizeof stage.handlers,
        .on_connection_request = request,
        .on_join = join,
        .on_leave = leave,
        .on_recv = receive,
        .on_send = sent,
        .on_worker_begin = begin,
        .on_worker_end = end,
        .on_error = fail};
    server_stage_open(&stage);
}

/* A message that finds no memory: on_error is told, and its session ends. */
static void provoke_error(raw_peer *peer) {
    static const uint8_t large[200000];
    tp__memory_fail_from(1);
    (void)raw_send_frame(peer, TP_FRAME_DATA, large, sizeof large);
    STAGE_WAIT(atomic_load(&wait_said) != TP_OK);
    tp__memory_fail_from(-1);
}

/* One peer that stays, and one that comes, talks and goes, so that every handler has its turn. */
static void provoke(raw_peer *staying, tp_address address) {
    if (where == IN_ERROR) {
        provoke_error(staying);
        return;
    }
    (void)raw_send_frame(staying, TP_FRAME_DATA, "hello", 5);
    if (where == IN_TASK) {
        CHECK_EQ(tp_server_post(stage.server, 0, task, stage.server), TP_OK);
    }
    raw_peer *passing = raw_connect(&address); /* after the stop there may be nobody to meet */
    if (passing != NULL) {
        (void)raw_send_frame(passing, TP_FRAME_DATA, "hello", 5);
        raw_close(passing, true);
    }
}

static void stops_in(place at, unsigned workers) {
    where = at;
    atomic_store(&wait_said, TP_OK);
    open_stage(workers);
    tp_address address = tp_server_address(stage.server);
    raw_peer *staying = stage_connect_peer(&stage);
    STAGE_WAIT(atomic_load(&stage.joins) == 1);
    atomic_store(&armed, true);
    provoke(staying, address);

    STAGE_WAIT(atomic_load(&wait_said) != TP_OK); /* the stop has been asked for by then */
    CHECK_EQ(tp_server_wait(stage.server, -1), TP_OK);
    CHECK_EQ(atomic_load(&wait_said), TP_ERR_WRONG_THREAD);
    CHECK_EQ(atomic_load(&stage.joins), atomic_load(&stage.leaves));
    CHECK_EQ(tp_server_session_count(stage.server), 0);
    raw_close(staying, true);

    REQUIRE(tp_server_start(stage.server) == TP_OK); /* and everything works once more */
    raw_peer *later = stage_connect_peer(&stage);
    uint8_t payload[8];
    unsigned type;
    CHECK(raw_send_frame(later, TP_FRAME_DATA, "again", 5));
    CHECK_EQ(raw_receive_frame(later, &type, payload, sizeof payload), 5);
    raw_close(later, false);
    server_stage_close(&stage);
}

static void inside_each_handler(void) {
    for (place at = 0; at < PLACES; at++) {
        unsigned failures = atomic_load(&check_failures);
        stops_in(at, 1);
        stops_in(at, 4);
        if (atomic_load(&check_failures) != failures) {
            printf("    inside %s\n", place_names[at]);
        }
    }
}

/* ---- by several threads at once -------------------------------------------------------------- */

#define THREADS 8

static atomic_bool go;

static void stop_when_told(void *unused) {
    (void)unused;
    while (!atomic_load(&go)) {
        tp_thread_yield();
    }
    tp_server_stop(stage.server);
}

static void by_several_threads_at_once(void) {
    where = PLACES;
    for (unsigned round = 0; round < 20; round++) {
        tp_thread threads[THREADS];
        open_stage(4);
        raw_peer *peer = stage_connect_peer(&stage);
        STAGE_WAIT(atomic_load(&stage.joins) == 1);
        atomic_store(&go, false);
        for (unsigned i = 0; i < THREADS; i++) {
            REQUIRE(tp_thread_start(&threads[i], "stops", stop_when_told, NULL) == TP_OK);
        }
        atomic_store(&go, true);
        (void)raw_send_frame(peer, TP_FRAME_DATA, "hello", 5);
        for (unsigned i = 0; i < THREADS; i++) {
            tp_thread_join(&threads[i]);
        }
        CHECK_EQ(tp_server_wait(stage.server, -1), TP_OK);
        CHECK_EQ(atomic_load(&stage.leaves), 1);
        CHECK_EQ(atomic_load(&stage.last_reason), TP_END_SHUTDOWN);
        tp_server_stop(stage.server); /* a late one changes nothing */
        tp_server_destroy(stage.server);
        raw_close(peer, true);
    }
}

/* ---- by a time ------------------------------------------------------------------------------- */

static void open_with_long_drain(raw_peer **peer) {
    where = PLACES;
    server_stage_init(&stage);
    stage.options.workers = 2;
    stage.options.drain_timeout_ms = 600000; /* more than this test is given */
    server_stage_open(&stage);
    *peer = stage_connect_peer(&stage);
    STAGE_WAIT(atomic_load(&stage.joins) == 1);
}

/* The peer does not hang up, so that each of these stops would take ten minutes. */
static void within_a_time(void) {
    raw_peer *peer;
    open_with_long_drain(&peer);
    tp_server_stop_within(stage.server, 50);
    CHECK_EQ(tp_server_wait(stage.server, -1), TP_OK);
    CHECK_EQ(atomic_load(&stage.leaves), 1);
    raw_close(peer, true);

    REQUIRE(tp_server_start(stage.server) == TP_OK); /* no time of the last stop is left over */
    peer = stage_connect_peer(&stage);
    STAGE_WAIT(atomic_load(&stage.joins) == 2);
    tp_server_stop(stage.server);
    CHECK_EQ(tp_server_wait(stage.server, 300), TP_ERR_TIMED_OUT);
    tp_server_stop_within(stage.server, 600000); /* never later */
    tp_server_stop_within(stage.server, 0);
    CHECK_EQ(tp_server_wait(stage.server, -1), TP_OK);
    CHECK_EQ(atomic_load(&stage.leaves), 2);
    raw_close(peer, true);
    tp_server_destroy(stage.server);
}

/* The stream of such a session is not ended from here, and its peer does not end it either. */
static void within_a_time_though_a_peer_was_turned_away(void) {
    raw_peer *peer;
    unsigned type;
    uint8_t in[16];
    open_with_long_drain(&peer);
    tp_session_id id = atomic_load(&stage.last_joined);
    CHECK(tp_server_turn_away(stage.server, id, TP_CLOSE_KICKED));
    CHECK_EQ(raw_receive_frame(peer, &type, in, sizeof in), 2);
    CHECK_EQ(type, TP_FRAME_CLOSE);
    CHECK_EQ(atomic_load(&stage.leaves), 0);
    tp_server_stop_within(stage.server, 50);
    CHECK_EQ(tp_server_wait(stage.server, -1), TP_OK);
    CHECK_EQ(atomic_load(&stage.leaves), 1);
    CHECK_EQ(atomic_load(&stage.last_reason), TP_END_KICKED);
    CHECK_NE(raw_end(peer), TP_ERR_TIMED_OUT);
    raw_close(peer, true);
    tp_server_destroy(stage.server);
}

/* ---- beside questions ------------------------------------------------------------------------ */

/* Any thread may ask where it listens: it hears the whole address, or that it does not listen. */
static void ask_for_its_address(void *unused) {
    (void)unused;
    while (!atomic_load(&go)) {
        tp_address address = tp_server_address(stage.server);
        CHECK_EQ(address.port != 0, address.ip[15] == 1); /* 127.0.0.1 */
        CHECK(strlen(tp_server_io(stage.server)) < 8);
    }
}

static void asked_for_its_address_meanwhile(void) {
    tp_thread thread;
    where = PLACES;
    open_stage(1);
    atomic_store(&go, false);
    REQUIRE(tp_thread_start(&thread, "asks", ask_for_its_address, NULL) == TP_OK);
    for (unsigned round = 0; round < 50; round++) {
        tp_server_stop(stage.server);
        CHECK_EQ(tp_server_wait(stage.server, -1), TP_OK);
        REQUIRE(tp_server_start(stage.server) == TP_OK);
    }
    atomic_store(&go, true);
    tp_thread_join(&thread);
    server_stage_close(&stage);
}

CHECK_MAIN(CASE(inside_each_handler), CASE(by_several_threads_at_once), CASE(within_a_time),
    CASE(within_a_time_though_a_peer_was_turned_away), CASE(asked_for_its_address_meanwhile))
