/*
 * Players of the WAN server as the application sees them: join, identity, end reasons, stop and
 * start. In both suites and both modes.
 */
#include "wan_fixture.h"

static wan_fixture fixture;

static uint8_t out[(1u << 20) + 64];
static uint8_t in[(1u << 20) + 64];

/* ---- joining and leaving --------------------------------------------------------------------- */

static void check_join_talk_and_leave(tp_auth auth, tp_suite suite) {
    wan_fixture_init(&fixture, auth);
    wan_fixture_open(&fixture);
    wan_peer *peer = wan_fixture_join(&fixture, suite, 7);
    wan_check_echo(peer, "hello");
    CHECK_EQ(atomic_load(&fixture.base.joins), 1);
    CHECK_EQ(tp_server_session_count(fixture.base.server), 1);
    CHECK_EQ(peer->terms.session, atomic_load(&fixture.base.last_joined));
    CHECK_EQ(peer->terms.max_payload, fixture.options.server.max_frame);
    CHECK_EQ(peer->terms.heartbeat_seconds, 30);
    wan_leave(peer);
    wan_fixture_wait_left(&fixture, 1, TP_END_PEER_CLOSED);
    wan_fixture_close(&fixture);
}

static void players_join_talk_and_leave(void) {
    static const tp_suite suites[] = WAN_SUITES;
    for (unsigned i = 0; i < 2; i++) {
        check_join_talk_and_leave(TP_AUTH_OPEN, suites[i]);
        check_join_talk_and_leave(TP_AUTH_TOKEN, suites[i]);
    }
}

/* HELLO and REPLY make no session: on_join is called after READY. */
static void there_is_no_session_before_ready(void) {
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    wan_fixture_open(&fixture);
    const wan_login login = wan_login_as(&fixture, TP_SUITE_AES_256_GCM, 1);
    wan_peer *peer = wan_fixture_connect(&fixture, &login);
    CHECK(wan_send_hello(peer));
    CHECK(wan_take_reply(peer));
    CHECK_EQ(wan_stats(&fixture).pending, 1);
    CHECK_EQ(wan_stats(&fixture).established, 0);
    CHECK_EQ(atomic_load(&fixture.base.joins), 0);
    CHECK_EQ(tp_server_session_count(fixture.base.server), 0);
    CHECK(!tp_server_disconnect(fixture.base.server, peer->terms.session));
    CHECK(wan_send_ready(peer));
    wan_check_echo(peer, "now");
    CHECK_EQ(atomic_load(&fixture.base.joins), 1);
    CHECK_EQ(wan_stats(&fixture).pending, 0);
    CHECK_EQ(wan_stats(&fixture).established, 1);
    wan_leave(peer);
    wan_fixture_close(&fixture);
}

/* A player that leaves before READY never joined. */
static void a_player_that_leaves_before_ready_never_joined(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    wan_fixture_open(&fixture);
    const wan_login login = wan_login_as(&fixture, TP_SUITE_AES_256_GCM, 1);
    wan_peer *peer = wan_fixture_connect(&fixture, &login);
    CHECK(wan_send_hello(peer));
    CHECK(wan_take_reply(peer));
    wan_close(peer, false);
    FIXTURE_WAIT(wan_stats(&fixture).gone == 1);
    tp_session_end ends[2] = {{.size = sizeof ends[0]}};
    CHECK_EQ(tp_server_read_ledger(fixture.base.server, ends, 2), 0);
    CHECK_EQ(wan_core_stats(&fixture).left, 0);
    CHECK_EQ(atomic_load(&fixture.base.leaves), 0);
    wan_fixture_close(&fixture);
}

static void the_first_frame_must_be_ready(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    wan_fixture_open(&fixture);
    const wan_login login = wan_login_as(&fixture, TP_SUITE_AES_256_GCM, 1);
    static const struct {
        unsigned type;
        size_t size;
    } first[] = {
        {TP_FRAME_DATA, 1}, {TP_FRAME_PING, 0}, {TP_FRAME_CLOSE, 2}, {TP_FRAME_READY, 1}, {9, 0}};
    for (unsigned i = 0; i < 5; i++) {
        wan_peer *peer = wan_fixture_connect(&fixture, &login);
        CHECK(wan_send_hello(peer));
        CHECK(wan_take_reply(peer));
        CHECK(wan_send_frame(peer, first[i].type, "ab", first[i].size));
        CHECK_NE(raw_end(peer->raw), TP_ERR_TIMED_OUT);
        wan_close(peer, false);
    }
    FIXTURE_WAIT(wan_stats(&fixture).not_ready == 5);
    CHECK_EQ(atomic_load(&fixture.base.joins), 0);
    wan_fixture_close(&fixture);
}

