/*
 * Stalls of the server itself must not count against its peers: sessions that are being ended,
 * outgoing connections, full queues. A peer that is slow itself is still ended. Time is the test's
 * own (stall_fixture.h).
 */
#include "stall_fixture.h"

#include "server_fixture.h"

enum { DRAIN_MS = 1000, CONNECT_MS = 1000, STALL_MS = 5000, CATCH_UP_MS = 2000 };

static server_fixture fixture;

static void open_fixture(unsigned workers) {
    fixture.options.workers = workers;
    fixture.options.drain_timeout_ms = DRAIN_MS;
    fixture.options.connect_timeout_ms = CONNECT_MS;
    clock_stop();
    server_fixture_open(&fixture);
}

static void close_fixture(void) {
    atomic_store(&stall_stopped_at_ms, 0);
    server_fixture_close(&fixture);
}

static raw_peer *join_peer(tp_session_id *session) {
    unsigned before = atomic_load(&fixture.joins);
    raw_peer *peer = fixture_connect_peer(&fixture);
    FIXTURE_WAIT(atomic_load(&fixture.joins) == before + 1);
    *session = atomic_load(&fixture.last_joined);
    return peer;
}

/* ---- sessions that are being ended ----------------------------------------------------------- */

static raw_peer *join_and_receive_close(tp_session_id *session) {
    unsigned type;
    uint8_t reason[2];
    raw_peer *peer = join_peer(session);
    CHECK(tp_server_disconnect_after_send(fixture.server, *session, TP_CLOSE_KICKED));
    CHECK_EQ(raw_receive_frame(peer, &type, reason, sizeof reason), 2);
    CHECK_EQ(type, TP_FRAME_CLOSE);
    return peer;
}

/* The session has not been cut: the peer's end of stream ends it. */
static void check_may_close(raw_peer *peer) {
    CHECK_EQ(atomic_load(&fixture.leaves), 0);
    raw_finish(peer);
    FIXTURE_WAIT(atomic_load(&fixture.leaves) == 1);
    CHECK_EQ(raw_end(peer), TP_ERR_CLOSED);
}

static void a_closed_peer_may_hang_up_after_a_stalled_handler(void) {
    server_fixture_init(&fixture);
    open_fixture(1);
    tp_session_id busy_id, closed_id;
    raw_peer *busy = join_peer(&busy_id);
    raw_peer *closed = join_and_receive_close(&closed_id);
    stall_worker_of(fixture.server, busy_id);
    end_stall_after(fixture.server, STALL_MS);
    pass_time(fixture.server, DRAIN_MS / 2);
    check_may_close(closed);
    raw_close(closed, false);
    raw_close(busy, false);
    close_fixture();
}

/* The same after a stop of the whole process: no worker is in a handler. */
static void a_closed_peer_may_hang_up_after_a_stalled_process(void) {
    server_fixture_init(&fixture);
    open_fixture(2);
    tp_session_id closed_id;
    raw_peer *closed = join_and_receive_close(&closed_id);
    clock_jump(STALL_MS);
    await_sweep(fixture.server);
    pass_time(fixture.server, DRAIN_MS / 2);
    check_may_close(closed);
    raw_close(closed, false);
    close_fixture();
}

static void a_closed_peer_that_does_not_hang_up_is_cut(void) {
    server_fixture_init(&fixture);
    open_fixture(1);
    tp_session_id closed_id;
    raw_peer *closed = join_and_receive_close(&closed_id);
    clock_jump(STALL_MS);
    await_sweep(fixture.server);
    pass_time(fixture.server, CATCH_UP_MS + DRAIN_MS / 2);
    CHECK_EQ(atomic_load(&fixture.leaves), 0);
    PASS_UNTIL(fixture.server, atomic_load(&fixture.leaves) == 1);
    raw_close(closed, false);
    close_fixture();
}

/* ---- silence --------------------------------------------------------------------------------- */

static void only_served_time_counts_as_silence(void) {
    server_fixture_init(&fixture);
    fixture.options.idle_timeout_ms = 1000;
    open_fixture(2);
    tp_session_id silent_id;
    raw_peer *silent = join_peer(&silent_id);
    clock_jump(STALL_MS);
    await_sweep(fixture.server);
    pass_time(fixture.server, CATCH_UP_MS + 500);
    CHECK_EQ(atomic_load(&fixture.leaves), 0);
    tp_session_info info = {.size = sizeof info};
    REQUIRE(tp_server_session_info(fixture.server, silent_id, &info));
    CHECK_LT(info.silent_ms, 1000);
    PASS_UNTIL(fixture.server, tp_server_session_count(fixture.server) == 0);
    raw_close(silent, false);
    FIXTURE_WAIT(atomic_load(&fixture.leaves) == 1);
    CHECK_EQ(atomic_load(&fixture.last_reason), TP_END_IDLE);
    close_fixture();
}

