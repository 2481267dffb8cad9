/*
 * Stalls of the WAN server must not count against players: rates, handshake deadlines, waiting
 * connections. A player that sends too much, or nothing, is still ended. Time is the test's own
 * (stall_fixture.h).
 */
#include "stall_fixture.h"

#include "wan_fixture.h"

enum { STALL_MS = 5000, CATCH_UP_MS = 2000 };

static wan_fixture fixture;
static wan_peer *busy;

/* With one player, on the server's only worker, which the cases stall. */
static void open_fixture(void) {
    clock_stop();
    wan_fixture_open(&fixture);
    busy = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    wan_check_echo(busy, "x");
}

static void close_fixture(void) {
    atomic_store(&stall_stopped_at_ms, 0);
    wan_leave(busy);
    wan_fixture_close(&fixture);
}

static void stall_the_worker(void) {
    stall_worker_of(fixture.base.server, busy->terms.session);
}

static void end_the_stall(void) {
    end_stall_after(fixture.base.server, STALL_MS);
}

static void pass_server_time(unsigned ms) {
    pass_time(fixture.base.server, ms);
}

/* ---- rates ----------------------------------------------------------------------------------- */

enum { RATE = 200, BURST = 50 };

static wan_peer *join_limited(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.options.message_rate = RATE;
    fixture.options.message_burst = BURST;
    open_fixture();
    return wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 2);
}

/* Sends messages of one byte, each in a record. */
static void send_messages(wan_peer *peer, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        CHECK(wan_send_frame(peer, TP_FRAME_DATA, "m", 1));
    }
}

static void receive_messages(wan_peer *peer, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        char byte;
        unsigned type = 99;
        REQUIRE(wan_receive_frame(peer, &type, &byte, 1) == 1);
        CHECK_EQ(type, TP_FRAME_DATA);
    }
}

/* Half of the allowed rate, all of which is processed right after the stall; and the same again
 * later. */
static void half_of_the_allowed_rate_is_not_limited_by_stalls(void) {
    wan_peer *peer = join_limited();
    for (unsigned round = 0; round < 3; round++) {
        stall_the_worker();
        send_messages(peer, RATE / 2 * STALL_MS / 1000);
        end_the_stall();
        receive_messages(peer, RATE / 2 * STALL_MS / 1000);
        pass_server_time(500);
    }
    CHECK_EQ(wan_stats(&fixture).rate_limited, 0);
    wan_leave(peer);
    close_fixture();
}

/* The player's own handler blocks, and the other messages are in the same record: no round of the
 * worker has begun since. */
static void messages_of_one_record_are_not_limited_by_a_stall(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.base.on_message = fixture_block_on_b;
    fixture.options.message_rate = RATE;
    fixture.options.message_burst = BURST;
    open_fixture();
    wan_peer *peer = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 2);
    enum { COUNT = 4 * BURST };
    uint8_t plain[COUNT * (TP_FRAME_HEADER + 1)];
    for (unsigned i = 0; i < COUNT; i++) {
        uint8_t *frame = plain + i * (TP_FRAME_HEADER + 1);
        tp_frame_write(frame, TP_FRAME_DATA, 1);
        frame[TP_FRAME_HEADER] = i == 0 ? 'b' : 'm';
    }
    CHECK(wan_send_record(peer, plain, sizeof plain));
    FIXTURE_WAIT(atomic_load(&fixture.base.blocked));
    clock_jump(STALL_MS);
    atomic_store(&fixture.base.unblock, true);
    receive_messages(peer, COUNT);
    wan_leave(peer);
    close_fixture();
}

static void more_than_the_allowed_rate_is_limited(void) {
    wan_peer *peer = join_limited();
    stall_the_worker();
    send_messages(peer, RATE * STALL_MS / 1000 + 2 * BURST);
    end_the_stall();
    CHECK_EQ(wan_receive_close(peer), TP_CLOSE_RATE);
    wan_close(peer, false);
    FIXTURE_WAIT(wan_stats(&fixture).rate_limited == 1);
    close_fixture();
}

