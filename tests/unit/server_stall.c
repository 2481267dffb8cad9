/*
 * We stood still, and nobody pays for it: sessions that are being ended, outgoing connections, full
 * queues. And who is slow himself still does. By a clock that the test moves: stall_stage.h.
 */
#include "stall_stage.h"

#include "server_stage.h"

enum { DRAIN_MS = 1000, CONNECT_MS = 1000, STALL_MS = 5000, CATCH_UP_MS = 2000 };

static server_stage stage;

static void open_stage(unsigned workers) {
    stage.options.workers = workers;
    stage.options.drain_timeout_ms = DRAIN_MS;
    stage.options.connect_timeout_ms = CONNECT_MS;
    clock_stop();
    server_stage_open(&stage);
}

static void close_stage(void) {
    atomic_store(&stall_stopped_at_ms, 0);
    server_stage_close(&stage);
}

static raw_peer *join(tp_session_id *session) {
    unsigned before = atomic_load(&stage.joins);
    raw_peer *peer = stage_connect_peer(&stage);
    STAGE_WAIT(atomic_load(&stage.joins) == before + 1);
    *session = atomic_load(&stage.last_joined);
    return peer;
}

/* ---- who is being ended ---------------------------------------------------------------------- */

static raw_peer *join_and_be_told(tp_session_id *session) {
    unsigned type;
    uint8_t reason[2];
    raw_peer *peer = join(session);
    CHECK(tp_server_disconnect_after_send(stage.server, *session, TP_CLOSE_KICKED));
    CHECK_EQ(raw_receive_frame(peer, &type, reason, sizeof reason), 2);
    CHECK_EQ(type, TP_FRAME_CLOSE);
    return peer;
}

/* He has not been cut: his end of the stream is what ends it. */
static void check_may_hang_up(raw_peer *peer) {
    CHECK_EQ(atomic_load(&stage.leaves), 0);
    raw_finish(peer);
    STAGE_WAIT(atomic_load(&stage.leaves) == 1);
    CHECK_EQ(raw_end(peer), TP_ERR_CLOSED);
}

static void who_was_told_may_hang_up_after_a_handler_held_us_up(void) {
    server_stage_init(&stage);
    open_stage(1);
    tp_session_id busy_id, told_id;
    raw_peer *busy = join(&busy_id);
    raw_peer *told = join_and_be_told(&told_id);
    hold_worker_of(stage.server, busy_id);
    worker_has_stood_still(stage.server, STALL_MS);
    pass(stage.server, DRAIN_MS / 2);
    check_may_hang_up(told);
    raw_close(told, false);
    raw_close(busy, false);
    close_stage();
}

/* The same for a whole process that was stopped: nobody is in a handler. */
static void who_was_told_may_hang_up_after_the_process_was_stopped(void) {
    server_stage_init(&stage);
    open_stage(2);
    tp_session_id told_id;
    raw_peer *told = join_and_be_told(&told_id);
    clock_jump(STALL_MS);
    let_sweep(stage.server);
    pass(stage.server, DRAIN_MS / 2);
    check_may_hang_up(told);
    raw_close(told, false);
    close_stage();
}

static void who_does_not_hang_up_is_cut_all_the_same(void) {
    server_stage_init(&stage);
    open_stage(1);
    tp_session_id told_id;
    raw_peer *told = join_and_be_told(&told_id);
    clock_jump(STALL_MS);
    let_sweep(stage.server);
    pass(stage.server, CATCH_UP_MS + DRAIN_MS / 2);
    CHECK_EQ(atomic_load(&stage.leaves), 0);
    PASS_UNTIL(stage.server, atomic_load(&stage.leaves) == 1);
    raw_close(told, false);
    close_stage();
}

/* ---- who is silent --------------------------------------------------------------------------- */

static void who_is_silent_is_ended_by_what_we_could_hear(void) {
    server_stage_init(&stage);
    stage.options.idle_timeout_ms = 1000;
    open_stage(2);
    tp_session_id silent_id;
    raw_peer *silent = join(&silent_id);
    clock_jump(STALL_MS);
    let_sweep(stage.server);
    pass(stage.server, CATCH_UP_MS + 500);
    CHECK_EQ(atomic_load(&stage.leaves), 0);
    tp_session_info info = {.size = sizeof info};
    REQUIRE(tp_server_session_info(stage.server, silent_id, &info));
    CHECK_LT(info.silent_ms, 1000);
    PASS_UNTIL(stage.server, tp_server_session_count(stage.server) == 0);
    raw_close(silent, false);
    STAGE_WAIT(atomic_load(&stage.leaves) == 1);
    CHECK_EQ(atomic_load(&stage.last_reason), TP_END_IDLE);
    close_stage();
}