/* What the workers share goes by the server's stall: only one of all of them, and that one even
 * before any of them has noticed it. */
static void the_server_stalls_while_all_its_workers_do(void) {
    enum { LONGEST_WAIT_MS = 500 };
    server_fixture_init(&fixture);
    open_fixture(2);
    tp_session_id busy_id;
    raw_peer *busy = join_peer(&busy_id);
    stall_worker_of(fixture.server, busy_id);
    pass_time(fixture.server, STALL_MS);
    CHECK_EQ(tp__server_stall_ms(fixture.server, __wrap_tp_clock_ms()), 0);
    end_stall(fixture.server);
    CHECK_EQ(tp__server_stall_ms(fixture.server, __wrap_tp_clock_ms()), 0);
    clock_jump(STALL_MS);
    CHECK_GT(tp__server_stall_ms(fixture.server, __wrap_tp_clock_ms()), STALL_MS - LONGEST_WAIT_MS);
    await_sweep(fixture.server);
    CHECK_GT(tp__server_stall_ms(fixture.server, __wrap_tp_clock_ms()), STALL_MS - LONGEST_WAIT_MS);
    raw_close(busy, false);
    close_fixture();
}

/* ---- outgoing connections -------------------------------------------------------------------- */

enum { CALLS = 8 };

/* The connections are established, but the worker that would see it is stalled. Another worker runs
 * the sweep. */
static void a_connect_is_not_late_while_its_worker_stalls(void) {
    server_fixture_init(&fixture);
    open_fixture(2);
    tp_session_id id = TP_NO_SESSION;
    raw_peer *peers[8] = {NULL};
    unsigned count = 0;
    tp__worker *owner = NULL;
    while (count < 8 && (!owner || owner->index == 0)) { /* worker 0 accepts */
        peers[count++] = join_peer(&id);
        owner = owner_of(fixture.server, id);
        if (!owner) {
            raw_close(peers[0], true);
            close_fixture();
            SKIP("any worker may complete a connect here");
        }
    }
    REQUIRE(owner->index != 0);
    stall_worker_of(fixture.server, id);
    unsigned joined = atomic_load(&fixture.joins);
    tp_address address = tp_server_address(fixture.server);
    for (unsigned i = 0; i < CALLS; i++) {
        tp_session_id call;
        CHECK_EQ(tp_server_connect(fixture.server, &address, &call), TP_OK);
    }
    pass_time(fixture.server, 2 * CONNECT_MS);
    end_stall(fixture.server);
    FIXTURE_WAIT(
        atomic_load(&fixture.joins) == joined + 2 * CALLS || atomic_load(&fixture.leaves) > 0);
    CHECK_EQ(atomic_load(&fixture.leaves), 0);
    for (unsigned i = 0; i < count; i++) {
        raw_close(peers[i], true);
    }
    close_fixture();
}

/* ---- peers that read ------------------------------------------------------------------------- */

enum { LIMIT = 65536, SIZE = 10000 };

static bool send_one(tp_session_id to) {
    static const uint8_t bytes[SIZE];
    tp_packet *packet = tp_packet_copy_of(bytes, sizeof bytes);
    REQUIRE(packet != NULL);
    bool taken = tp_server_send(fixture.server, to, packet);
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
    REQUIRE(tp_server_session_info(fixture.server, session, &info));
    return info.queued_bytes;
}

static uint64_t refused(void) {
    tp_server_stats stats = {.size = sizeof stats};
    tp_server_get_stats(fixture.server, &stats);
    return stats.refused;
}

/* The only worker is in another session's handler and no time passes: the full queue is the
 * server's own doing. */
static void a_reader_is_not_ended_while_the_worker_stalls(void) {
    server_fixture_init(&fixture);
    fixture.options.queue_bytes = LIMIT;
    open_fixture(1);
    tp_session_id busy_id, reader_id;
    raw_peer *busy = join_peer(&busy_id);
    raw_peer *reader = join_peer(&reader_id);
    stall_worker_of(fixture.server, busy_id);
    unsigned sent = 0;
    while (sent < 10000 && send_one(reader_id)) {
        sent++;
    }
    CHECK_GT(sent, LIMIT / SIZE);
    CHECK_LE(queued_bytes(reader_id), TP_QUEUE_STALL_FACTOR * LIMIT);
    CHECK_GT(queued_bytes(reader_id), TP_QUEUE_STALL_FACTOR * LIMIT - 2 * SIZE);
    CHECK(!send_one(reader_id)); /* refused and counted, nothing more */
    CHECK_EQ(refused(), 2);
    end_stall(fixture.server);
    take_all(reader, sent);
    FIXTURE_WAIT(queued_bytes(reader_id) == 0);
    CHECK(send_one(reader_id));
    take_all(reader, 1);
    CHECK_EQ(atomic_load(&fixture.leaves), 0);
    raw_close(reader, false);
    raw_close(busy, false);
    close_fixture();
}

