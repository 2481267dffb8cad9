/*
 * We stood still, and no player pays for it: rates, handshakes, those who wait to be accepted. And
 * who says too much, or nothing, himself still does. By a clock that the test moves: stall_stage.h.
 */
#include "stall_stage.h"

#include "wan_stage.h"

enum { STALL_MS = 5000, CATCH_UP_MS = 2000 };

static wan_stage stage;
static wan_peer *busy;

/* With one player, whose worker the tests hold up: the only one. */
static void open_stage(void) {
    clock_stop();
    wan_stage_open(&stage);
    busy = wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 1);
    wan_check_echo(busy, "x");
}

static void close_stage(void) {
    atomic_store(&stall_stopped_at_ms, 0);
    wan_leave(busy);
    wan_stage_close(&stage);
}

static void hold_the_worker(void) {
    hold_worker_of(stage.base.server, busy->terms.session);
}

static void worker_stood_still(void) {
    worker_has_stood_still(stage.base.server, STALL_MS);
}

static void pass_here(unsigned ms) {
    pass(stage.base.server, ms);
}

/* ---- rates ----------------------------------------------------------------------------------- */

enum { RATE = 200, BURST = 50 };

static wan_peer *join_limited(void) {
    wan_stage_init(&stage, TP_AUTH_OPEN);
    stage.options.message_rate = RATE;
    stage.options.message_burst = BURST;
    open_stage();
    return wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 2);
}

/* So many messages of one byte, each in a record. */
static void say(wan_peer *peer, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        CHECK(wan_send_frame(peer, TP_FRAME_DATA, "m", 1));
    }
}

static void hear(wan_peer *peer, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        char byte;
        unsigned type = 99;
        REQUIRE(wan_receive_frame(peer, &type, &byte, 1) == 1);
        CHECK_EQ(type, TP_FRAME_DATA);
    }
}

/* Half of what he may say, all of it at once when we are back; and at once again a while later. */
static void who_says_half_of_what_he_may_is_not_limited(void) {
    wan_peer *peer = join_limited();
    for (unsigned round = 0; round < 3; round++) {
        hold_the_worker();
        say(peer, RATE / 2 * STALL_MS / 1000);
        worker_stood_still();
        hear(peer, RATE / 2 * STALL_MS / 1000);
        pass_here(500);
    }
    CHECK_EQ(wan_stats(&stage).rate_limited, 0);
    wan_leave(peer);
    close_stage();
}

/* It is his own handler that holds us up, and the rest is in the same bytes: no round of the worker
 * has begun since. */
static void what_is_in_the_same_bytes_is_not_limited(void) {
    wan_stage_init(&stage, TP_AUTH_OPEN);
    stage.base.on_message = stage_block_on_b;
    stage.options.message_rate = RATE;
    stage.options.message_burst = BURST;
    open_stage();
    wan_peer *peer = wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 2);
    enum { COUNT = 4 * BURST };
    uint8_t plain[COUNT * (TP_FRAME_HEADER + 1)];
    for (unsigned i = 0; i < COUNT; i++) {
        uint8_t *frame = plain + i * (TP_FRAME_HEADER + 1);
        tp_frame_write(frame, TP_FRAME_DATA, 1);
        frame[TP_FRAME_HEADER] = i == 0 ? 'b' : 'm';
    }
    CHECK(wan_send_record(peer, plain, sizeof plain));
    STAGE_WAIT(atomic_load(&stage.base.blocked));
    clock_jump(STALL_MS);
    atomic_store(&stage.base.let_go, true);
    hear(peer, COUNT);
    wan_leave(peer);
    close_stage();
}

static void who_says_more_than_he_may_is_limited(void) {
    wan_peer *peer = join_limited();
    hold_the_worker();
    say(peer, RATE * STALL_MS / 1000 + 2 * BURST);
    worker_stood_still();
    CHECK_EQ(wan_receive_close(peer), TP_CLOSE_RATE);
    wan_close(peer, false);
    STAGE_WAIT(wan_stats(&stage).rate_limited == 1);
    close_stage();
}

/* Nobody saves it up. */
static void what_a_stall_leaves_lapses(void) {
    wan_peer *peer = join_limited();
    hold_the_worker();
    worker_stood_still();
    pass_here(STALL_MS);
    say(peer, 2 * BURST);
    CHECK_EQ(wan_receive_close(peer), TP_CLOSE_RATE);
    wan_close(peer, false);
    STAGE_WAIT(wan_stats(&stage).rate_limited == 1);
    close_stage();
}