/* ---- whom we call ---------------------------------------------------------------------------- */

enum { CALLS = 8 };

/* Their connections are there, and the worker that would see it is held up. Another one sweeps. */
static void whom_we_call_is_not_late_while_we_do_not_look(void) {
    server_stage_init(&stage);
    open_stage(2);
    tp_session_id id = TP_NO_SESSION;
    raw_peer *peers[8] = {NULL};
    unsigned count = 0;
    tp__worker *home = NULL;
    while (count < 8 && (!home || home->index == 0)) { /* worker 0 accepts */
        peers[count++] = join(&id);
        home = home_of(stage.server, id);
        if (!home) {
            raw_close(peers[0], true);
            close_stage();
            SKIP("any worker sees a connection here");
        }
    }
    REQUIRE(home->index != 0);
    hold_worker_of(stage.server, id);
    unsigned joined = atomic_load(&stage.joins);
    tp_address address = tp_server_address(stage.server);
    for (unsigned i = 0; i < CALLS; i++) {
        tp_session_id call;
        CHECK_EQ(tp_server_connect(stage.server, &address, &call), TP_OK);
    }
    pass(stage.server, 2 * CONNECT_MS);
    let_worker_go(stage.server);
    STAGE_WAIT(atomic_load(&stage.joins) == joined + 2 * CALLS || atomic_load(&stage.leaves) > 0);
    CHECK_EQ(atomic_load(&stage.leaves), 0);
    for (unsigned i = 0; i < count; i++) {
        raw_close(peers[i], true);
    }
    close_stage();
}

/* ---- who is to read -------------------------------------------------------------------------- */

enum { LIMIT = 65536, SIZE = 10000 };

static bool send_one(tp_session_id to) {
    static const uint8_t bytes[SIZE];
    tp_packet *packet = tp_packet_copy_of(bytes, sizeof bytes);
    REQUIRE(packet != NULL);
    bool taken = tp_server_send(stage.server, to, packet);
    tp_packet_release(packet);
    return taken;
}

static void take_all(raw_peer *peer, unsigned count) {
    static uint8_t bytes[SIZE];
    for (unsigned i = 0; i < count; i++) {
        unsigned type;
        REQUIRE(raw_receive_frame(peer, &type, bytes, sizeof bytes) == SIZE);
    }
}

static uint64_t queued_bytes(tp_session_id session) {
    tp_session_info info = {.size = sizeof info};
    REQUIRE(tp_server_session_info(stage.server, session, &info));
    return info.queued_bytes;
}

static uint64_t refused(void) {
    tp_server_stats stats = {.size = sizeof stats};
    tp_server_get_stats(stage.server, &stats);
    return stats.refused;
}

/* The one worker is in another session's handler, and no time passes: then too it is we. */
static void who_reads_is_not_ended_for_what_we_did_not_send(void) {
    server_stage_init(&stage);
    stage.options.queue_bytes = LIMIT;
    open_stage(1);
    tp_session_id busy_id, reader_id;
    raw_peer *busy = join(&busy_id);
    raw_peer *reader = join(&reader_id);
    hold_worker_of(stage.server, busy_id);
    unsigned sent = 0;
    while (sent < 10000 && send_one(reader_id)) {
        sent++;
    }
    CHECK_GT(sent, LIMIT / SIZE);
    CHECK_LE(queued_bytes(reader_id), TP_QUEUE_STALL_FACTOR * LIMIT);
    CHECK_GT(queued_bytes(reader_id), TP_QUEUE_STALL_FACTOR * LIMIT - 2 * SIZE);
    CHECK(!send_one(reader_id)); /* refused and counted, no more */
    CHECK_EQ(refused(), 2);
    let_worker_go(stage.server);
    take_all(reader, sent);
    STAGE_WAIT(queued_bytes(reader_id) == 0);
    CHECK(send_one(reader_id));
    take_all(reader, 1);
    CHECK_EQ(atomic_load(&stage.leaves), 0);
    raw_close(reader, false);
    raw_close(busy, false);
    close_stage();
}