/* Credit of a stall is not kept. */
static void the_credit_of_a_stall_lapses(void) {
    wan_peer *peer = join_limited();
    stall_the_worker();
    end_the_stall();
    pass_server_time(STALL_MS);
    send_messages(peer, 2 * BURST);
    CHECK_EQ(wan_receive_close(peer), TP_CLOSE_RATE);
    wan_close(peer, false);
    FIXTURE_WAIT(wan_stats(&fixture).rate_limited == 1);
    close_fixture();
}

static void bytes_are_not_limited_by_a_stall(void) {
    enum { BYTES = 65536, PIECE = 8192 };
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.options.server.max_frame = 32768;
    fixture.options.byte_rate = BYTES;
    fixture.options.byte_burst = BYTES;
    fixture.base.echo = false;
    clock_stop();
    wan_fixture_open(&fixture);
    busy = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    wan_peer *peer = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 2);
    static const uint8_t piece[PIECE];
    stall_the_worker();
    for (unsigned i = 0; i < 2 * BYTES / PIECE; i++) { /* as much as a socket's buffer holds */
        CHECK(wan_send_frame(peer, TP_FRAME_DATA, piece, sizeof piece));
    }
    end_the_stall();
    FIXTURE_WAIT(atomic_load(&fixture.base.messages) == 2 * BYTES / PIECE);
    CHECK_EQ(wan_stats(&fixture).rate_limited, 0);
    wan_leave(peer);
    close_fixture();
}

/* ---- new connections ------------------------------------------------------------------------- */

enum { NEWCOMERS = 20, HANDSHAKE_MS = 1000 };

static void open_for_newcomers(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.options.handshake_timeout_ms = HANDSHAKE_MS;
    open_fixture();
}

static void a_hello_in_the_socket_of_a_stalled_worker_is_not_late(void) {
    open_for_newcomers();
    const wan_login login = wan_login_as(&fixture, TP_SUITE_AES_256_GCM, 2);
    wan_peer *peers[NEWCOMERS];
    for (unsigned i = 0; i < NEWCOMERS; i++) {
        peers[i] = wan_fixture_connect(&fixture, &login);
    }
    FIXTURE_WAIT(wan_stats(&fixture).pending == NEWCOMERS);
    stall_the_worker();
    for (unsigned i = 0; i < NEWCOMERS; i++) {
        CHECK(wan_send_hello(peers[i]));
    }
    end_the_stall();
    for (unsigned i = 0; i < NEWCOMERS; i++) {
        REQUIRE(wan_take_reply(peers[i]));
        CHECK(wan_send_ready(peers[i]));
        wan_check_echo(peers[i], "in");
    }
    CHECK_EQ(wan_stats(&fixture).late, 0);
    for (unsigned i = 0; i < NEWCOMERS; i++) {
        wan_leave(peers[i]);
    }
    close_fixture();
}

static void a_connection_without_hello_is_late_by_served_time(void) {
    open_for_newcomers();
    const wan_login login = wan_login_as(&fixture, TP_SUITE_AES_256_GCM, 2);
    wan_peer *peer = wan_fixture_connect(&fixture, &login);
    FIXTURE_WAIT(wan_stats(&fixture).pending == 1);
    stall_the_worker();
    end_the_stall();
    pass_server_time(CATCH_UP_MS + HANDSHAKE_MS / 2);
    CHECK_EQ(wan_stats(&fixture).late, 0);
    PASS_UNTIL(fixture.base.server, wan_stats(&fixture).late == 1);
    wan_close(peer, false);
    close_fixture();
}

enum { ACCEPT_RATE = 10, ACCEPT_BURST = 5, WAITING = ACCEPT_RATE * STALL_MS / 1000 - 10 };