static bool is_sending(tp_session_id session) {
    tp__session *slot = &fixture.server->sessions[tp_session_slot(session)];
    return atomic_load(&slot->sending_since_ms) > 0;
}

/* Sends until a send is in progress that the system does not complete, and more is queued behind
 * it. */
static unsigned send_until_one_waits(tp_session_id to) {
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

/* The system's buffers were full, and the peer has emptied them, but the stalled worker could not
 * see it. */
static void a_reader_is_not_ended_after_a_stall(void) {
    server_fixture_init(&fixture);
    fixture.options.queue_bytes = LIMIT;
    open_fixture(1);
    tp_session_id busy_id, reader_id;
    raw_peer *busy = join_peer(&busy_id);
    raw_peer *reader = join_peer(&reader_id);
    unsigned sent = send_until_one_waits(reader_id);
    stall_worker_of(fixture.server, busy_id);
    clock_jump(STALL_MS);
    for (unsigned i = 0; i < 2 * LIMIT / SIZE; i++) {
        CHECK(send_one(reader_id));
        sent++;
    }
    end_stall(fixture.server);
    pass_time(fixture.server, STALL_STEP_MS);
    for (unsigned i = 0; i < LIMIT / SIZE; i++) { /* the peer has had no time to catch up */
        CHECK(send_one(reader_id));
        sent++;
    }
    take_all(reader, sent);
    CHECK_EQ(atomic_load(&fixture.leaves), 0);
    raw_close(reader, false);
    raw_close(busy, false);
    close_fixture();
}

static void check_is_ended(tp_session_id session) {
    for (unsigned i = 0; i < 10000 && send_one(session); i++) {
    }
    FIXTURE_WAIT(atomic_load(&fixture.leaves) == 1);
    CHECK_EQ(atomic_load(&fixture.last_reason), TP_END_OVERLOAD);
}

static raw_peer *join_without_reading(tp_session_id *id) {
    server_fixture_init(&fixture);
    fixture.options.queue_bytes = LIMIT;
    open_fixture(1);
    raw_peer *reader = join_peer(id);
    (void)send_until_one_waits(*id);
    return reader;
}

static void a_peer_that_does_not_read_is_ended(void) {
    tp_session_id id;
    raw_peer *reader = join_without_reading(&id);
    check_is_ended(id);
    raw_close(reader, true);
    close_fixture();
}

/* However often the server stalls meanwhile, the peer has had two seconds of served time. */
static void a_peer_that_does_not_read_is_ended_despite_stalls(void) {
    tp_session_id id;
    raw_peer *reader = join_without_reading(&id);
    clock_jump(STALL_MS);
    await_sweep(fixture.server);
    while (send_one(id)) {
    }
    /* For a while the stall may be the reason that the peer has not read. */
    CHECK_GT(queued_bytes(id), LIMIT);
    for (unsigned i = 0; i < 200 && atomic_load(&fixture.leaves) == 0; i++) {
        clock_jump(400);
        await_sweep(fixture.server);
        (void)send_one(id);
    }
    FIXTURE_WAIT(atomic_load(&fixture.leaves) == 1);
    CHECK_EQ(atomic_load(&fixture.last_reason), TP_END_OVERLOAD);
    raw_close(reader, true);
    close_fixture();
}

CHECK_MAIN(CASE(a_closed_peer_may_hang_up_after_a_stalled_handler),
    CASE(a_closed_peer_may_hang_up_after_a_stalled_process),
    CASE(a_closed_peer_that_does_not_hang_up_is_cut), CASE(only_served_time_counts_as_silence),
    CASE(the_server_stalls_while_all_its_workers_do),
    CASE(a_connect_is_not_late_while_its_worker_stalls),
    CASE(a_reader_is_not_ended_while_the_worker_stalls), CASE(a_reader_is_not_ended_after_a_stall),
    CASE(a_peer_that_does_not_read_is_ended),
    CASE(a_peer_that_does_not_read_is_ended_despite_stalls))
