/*
 * Players of the WAN server as the application sees them: join, identity, messages of all sizes,
 * end reasons, stop and start. In both suites and both modes.
 */
#include "wan_fixture.h"

static wan_fixture fixture;
static uint8_t out[(1u << 20) + 64];
static uint8_t in[(1u << 20) + 64];

static void wait_left(unsigned leaves, tp_end_reason reason) {
    FIXTURE_WAIT(atomic_load(&fixture.base.leaves) == leaves);
    CHECK_EQ(atomic_load(&fixture.base.last_reason), reason);
}

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
    wait_left(1, TP_END_PEER_CLOSED);
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
    wait_left(1, TP_END_PROTOCOL);
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
    wait_left(1, TP_END_PEER_CLOSED);
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

/* ---- messages -------------------------------------------------------------------------------- */

static void check_echo_of(wan_peer *peer, size_t size) {
    unsigned type = 99;
    tp_random_bytes(out, size);
    CHECK(wan_send_frame(peer, TP_FRAME_DATA, out, size));
    CHECK_EQ(wan_receive_frame(peer, &type, in, sizeof in), size);
    CHECK_EQ(type, TP_FRAME_DATA);
    CHECK_MEM(in, out, size);
}

/* From empty to max_frame, with the sizes around a record's. */
static void messages_of_all_sizes_come_back(void) {
    static const size_t sizes[] = {0, 1, 2, 3, 255, 16361, 16362, 16363, 16366, 16380, 16381, 16384,
        16400, 32728, 32729, 65535, 65536, 200000, 1u << 20};
    static const tp_suite suites[] = WAN_SUITES;
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.options.server.max_frame = 1u << 20;
    fixture.options.server.queue_bytes = 4u << 20;
    wan_fixture_open(&fixture);
    for (unsigned s = 0; s < 2; s++) {
        wan_peer *peer = wan_fixture_join(&fixture, suites[s], 1);
        for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            check_echo_of(peer, sizes[i]);
        }
        wan_leave(peer);
    }
    wan_fixture_close(&fixture);
}

/* Many messages of mixed sizes, so that frames begin and end anywhere in the records of both
 * directions. */
static void many_messages_keep_their_order(void) {
    enum { MESSAGES = 400 };
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    wan_fixture_open(&fixture);
    wan_peer *peer = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    size_t filled = 0;
    size_t sizes[MESSAGES];
    for (unsigned i = 0; i < MESSAGES; i++) {
        sizes[i] = i % 7 == 0 ? 3000 : i % 50;
        tp_frame_write(out + filled, TP_FRAME_DATA, (uint32_t)sizes[i]);
        memset(out + filled + TP_FRAME_HEADER, (int)i, sizes[i]);
        filled += TP_FRAME_HEADER + sizes[i];
    }
    for (size_t at = 0, part; at < filled; at += part) {
        part = filled - at < 5003 ? filled - at : 5003;
        CHECK(wan_send_record(peer, out + at, part));
    }
    for (unsigned i = 0; i < MESSAGES; i++) {
        unsigned type;
        memset(out, (int)i, sizes[i]);
        REQUIRE(wan_receive_frame(peer, &type, in, sizeof in) == (long)sizes[i]);
        CHECK_MEM(in, out, sizes[i]);
    }
    wan_leave(peer);
    wait_left(1, TP_END_PEER_CLOSED);
    tp_server_stats stats = wan_core_stats(&fixture);
    CHECK_EQ(stats.received_messages, MESSAGES);
    CHECK_EQ(stats.sent_messages, MESSAGES);
    CHECK_EQ(wan_stats(&fixture).records_opened, 1 + (filled + 5002) / 5003 + 1);
    wan_fixture_close(&fixture);
}

static void ping_and_pad_are_answered_and_ignored(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    wan_fixture_open(&fixture);
    wan_peer *peer = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    unsigned type = 99;
    CHECK(wan_send_frame(peer, TP_FRAME_PAD, out, 5000));
    CHECK(wan_send_frame(peer, TP_FRAME_PING, "01234567", 8));
    CHECK_EQ(wan_receive_frame(peer, &type, in, sizeof in), 8);
    CHECK_EQ(type, TP_FRAME_PONG);
    CHECK_MEM(in, "01234567", 8);
    CHECK_EQ(atomic_load(&fixture.base.messages), 0);
    wan_leave(peer);
    wan_fixture_close(&fixture);
}

static void a_frame_over_the_limit_breaks_the_protocol(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.options.server.max_frame = 1000;
    wan_fixture_open(&fixture);
    wan_peer *peer = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    CHECK_EQ(peer->terms.max_payload, 1000);
    check_echo_of(peer, 1000);
    CHECK(wan_send_frame(peer, TP_FRAME_DATA, out, 1001));
    CHECK_EQ(wan_receive_close(peer), TP_CLOSE_PROTOCOL);
    wan_close(peer, false);
    wait_left(1, TP_END_PROTOCOL);
    wan_fixture_close(&fixture);
}