/* They connected at less than the allowed rate, and are all accepted right after the stall. */
static void connections_that_waited_in_a_stall_are_not_limited(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.options.accept_rate = ACCEPT_RATE;
    fixture.options.accept_burst = ACCEPT_BURST;
    open_fixture();
    tp_address address = tp_server_address(fixture.base.server);
    raw_peer *peers[2 * WAITING];
    stall_the_worker();
    for (unsigned i = 0; i < WAITING; i++) {
        peers[i] = raw_connect(&address);
        REQUIRE(peers[i] != NULL);
    }
    end_the_stall();
    FIXTURE_WAIT(wan_stats(&fixture).pending + wan_stats(&fixture).limited == WAITING);
    CHECK_EQ(wan_stats(&fixture).limited, 0);
    /* A higher rate is refused all the same. */
    for (unsigned i = WAITING; i < 2 * WAITING; i++) {
        peers[i] = raw_connect(&address); /* NULL: reset immediately */
    }
    FIXTURE_WAIT(wan_stats(&fixture).pending + wan_stats(&fixture).limited == 2 * WAITING);
    CHECK_GE(wan_stats(&fixture).limited, WAITING - ACCEPT_BURST - 10);
    for (unsigned i = 0; i < 2 * WAITING; i++) {
        if (peers[i] != NULL) {
            raw_close(peers[i], false);
        }
    }
    close_fixture();
}

static atomic_bool jumps;

/* A handler that blocks for STALL_MS, once. */
static bool jump_once(tp_server *server, const tp_address *peer) {
    (void)server, (void)peer;
    if (atomic_exchange(&jumps, false)) {
        clock_jump(STALL_MS);
    }
    return true;
}

/* The worker has not noticed the stall yet: it accepts the others in the same round. */
static void connections_behind_one_that_stalls_the_round_are_not_limited(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.options.accept_rate = ACCEPT_RATE;
    fixture.options.accept_burst = ACCEPT_BURST;
    fixture.base.handlers.on_connection_request = jump_once;
    open_fixture();
    tp_address address = tp_server_address(fixture.base.server);
    raw_peer *peers[NEWCOMERS];
    stall_the_worker();
    for (unsigned i = 0; i < NEWCOMERS; i++) {
        peers[i] = raw_connect(&address);
        REQUIRE(peers[i] != NULL);
    }
    atomic_store(&jumps, true);
    end_stall(fixture.base.server);
    FIXTURE_WAIT(wan_stats(&fixture).pending + wan_stats(&fixture).limited == NEWCOMERS);
    CHECK_EQ(wan_stats(&fixture).limited, 0);
    for (unsigned i = 0; i < NEWCOMERS; i++) {
        raw_close(peers[i], false);
    }
    close_fixture();
}

/* The other worker serves meanwhile, so nothing waits. */
static void a_stall_of_one_worker_does_not_lift_the_limit(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.options.server.workers = 2;
    fixture.options.accept_rate = ACCEPT_RATE;
    fixture.options.accept_burst = ACCEPT_BURST;
    open_fixture();
    tp_address address = tp_server_address(fixture.base.server);
    raw_peer *peers[NEWCOMERS];
    stall_the_worker();
    pass_server_time(STALL_MS);
    for (unsigned i = 0; i < NEWCOMERS; i++) {
        peers[i] = raw_connect(&address); /* NULL: reset immediately */
    }
    /* The port hands the listener over to the other worker after a time, which is less than the
     * limiter needs to allow that many. */
    PASS_UNTIL(fixture.base.server,
        wan_stats(&fixture).pending + wan_stats(&fixture).limited == NEWCOMERS);
    CHECK_GE(wan_stats(&fixture).limited, NEWCOMERS - 2 * ACCEPT_BURST);
    end_stall(fixture.base.server);
    for (unsigned i = 0; i < NEWCOMERS; i++) {
        if (peers[i] != NULL) {
            raw_close(peers[i], false);
        }
    }
    close_fixture();
}

CHECK_MAIN(CASE(half_of_the_allowed_rate_is_not_limited_by_stalls),
    CASE(messages_of_one_record_are_not_limited_by_a_stall),
    CASE(more_than_the_allowed_rate_is_limited), CASE(the_credit_of_a_stall_lapses),
    CASE(bytes_are_not_limited_by_a_stall),
    CASE(a_hello_in_the_socket_of_a_stalled_worker_is_not_late),
    CASE(a_connection_without_hello_is_late_by_served_time),
    CASE(connections_that_waited_in_a_stall_are_not_limited),
    CASE(connections_behind_one_that_stalls_the_round_are_not_limited),
    CASE(a_stall_of_one_worker_does_not_lift_the_limit))