static void a_second_ready_breaks_the_protocol(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    wan_fixture_open(&fixture);
    wan_peer *peer = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    CHECK(wan_send_ready(peer));
    CHECK_EQ(wan_receive_close(peer), TP_CLOSE_PROTOCOL);
    wan_close(peer, false);
    wan_fixture_wait_left(&fixture, 1, TP_END_PROTOCOL);
    wan_fixture_close(&fixture);
}

/* READY and what follows may share records, and READY may be split over several. */
static void ready_may_come_in_any_records(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    wan_fixture_open(&fixture);
    uint8_t frames[TP_FRAME_HEADER + TP_FRAME_HEADER + 3];
    tp_frame_write(frames, TP_FRAME_READY, 0);
    tp_frame_write(frames + TP_FRAME_HEADER, TP_FRAME_DATA, 3);
    memcpy(frames + 2 * TP_FRAME_HEADER, "abc", 3);
    const wan_login login = wan_login_as(&fixture, TP_SUITE_CHACHA20_POLY1305, 1);
    for (size_t cut = 1; cut <= sizeof frames; cut++) {
        wan_peer *peer = wan_fixture_connect(&fixture, &login);
        unsigned type;
        CHECK(wan_send_hello(peer));
        CHECK(wan_take_reply(peer));
        CHECK(wan_send_record(peer, frames, cut));
        if (cut < sizeof frames) {
            CHECK(wan_send_record(peer, frames + cut, sizeof frames - cut));
        }
        CHECK_EQ(wan_receive_frame(peer, &type, in, sizeof in), 3);
        CHECK_MEM(in, "abc", 3);
        wan_leave(peer);
    }
    wan_fixture_close(&fixture);
}

/* ---- identity -------------------------------------------------------------------------------- */

static atomic_uint right_identities;

static void check_identity(tp_session_id session, uint64_t account) {
    tp_identity who = {.size = sizeof who};
    uint8_t data[TP_TOKEN_USER_DATA];
    memset(data, (int)account, sizeof data);
    if (tp_session_identity(fixture.base.server, session, &who) && who.account == account &&
        who.flags == (uint32_t)~account && memcmp(who.user_data, data, sizeof data) == 0) {
        atomic_fetch_add(&right_identities, 1);
    }
}

static void look_at_join(server_fixture *base, tp_session_id session) {
    (void)base;
    check_identity(session, 41);
}

static void look_at_leave(server_fixture *base, tp_session_id session, tp_end_reason reason) {
    (void)base, (void)reason;
    check_identity(session, 41);
}

static void the_identity_is_readable_from_join_to_leave(void) {
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    fixture.base.on_joined = look_at_join;
    fixture.base.on_left = look_at_leave;
    atomic_store(&right_identities, 0);
    wan_fixture_open(&fixture);
    wan_peer *peer = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 41);
    wan_check_echo(peer, "x");
    tp_session_id session = peer->terms.session;
    CHECK_EQ(atomic_load(&right_identities), 1);
    check_identity(session, 41);
    CHECK_EQ(atomic_load(&right_identities), 2);
    tp_identity who = {.size = 1};
    CHECK(!tp_session_identity(fixture.base.server, session, &who));
    who.size = sizeof who;
    CHECK(!tp_session_identity(fixture.base.server, session + (UINT64_C(1) << 20), &who));
    CHECK(!tp_session_identity(fixture.base.server, TP_NO_SESSION, &who));
    CHECK(!tp_session_identity(fixture.base.server, session | (TP_MAX_SESSIONS - 1), &who));
    wan_leave(peer);
    wan_fixture_wait_left(&fixture, 1, TP_END_PEER_CLOSED);
    CHECK_EQ(atomic_load(&right_identities), 3);
    FIXTURE_WAIT(!tp_session_identity(fixture.base.server, session, &who));
    wan_fixture_close(&fixture);
}

static void open_mode_has_no_identities(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    wan_fixture_open(&fixture);
    wan_peer *peer = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 41);
    wan_check_echo(peer, "x");
    tp_identity who = {.size = sizeof who};
    CHECK(!tp_session_identity(fixture.base.server, peer->terms.session, &who));
    wan_leave(peer);
    wan_fixture_close(&fixture);
}

