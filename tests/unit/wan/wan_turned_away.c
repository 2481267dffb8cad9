/*
 * How refused connections end: by a reset, and an answer sent to them arrives before. On Linux
 * /proc/net/tcp shows what the system keeps of them on the server's port.
 */
#include "wan_fixture.h"
#include "wanserver/wan.h"

static wan_fixture fixture;

enum { TIMES = 25, TRIES = 100 };

/* ---- what the system keeps ------------------------------------------------------------------- */

/* Connections in TIME_WAIT on the server's side; -1: not known here. */
static long time_waits(void) {
    enum { IN_TIME_WAIT = 6 };
    unsigned port = tp_server_address(fixture.base.server).port;
    FILE *file = fopen("/proc/net/tcp", "r");
    if (!file) {
        return -1;
    }
    long count = 0;
    char line[512];
    while (fgets(line, sizeof line, file)) {
        unsigned own_port, state;
        count += sscanf(line, " %*u: %*[0-9A-F]:%X %*[0-9A-F]:%*X %X", &own_port, &state) == 2 &&
                 own_port == port && state == IN_TIME_WAIT;
    }
    fclose(file);
    return count;
}

/* Checks that all connections so far are closed and that none of them is in TIME_WAIT. There may be
 * some of an earlier use of the port, which end meanwhile. */
static void check_nothing_is_left(long before) {
    FIXTURE_WAIT(atomic_load(&fixture.base.server->slots_used) == 0);
    if (before < 0) {
        SKIP("no /proc/net/tcp here");
    }
    CHECK_LE(time_waits(), before);
}

static raw_peer *connect_raw(void) {
    tp_address address = tp_server_address(fixture.base.server);
    return raw_connect(&address);
}

/* ---- without an answer ----------------------------------------------------------------------- */

/* Sends the bytes and waits for the end. A connection that is reset before it is established counts
 * as reset. */
static tp_err send_and_be_ended(const void *bytes, size_t size) {
    raw_peer *peer = connect_raw();
    if (!peer) {
        return TP_ERR_RESET;
    }
    uint8_t byte;
    if (size > 0) {
        (void)raw_send(peer, bytes, size);
    }
    CHECK(!raw_receive(peer, &byte, 1));
    tp_err end = raw_end(peer);
    raw_close(peer, false); /* in order, as any client may */
    return end;
}

/* Wine reports a reset between two receives as an orderly end: there it gets more tries. */
static void check_is_reset(const void *bytes, size_t size) {
    tp_err end = send_and_be_ended(bytes, size);
    bool may_miss_it = strcmp(tp_server_io(fixture.base.server), "iocp") == 0;
    for (unsigned i = 0; may_miss_it && end == TP_ERR_CLOSED && i < TRIES; i++) {
        end = send_and_be_ended(bytes, size);
    }
    CHECK_EQ(end, TP_ERR_RESET);
}

static void check_all_are_reset(const void *bytes, size_t size) {
    long before = time_waits();
    for (unsigned i = 0; i < TIMES; i++) {
        check_is_reset(bytes, size);
    }
    check_nothing_is_left(before);
}

static void a_denied_connection_is_reset(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    atomic_store(&fixture.base.deny, true);
    wan_fixture_open(&fixture);
    check_all_are_reset("", 0);
    wan_fixture_close(&fixture);
}

static void a_banned_connection_is_reset(void) {
    tp_network here;
    REQUIRE(tp_network_parse("127.0.0.0/8", &here) == TP_OK);
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    wan_fixture_open(&fixture);
    CHECK_EQ(tp_wanserver_ban(fixture.base.server, &here, 0), TP_OK);
    check_all_are_reset("", 0);
    wan_fixture_close(&fixture);
}

static void a_connection_of_another_protocol_is_reset(void) {
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    wan_fixture_open(&fixture);
    check_all_are_reset("GET / HTTP/1.1\r\n\r\n", 18);
    wan_fixture_close(&fixture);
}

static void a_connection_with_a_bad_token_is_reset(void) {
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    wan_fixture_open(&fixture);
    wan_login login = wan_login_as(&fixture, TP_SUITE_AES_256_GCM, 1);
    login.secret[0] ^= 1;
    wan_peer *forger = wan_fixture_connect(&fixture, &login); /* only its HELLO is used */
    long before = time_waits();
    for (unsigned i = 0; i < TIMES; i++) {
        check_is_reset(forger->hello, forger->hello_size);
    }
    wan_close(forger, true);
    check_nothing_is_left(before);
    wan_fixture_close(&fixture);
}