/* One packet for many players, sealed for each with its own keys. */
static void a_broadcast_reaches_every_joined_player(void) {
    enum { PLAYERS = 5 };
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    wan_fixture_open(&fixture);
    wan_peer *peers[PLAYERS];
    tp_session_id sessions[PLAYERS];
    const wan_login late = wan_login_as(&fixture, TP_SUITE_AES_256_GCM, 9);
    wan_peer *pending = wan_fixture_connect(&fixture, &late);
    CHECK(wan_send_hello(pending));
    CHECK(wan_take_reply(pending));
    for (unsigned i = 0; i < PLAYERS; i++) {
        peers[i] = wan_fixture_join(
            &fixture, i % 2 ? TP_SUITE_AES_256_GCM : TP_SUITE_CHACHA20_POLY1305, i);
        wan_check_echo(peers[i], "here");
        sessions[i] = peers[i]->terms.session;
    }
    tp_packet *packet = tp_packet_copy_of(out, 40000);
    REQUIRE(packet != NULL);
    CHECK_EQ(tp_server_broadcast(fixture.base.server, packet, sessions[0]), PLAYERS - 1);
    CHECK_EQ(tp_server_send_many(fixture.base.server, sessions, 2, packet), 2);
    tp_packet_release(packet);
    for (unsigned i = 0; i < PLAYERS; i++) {
        unsigned type;
        for (unsigned copies = i == 1 ? 2 : 1; copies > 0; copies--) {
            CHECK_EQ(wan_receive_frame(peers[i], &type, in, sizeof in), 40000);
            CHECK_MEM(in, out, 40000);
        }
        wan_check_echo(peers[i], "after it");
        wan_leave(peers[i]);
    }
    wan_close(pending, false);
    wan_fixture_close(&fixture);
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
    wait_left(1, TP_END_KICKED);
    wan_fixture_close(&fixture);
}

/* Anybody on the network can end a stream, but only the peer can send CLOSE. */
static void an_end_without_close_is_a_truncation(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    wan_fixture_open(&fixture);
    wan_peer *peer = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    wan_check_echo(peer, "x");
    raw_finish(peer->raw);
    wait_left(1, TP_END_TRUNCATED);
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
    wait_left(1, TP_END_REFUSED);
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
    wait_left(1, TP_END_PEER_CLOSED);
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
    wait_left(1, TP_END_IDLE);
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

/* ---- sends from inside a handler ------------------------------------------------------------- */

/* What exceeds the queue, 31 KiB, fits into any system's socket buffers, so that it can be sent
 * before anything is read. */
enum { MANY = 70000, QUEUED = 65536, BEYOND = MANY - QUEUED };

static void send_many(server_fixture *on, tp_session_id session, tp_packet *asked) {
    (void)asked;
    for (uint32_t i = 0; i < MANY; i++) {
        tp_packet *packet = tp_packet_copy_of(&i, sizeof i);
        REQUIRE(packet != NULL);
        CHECK(tp_server_send(on->server, session, packet));
        tp_packet_release(packet);
    }
    fixture_block(on);
}

/* Waits until earlier sends are complete. Where any worker serves any session, the completion of
 * REPLY may still wait for its worker, and until then the queue has another flusher. */
static void wait_for_sends(const wan_peer *peer) {
    const tp__session *session =
        &fixture.base.server->sessions[tp_session_slot(peer->terms.session)];
    FIXTURE_WAIT(atomic_load(&session->queue.newest) == TP__QUEUE_IDLE);
}

/* More than the queue's limit in one handler: the excess arrives while the handler runs. */
static void many_sends_in_one_handler_arrive_in_order(tp_suite suite) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.options.server.queue_packets = QUEUED;
    wan_fixture_open(&fixture);
    fixture.base.on_message = send_many;
    wan_peer *peer = wan_fixture_join(&fixture, suite, 1);
    wait_for_sends(peer);
    CHECK(wan_send_frame(peer, TP_FRAME_DATA, "go", 2));
    for (uint32_t i = 0; i < MANY; i++) {
        uint32_t number = 0;
        unsigned type;
        if (i == BEYOND) {
            FIXTURE_WAIT(atomic_load(&fixture.base.blocked));
            atomic_store(&fixture.base.unblock, true);
        }
        REQUIRE(wan_receive_frame(peer, &type, &number, sizeof number) == sizeof number);
        REQUIRE(number == i);
    }
    FIXTURE_WAIT(atomic_load(&fixture.base.sends) == MANY);
    CHECK_EQ(wan_core_stats(&fixture).sent_messages, MANY);
    wan_leave(peer);
    wait_left(1, TP_END_PEER_CLOSED);
    wan_fixture_close(&fixture);
}

static void a_handler_sends_more_than_the_queue_holds(void) {
    many_sends_in_one_handler_arrive_in_order(TP_SUITE_AES_256_GCM);
    many_sends_in_one_handler_arrive_in_order(TP_SUITE_CHACHA20_POLY1305);
}

CHECK_MAIN(CASE(players_join_talk_and_leave), CASE(there_is_no_session_before_ready),
    CASE(a_player_that_leaves_before_ready_never_joined), CASE(the_first_frame_must_be_ready),
    CASE(a_second_ready_breaks_the_protocol), CASE(ready_may_come_in_any_records),
    CASE(the_identity_is_readable_from_join_to_leave), CASE(open_mode_has_no_identities),
    CASE(other_servers_have_no_identities), CASE(messages_of_all_sizes_come_back),
    CASE(many_messages_keep_their_order), CASE(ping_and_pad_are_answered_and_ignored),
    CASE(a_frame_over_the_limit_breaks_the_protocol), CASE(a_broadcast_reaches_every_joined_player),
    CASE(disconnect_after_send_carries_the_reason), CASE(an_end_without_close_is_a_truncation),
    CASE(the_peers_reason_is_kept), CASE(a_full_server_sends_close_full_in_a_record),
    CASE(a_silent_player_gets_a_ping_and_is_ended), CASE(a_server_can_start_again_after_a_stop),
    CASE(a_stop_drains_what_is_queued), CASE(a_wan_server_makes_no_outgoing_connections),
    CASE(a_handler_sends_more_than_the_queue_holds))