/* A server of another library has no identities. */
static void other_servers_have_no_identities(void) {
    static server_fixture lan;
    server_fixture_init(&lan);
    REQUIRE(tp_server_create(&lan.options, &lan.handlers, &lan.server) == TP_OK);
    tp_identity who = {.size = sizeof who};
    tp_network network;
    tp_token_key key = {.id = 1};
    tp_wanserver_stats stats = {.size = sizeof stats, .pending = 99};
    REQUIRE(tp_network_parse("10.0.0.0/8", &network) == TP_OK);
    CHECK(!tp_session_identity(lan.server, 1u << 20, &who));
    CHECK_EQ(tp_wanserver_set_token_keys(lan.server, &key, 1), TP_ERR_INVALID);
    CHECK_EQ(tp_wanserver_ban(lan.server, &network, 1), TP_ERR_INVALID);
    CHECK(!tp_wanserver_lift_ban(lan.server, &network));
    CHECK_EQ(tp_wanserver_set_bans(lan.server, NULL, 0), TP_ERR_INVALID);
    tp_wanserver_get_stats(lan.server, &stats);
    CHECK_EQ(stats.pending, 99);
    tp_server_destroy(lan.server);
}

/* ---- ends ------------------------------------------------------------------------------------ */

/* What was queued is sent first, and then CLOSE, in records. */
static void disconnect_after_send_carries_the_reason(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    wan_fixture_open(&fixture);
    wan_peer *peer = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    wan_check_echo(peer, "x");
    tp_packet *packet = tp_packet_copy_of("last", 4);
    REQUIRE(packet != NULL);
    CHECK(tp_server_send(fixture.base.server, peer->terms.session, packet));
    tp_packet_release(packet);
    CHECK(
        tp_server_disconnect_after_send(fixture.base.server, peer->terms.session, TP_CLOSE_KICKED));
    unsigned type;
    CHECK_EQ(wan_receive_frame(peer, &type, in, sizeof in), 4);
    CHECK_EQ(wan_receive_close(peer), TP_CLOSE_KICKED);
    wan_close(peer, false);
    wan_fixture_wait_left(&fixture, 1, TP_END_KICKED);
    wan_fixture_close(&fixture);
}

/* Anybody on the network can end a stream, but only the peer can send CLOSE. */
static void an_end_without_close_is_a_truncation(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    wan_fixture_open(&fixture);
    wan_peer *peer = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    wan_check_echo(peer, "x");
    raw_finish(peer->raw);
    wan_fixture_wait_left(&fixture, 1, TP_END_TRUNCATED);
    wan_close(peer, false);
    wan_fixture_close(&fixture);
}

static void the_peers_reason_is_kept(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    wan_fixture_open(&fixture);
    wan_peer *peer = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    const uint8_t reason[] = {TP_CLOSE_REPLACED, 0, 'b', 'y', 'e'};
    CHECK(wan_send_frame(peer, TP_FRAME_CLOSE, reason, sizeof reason));
    CHECK_EQ(raw_end(peer->raw), TP_ERR_CLOSED);
    wan_close(peer, false);
    wan_fixture_wait_left(&fixture, 1, TP_END_REFUSED);
    tp_session_end end = {.size = sizeof end};
    REQUIRE(tp_server_read_ledger(fixture.base.server, &end, 1) == 1);
    CHECK_EQ(end.close_code, TP_CLOSE_REPLACED);
    wan_fixture_close(&fixture);
}

static void a_full_server_sends_close_full_in_a_record(void) {
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    fixture.options.server.max_sessions = 1;
    wan_fixture_open(&fixture);
    wan_peer *first = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    wan_check_echo(first, "in");
    wan_peer *second = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 2);
    CHECK_EQ(wan_receive_close(second), TP_CLOSE_FULL);
    wan_close(second, false);
    CHECK_EQ(wan_core_stats(&fixture).full, 1);
    CHECK_EQ(atomic_load(&fixture.base.joins), 1);
    wan_leave(first);
    wan_fixture_wait_left(&fixture, 1, TP_END_PEER_CLOSED);
    FIXTURE_WAIT(atomic_load(&fixture.base.server->slots_used) == 0);
    wan_peer *third = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 3);
    wan_check_echo(third, "in");
    wan_leave(third);
    wan_fixture_close(&fixture);
}

static void a_silent_player_gets_a_ping_and_is_ended(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.options.server.ping_interval_ms = 100;
    fixture.options.server.idle_timeout_ms = 1000;
    wan_fixture_open(&fixture);
    wan_peer *peer = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    unsigned type = 99;
    CHECK_EQ(wan_receive_frame(peer, &type, in, sizeof in), 0);
    CHECK_EQ(type, TP_FRAME_PING);
    CHECK_EQ(wan_receive_close(peer), TP_CLOSE_IDLE);
    wan_close(peer, false);
    wan_fixture_wait_left(&fixture, 1, TP_END_IDLE);
    CHECK_EQ(wan_stats(&fixture).late, 0);
    wan_fixture_close(&fixture);
}