static bool is_sending(tp_session_id session) {
    tp__session *slot = &stage.server->sessions[tp_session_slot(session)];
    return atomic_load(&slot->sending_since_ms) > 0;
}

/* Until a send is in progress that the system does not take, and something is queued behind. */
static unsigned send_until_it_waits(tp_session_id to) {
    unsigned sent = 0;
    uint64_t deadline = raw_deadline();
    while (queued_bytes(to) < LIMIT / 2 && tp_clock_ms() < deadline) {
        REQUIRE(send_one(to));
        sent++;
        uint64_t patience_ms = tp_clock_ms() + 100;
        while (queued_bytes(to) > 0 && tp_clock_ms() < patience_ms) {
            tp_thread_yield();
        }
    }
    REQUIRE(is_sending(to));
    return sent;
}

/* The system was full of what it had to read, and it has read that: the worker could not see it. */
static void who_reads_while_we_stand_still_is_not_ended(void) {
    server_stage_init(&stage);
    stage.options.queue_bytes = LIMIT;
    open_stage(1);
    tp_session_id busy_id, reader_id;
    raw_peer *busy = join(&busy_id);
    raw_peer *reader = join(&reader_id);
    unsigned sent = send_until_it_waits(reader_id);
    hold_worker_of(stage.server, busy_id);
    clock_jump(STALL_MS);
    for (unsigned i = 0; i < 2 * LIMIT / SIZE; i++) {
        CHECK(send_one(reader_id));
        sent++;
    }
    let_worker_go(stage.server);
    pass(stage.server, STALL_STEP_MS);
    for (unsigned i = 0; i < LIMIT / SIZE; i++) { /* it has had no time to catch up */
        CHECK(send_one(reader_id));
        sent++;
    }
    take_all(reader, sent);
    CHECK_EQ(atomic_load(&stage.leaves), 0);
    raw_close(reader, false);
    raw_close(busy, false);
    close_stage();
}

static void check_is_ended(tp_session_id session) {
    for (unsigned i = 0; i < 10000 && send_one(session); i++) {
    }
    STAGE_WAIT(atomic_load(&stage.leaves) == 1);
    CHECK_EQ(atomic_load(&stage.last_reason), TP_END_OVERLOAD);
}

static raw_peer *join_and_not_read(tp_session_id *id) {
    server_stage_init(&stage);
    stage.options.queue_bytes = LIMIT;
    open_stage(1);
    raw_peer *reader = join(id);
    (void)send_until_it_waits(*id);
    return reader;
}

static void who_does_not_read_is_ended(void) {
    tp_session_id id;
    raw_peer *reader = join_and_not_read(&id);
    check_is_ended(id);
    raw_close(reader, true);
    close_stage();
}

/* However often we stand still meanwhile: he has had two seconds in which we served. */
static void who_does_not_read_is_ended_between_stalls_too(void) {
    tp_session_id id;
    raw_peer *reader = join_and_not_read(&id);
    clock_jump(STALL_MS);
    let_sweep(stage.server);
    while (send_one(id)) {
    }
    CHECK_GT(queued_bytes(id), LIMIT); /* that it has not read may be our doing, for a while */
    for (unsigned i = 0; i < 200 && atomic_load(&stage.leaves) == 0; i++) {
        clock_jump(400);
        let_sweep(stage.server);
        (void)send_one(id);
    }
    STAGE_WAIT(atomic_load(&stage.leaves) == 1);
    CHECK_EQ(atomic_load(&stage.last_reason), TP_END_OVERLOAD);
    raw_close(reader, true);
    close_stage();
}

CHECK_MAIN(CASE(who_was_told_may_hang_up_after_a_handler_held_us_up),
    CASE(who_was_told_may_hang_up_after_the_process_was_stopped),
    CASE(who_does_not_hang_up_is_cut_all_the_same),
    CASE(who_is_silent_is_ended_by_what_we_could_hear),
    CASE(whom_we_call_is_not_late_while_we_do_not_look),
    CASE(who_reads_is_not_ended_for_what_we_did_not_send),
    CASE(who_reads_while_we_stand_still_is_not_ended), CASE(who_does_not_read_is_ended),
    CASE(who_does_not_read_is_ended_between_stalls_too))