/* Sends nothing until the deadline. */
static void a_late_connection_is_reset(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.options.handshake_timeout_ms = 100;
    wan_fixture_open(&fixture);
    long before = time_waits();
    check_is_reset("", 0);
    check_nothing_is_left(before);
    wan_fixture_close(&fixture);
}

/* ---- with an answer -------------------------------------------------------------------------- */

/* Gets an answer: the server's version. */
static raw_peer *connect_and_be_answered(void) {
    uint8_t reply[TP_REPLY_VERSION];
    raw_peer *peer = connect_raw();
    REQUIRE(peer != NULL);
    CHECK(raw_send(peer, "TPW2", 4));
    CHECK(raw_receive(peer, reply, sizeof reply));
    CHECK_EQ(reply[0], TP_REPLY_IS_VERSION);
    return peer;
}

/* The peer closes first, so the end is orderly for both. */
static void an_answered_peer_closes_in_order(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.options.server.drain_timeout_ms = 600000;
    wan_fixture_open(&fixture);
    long before = time_waits();
    for (unsigned i = 0; i < TIMES; i++) {
        raw_peer *peer = connect_and_be_answered();
        raw_finish(peer);
        CHECK_EQ(raw_end(peer), TP_ERR_CLOSED);
        raw_close(peer, false);
    }
    check_nothing_is_left(before);
    wan_fixture_close(&fixture);
}

static void an_answered_peer_that_does_not_close_is_reset(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.options.server.drain_timeout_ms = 100;
    wan_fixture_open(&fixture);
    long before = time_waits();
    tp_err end = TP_ERR_CLOSED;
    bool may_miss_it = strcmp(tp_server_io(fixture.base.server), "iocp") == 0;
    for (unsigned i = 0; end == TP_ERR_CLOSED && i < (may_miss_it ? TRIES : 1u); i++) {
        raw_peer *peer = connect_and_be_answered();
        end = raw_end(peer);
        raw_close(peer, false);
    }
    CHECK_EQ(end, TP_ERR_RESET);
    check_nothing_is_left(before);
    wan_fixture_close(&fixture);
}

/* CLOSE `full` in a record, after a valid handshake. */
static void a_player_told_full_closes_in_order(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.options.server.max_sessions = 1;
    fixture.options.server.drain_timeout_ms = 600000;
    wan_fixture_open(&fixture);
    long before = time_waits();
    wan_peer *first = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    wan_check_echo(first, "in");
    for (unsigned i = 0; i < TIMES; i++) {
        wan_peer *player = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 2);
        CHECK_EQ(wan_receive_close(player), TP_CLOSE_FULL);
        raw_finish(player->raw);
        CHECK_EQ(raw_end(player->raw), TP_ERR_CLOSED);
        wan_close(player, false);
    }
    raw_finish(first->raw);
    (void)raw_end(first->raw);
    wan_close(first, false);
    check_nothing_is_left(before);
    wan_fixture_close(&fixture);
}

/* A player that broke the protocol or was kicked gets a CLOSE; then the same holds. */
static void a_player_that_is_ended_closes_in_order(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.options.server.drain_timeout_ms = 600000;
    wan_fixture_open(&fixture);
    long before = time_waits();
    for (unsigned i = 0; i < TIMES; i++) {
        wan_peer *player = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
        wan_check_echo(player, "in");
        if (i % 2) {
            CHECK(wan_send_frame(player, TP_FRAME_PING, "0123456789abcdef0123456789abcdef!", 33));
            CHECK_EQ(wan_receive_close(player), TP_CLOSE_PROTOCOL);
        } else {
            tp_session_id id = atomic_load(&fixture.base.last_joined);
            CHECK(tp_server_turn_away(fixture.base.server, id, TP_CLOSE_KICKED));
            CHECK(!tp_server_turn_away(fixture.base.server, id, TP_CLOSE_KICKED));
            CHECK_EQ(wan_receive_close(player), TP_CLOSE_KICKED);
        }
        raw_finish(player->raw);
        CHECK_EQ(raw_end(player->raw), TP_ERR_CLOSED);
        wan_close(player, false);
    }
    check_nothing_is_left(before);
    wan_fixture_close(&fixture);
}

CHECK_MAIN(CASE(a_denied_connection_is_reset), CASE(a_banned_connection_is_reset),
    CASE(a_connection_of_another_protocol_is_reset), CASE(a_connection_with_a_bad_token_is_reset),
    CASE(a_late_connection_is_reset), CASE(an_answered_peer_closes_in_order),
    CASE(an_answered_peer_that_does_not_close_is_reset), CASE(a_player_told_full_closes_in_order),
    CASE(a_player_that_is_ended_closes_in_order))