/* ---- stop and start -------------------------------------------------------------------------- */

/* Players get CLOSE shutdown. A connection that has not joined is closed without one. */
static void a_server_can_start_again_after_a_stop(void) {
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    fixture.options.server.drain_timeout_ms =
        600000; /* a stop that waits for this does not end within the test */
    wan_fixture_open(&fixture);
    for (unsigned run = 0; run < 3; run++) {
        wan_peer *peer = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, run);
        wan_check_echo(peer, "x");
        const wan_login login = wan_login_as(&fixture, TP_SUITE_AES_256_GCM, 100 + run);
        wan_peer *silent = wan_fixture_connect(&fixture, &login);
        wan_peer *welcomed = wan_fixture_connect(&fixture, &login);
        CHECK(wan_send_hello(welcomed));
        CHECK(wan_take_reply(welcomed));
        FIXTURE_WAIT(wan_stats(&fixture).pending == 2);
        tp_server_stop(fixture.base.server);
        CHECK_NE(raw_end(silent->raw), TP_ERR_TIMED_OUT);
        CHECK_NE(raw_end(welcomed->raw), TP_ERR_TIMED_OUT);
        CHECK_EQ(wan_receive_close(peer), TP_CLOSE_SHUTDOWN);
        wan_close(peer, false);
        wan_close(silent, false);
        wan_close(welcomed, false);
        REQUIRE(tp_server_wait(fixture.base.server, -1) == TP_OK);
        CHECK_EQ(wan_stats(&fixture).pending, 0);
        REQUIRE(tp_server_start(fixture.base.server) == TP_OK);
    }
    CHECK_EQ(atomic_load(&fixture.base.leaves), 3);
    wan_fixture_close(&fixture);
}

/* What is queued for a player that reads slowly is drained first, in many send batches. */
static void a_stop_drains_what_is_queued(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.options.server.queue_bytes = 64u << 20;
    fixture.options.server.drain_timeout_ms = 600000;
    wan_fixture_open(&fixture);
    wan_peer *peer = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    wan_check_echo(peer, "x");
    enum { MESSAGES = 300 };
    for (unsigned i = 0; i < MESSAGES; i++) {
        tp_packet *packet = tp_packet_copy_of(out, 60000);
        REQUIRE(packet != NULL);
        CHECK(tp_server_send(fixture.base.server, peer->terms.session, packet));
        tp_packet_release(packet);
    }
    tp_server_stop(fixture.base.server);
    for (unsigned i = 0; i < MESSAGES; i++) {
        unsigned type;
        REQUIRE(wan_receive_frame(peer, &type, in, sizeof in) == 60000);
    }
    CHECK_EQ(wan_receive_close(peer), TP_CLOSE_SHUTDOWN);
    wan_close(peer, false);
    wan_fixture_close(&fixture);
    CHECK_EQ(atomic_load(&fixture.base.last_reason), TP_END_SHUTDOWN);
}

static void a_wan_server_makes_no_outgoing_connections(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    wan_fixture_open(&fixture);
    tp_address address = tp_server_address(fixture.base.server);
    tp_session_id session = 1;
    CHECK_EQ(tp_server_connect(fixture.base.server, &address, &session), TP_ERR_UNSUPPORTED);
    CHECK_EQ(session, TP_NO_SESSION);
    wan_fixture_close(&fixture);
}

CHECK_MAIN(CASE(players_join_talk_and_leave), CASE(there_is_no_session_before_ready),
    CASE(a_player_that_leaves_before_ready_never_joined), CASE(the_first_frame_must_be_ready),
    CASE(a_second_ready_breaks_the_protocol), CASE(ready_may_come_in_any_records),
    CASE(the_identity_is_readable_from_join_to_leave), CASE(open_mode_has_no_identities),
    CASE(other_servers_have_no_identities), CASE(disconnect_after_send_carries_the_reason),
    CASE(an_end_without_close_is_a_truncation), CASE(the_peers_reason_is_kept),
    CASE(a_full_server_sends_close_full_in_a_record),
    CASE(a_silent_player_gets_a_ping_and_is_ended), CASE(a_server_can_start_again_after_a_stop),
    CASE(a_stop_drains_what_is_queued), CASE(a_wan_server_makes_no_outgoing_connections))