static void bytes_are_counted_likewise(void) {
    enum { BYTES = 65536, PIECE = 8192 };
    wan_stage_init(&stage, TP_AUTH_OPEN);
    stage.options.server.max_frame = 32768;
    stage.options.byte_rate = BYTES;
    stage.options.byte_burst = BYTES;
    stage.base.echo = false;
    clock_stop();
    wan_stage_open(&stage);
    busy = wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 1);
    wan_peer *peer = wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 2);
    static const uint8_t piece[PIECE];
    hold_the_worker();
    for (unsigned i = 0; i < 2 * BYTES / PIECE; i++) { /* what a socket holds */
        CHECK(wan_send_frame(peer, TP_FRAME_DATA, piece, sizeof piece));
    }
    worker_stood_still();
    STAGE_WAIT(atomic_load(&stage.base.messages) == 2 * BYTES / PIECE);
    CHECK_EQ(wan_stats(&stage).rate_limited, 0);
    wan_leave(peer);
    close_stage();
}

/* ---- who comes ------------------------------------------------------------------------------- */

enum { NEWCOMERS = 20, HANDSHAKE_MS = 1000 };

static void open_for_newcomers(void) {
    wan_stage_init(&stage, TP_AUTH_OPEN);
    stage.options.handshake_timeout_ms = HANDSHAKE_MS;
    open_stage();
}

static void a_hello_that_lies_in_the_socket_is_not_late(void) {
    open_for_newcomers();
    const wan_login login = wan_login_as(&stage, TP_SUITE_AES_256_GCM, 2);
    wan_peer *peers[NEWCOMERS];
    for (unsigned i = 0; i < NEWCOMERS; i++) {
        peers[i] = wan_stage_connect(&stage, &login);
    }
    STAGE_WAIT(wan_stats(&stage).pending == NEWCOMERS);
    hold_the_worker();
    for (unsigned i = 0; i < NEWCOMERS; i++) {
        CHECK(wan_send_hello(peers[i]));
    }
    worker_stood_still();
    for (unsigned i = 0; i < NEWCOMERS; i++) {
        REQUIRE(wan_take_reply(peers[i]));
        CHECK(wan_send_ready(peers[i]));
        wan_check_echo(peers[i], "in");
    }
    CHECK_EQ(wan_stats(&stage).late, 0);
    for (unsigned i = 0; i < NEWCOMERS; i++) {
        wan_leave(peers[i]);
    }
    close_stage();
}

static void who_says_no_hello_is_late(void) {
    open_for_newcomers();
    const wan_login login = wan_login_as(&stage, TP_SUITE_AES_256_GCM, 2);
    wan_peer *peer = wan_stage_connect(&stage, &login);
    STAGE_WAIT(wan_stats(&stage).pending == 1);
    hold_the_worker();
    worker_stood_still();
    pass_here(CATCH_UP_MS + HANDSHAKE_MS / 2);
    CHECK_EQ(wan_stats(&stage).late, 0);
    PASS_UNTIL(stage.base.server, wan_stats(&stage).late == 1);
    wan_close(peer, false);
    close_stage();
}

enum { ACCEPT_RATE = 10, ACCEPT_BURST = 5, WAITING = ACCEPT_RATE * STALL_MS / 1000 - 10 };

/* They came at less than the rate, and are all there when we are back. */
static void who_waits_to_be_accepted_is_not_too_fast(void) {
    wan_stage_init(&stage, TP_AUTH_OPEN);
    stage.options.accept_rate = ACCEPT_RATE;
    stage.options.accept_burst = ACCEPT_BURST;
    open_stage();
    tp_address address = tp_server_address(stage.base.server);
    raw_peer *peers[2 * WAITING];
    hold_the_worker();
    for (unsigned i = 0; i < WAITING; i++) {
        peers[i] = raw_connect(&address);
        REQUIRE(peers[i] != NULL);
    }
    worker_stood_still();
    STAGE_WAIT(wan_stats(&stage).pending + wan_stats(&stage).limited == WAITING);
    CHECK_EQ(wan_stats(&stage).limited, 0);
    /* And who comes faster than he may is not let in. */
    for (unsigned i = WAITING; i < 2 * WAITING; i++) {
        peers[i] = raw_connect(&address); /* NULL: it was reset at once */
    }
    STAGE_WAIT(wan_stats(&stage).pending + wan_stats(&stage).limited == 2 * WAITING);
    CHECK_GE(wan_stats(&stage).limited, WAITING - ACCEPT_BURST - 10);
    for (unsigned i = 0; i < 2 * WAITING; i++) {
        if (peers[i] != NULL) {
            raw_close(peers[i], false);
        }
    }
    close_stage();
}

CHECK_MAIN(CASE(who_says_half_of_what_he_may_is_not_limited),
    CASE(what_is_in_the_same_bytes_is_not_limited), CASE(who_says_more_than_he_may_is_limited),
    CASE(what_a_stall_leaves_lapses), CASE(bytes_are_counted_likewise),
    CASE(a_hello_that_lies_in_the_socket_is_not_late), CASE(who_says_no_hello_is_late),
    CASE(who_waits_to_be_accepted_is_not_too_fast))
