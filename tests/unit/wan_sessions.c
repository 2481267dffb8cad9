/*
 * Players of the WAN server as content sees them: join, identity, messages of all sizes, ends and
 * their reasons, stop and start. Both suites, both modes.
 */
#include "wan_stage.h"

static wan_stage stage;
static uint8_t out[(1u << 20) + 64];
static uint8_t in[(1u << 20) + 64];

static tp_server_stats core_stats(void) {
    tp_server_stats stats = {.size = sizeof stats};
    tp_server_get_stats(stage.base.server, &stats);
    return stats;
}

static void wait_left(unsigned leaves, tp_end_reason reason) {
    STAGE_WAIT(atomic_load(&stage.base.leaves) == leaves);
    CHECK_EQ(atomic_load(&stage.base.last_reason), reason);
}

/* ---- joining and leaving --------------------------------------------------------------------- */

static void player_joins_talks_and_leaves(tp_auth auth, tp_suite suite) {
    wan_stage_init(&stage, auth);
    wan_stage_open(&stage);
    wan_peer *peer = wan_stage_join(&stage, suite, 7);
    wan_check_echo(peer, "hello");
    CHECK_EQ(atomic_load(&stage.base.joins), 1);
    CHECK_EQ(tp_server_session_count(stage.base.server), 1);
    CHECK_EQ(peer->terms.session, atomic_load(&stage.base.last_joined));
    CHECK_EQ(peer->terms.max_payload, stage.options.server.max_frame);
    CHECK_EQ(peer->terms.heartbeat_seconds, 30);
    wan_leave(peer);
    wait_left(1, TP_END_PEER_CLOSED);
    wan_stage_close(&stage);
}

static void players_join_talk_and_leave(void) {
    static const tp_suite suites[] = WAN_SUITES;
    for (unsigned i = 0; i < 2; i++) {
        player_joins_talks_and_leaves(TP_AUTH_OPEN, suites[i]);
        player_joins_talks_and_leaves(TP_AUTH_TOKEN, suites[i]);
    }
}

/* Nothing is told before READY: HELLO and REPLY make no session. */
static void there_is_no_session_before_ready(void) {
    wan_stage_init(&stage, TP_AUTH_TOKEN);
    wan_stage_open(&stage);
    const wan_login login = wan_login_as(&stage, TP_SUITE_AES_256_GCM, 1);
    wan_peer *peer = wan_stage_connect(&stage, &login);
    CHECK(wan_send_hello(peer));
    CHECK(wan_take_reply(peer));
    CHECK_EQ(wan_stats(&stage).pending, 1);
    CHECK_EQ(wan_stats(&stage).established, 0);
    CHECK_EQ(atomic_load(&stage.base.joins), 0);
    CHECK_EQ(tp_server_session_count(stage.base.server), 0);
    CHECK(!tp_server_disconnect(stage.base.server, peer->terms.session));
    CHECK(wan_send_ready(peer));
    wan_check_echo(peer, "now");
    CHECK_EQ(atomic_load(&stage.base.joins), 1);
    CHECK_EQ(wan_stats(&stage).pending, 0);
    CHECK_EQ(wan_stats(&stage).established, 1);
    wan_leave(peer);
    wan_stage_close(&stage);
}

/* One who goes before READY was never there. */
static void who_goes_before_ready_was_never_there(void) {
    wan_stage_init(&stage, TP_AUTH_OPEN);
    wan_stage_open(&stage);
    const wan_login login = wan_login_as(&stage, TP_SUITE_AES_256_GCM, 1);
    wan_peer *peer = wan_stage_connect(&stage, &login);
    CHECK(wan_send_hello(peer));
    CHECK(wan_take_reply(peer));
    wan_close(peer, false);
    STAGE_WAIT(wan_stats(&stage).gone == 1);
    tp_session_end ends[2] = {{.size = sizeof ends[0]}};
    CHECK_EQ(tp_server_read_ledger(stage.base.server, ends, 2), 0);
    CHECK_EQ(core_stats().left, 0);
    CHECK_EQ(atomic_load(&stage.base.leaves), 0);
    wan_stage_close(&stage);
}

static void first_frame_is_ready_or_nothing(void) {
    wan_stage_init(&stage, TP_AUTH_OPEN);
    wan_stage_open(&stage);
    const wan_login login = wan_login_as(&stage, TP_SUITE_AES_256_GCM, 1);
    static const struct {
        unsigned type;
        size_t size;
    } first[] = {
        {TP_FRAME_DATA, 1}, {TP_FRAME_PING, 0}, {TP_FRAME_CLOSE, 2}, {TP_FRAME_READY, 1}, {9, 0}};
    for (unsigned i = 0; i < 5; i++) {
        wan_peer *peer = wan_stage_connect(&stage, &login);
        CHECK(wan_send_hello(peer));
        CHECK(wan_take_reply(peer));
        CHECK(wan_send_frame(peer, first[i].type, "ab", first[i].size));
        CHECK_NE(raw_end(peer->raw), TP_ERR_TIMED_OUT);
        wan_close(peer, false);
    }
    STAGE_WAIT(wan_stats(&stage).not_ready == 5);
    CHECK_EQ(atomic_load(&stage.base.joins), 0);
    wan_stage_close(&stage);
}

static void ready_again_breaks_the_protocol(void) {
    wan_stage_init(&stage, TP_AUTH_OPEN);
    wan_stage_open(&stage);
    wan_peer *peer = wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 1);
    CHECK(wan_send_ready(peer));
    CHECK_EQ(wan_receive_close(peer), TP_CLOSE_PROTOCOL);
    wan_close(peer, false);
    wait_left(1, TP_END_PROTOCOL);
    wan_stage_close(&stage);
}

/* READY and what follows may share records, and READY may be cut into several. */
static void ready_may_come_in_any_records(void) {
    wan_stage_init(&stage, TP_AUTH_OPEN);
    wan_stage_open(&stage);
    uint8_t frames[TP_FRAME_HEADER + TP_FRAME_HEADER + 3];
    tp_frame_write(frames, TP_FRAME_READY, 0);
    tp_frame_write(frames + TP_FRAME_HEADER, TP_FRAME_DATA, 3);
    memcpy(frames + 2 * TP_FRAME_HEADER, "abc", 3);
    const wan_login login = wan_login_as(&stage, TP_SUITE_CHACHA20_POLY1305, 1);
    for (size_t cut = 1; cut <= sizeof frames; cut++) {
        wan_peer *peer = wan_stage_connect(&stage, &login);
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
    wan_stage_close(&stage);
}

/* ---- identity -------------------------------------------------------------------------------- */

static atomic_uint right_identities;

static void check_identity(tp_session_id session, uint64_t account) {
    tp_identity who = {.size = sizeof who};
    uint8_t data[TP_TOKEN_USER_DATA];
    memset(data, (int)account, sizeof data);
    if (tp_session_identity(stage.base.server, session, &who) && who.account == account &&
        who.flags == (uint32_t)~account && memcmp(who.user_data, data, sizeof data) == 0) {
        atomic_fetch_add(&right_identities, 1);
    }
}

static void look_at_join(server_stage *base, tp_session_id session) {
    (void)base;
    check_identity(session, 41);
}

static void look_at_leave(server_stage *base, tp_session_id session, tp_end_reason reason) {
    (void)base, (void)reason;
    check_identity(session, 41);
}

static void identity_is_there_from_join_to_leave(void) {
    wan_stage_init(&stage, TP_AUTH_TOKEN);
    stage.base.on_joined = look_at_join;
    stage.base.on_left = look_at_leave;
    atomic_store(&right_identities, 0);
    wan_stage_open(&stage);
    wan_peer *peer = wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 41);
    wan_check_echo(peer, "x");
    tp_session_id session = peer->terms.session;
    CHECK_EQ(atomic_load(&right_identities), 1);
    check_identity(session, 41);
    CHECK_EQ(atomic_load(&right_identities), 2);
    tp_identity who = {.size = 1};
    CHECK(!tp_session_identity(stage.base.server, session, &who));
    who.size = sizeof who;
    CHECK(!tp_session_identity(stage.base.server, session + (UINT64_C(1) << 20), &who));
    CHECK(!tp_session_identity(stage.base.server, TP_NO_SESSION, &who));
    CHECK(!tp_session_identity(stage.base.server, session | (TP_MAX_SESSIONS - 1), &who));
    wan_leave(peer);
    wait_left(1, TP_END_PEER_CLOSED);
    CHECK_EQ(atomic_load(&right_identities), 3);
    STAGE_WAIT(!tp_session_identity(stage.base.server, session, &who));
    wan_stage_close(&stage);
}

static void open_mode_knows_nobody(void) {
    wan_stage_init(&stage, TP_AUTH_OPEN);
    wan_stage_open(&stage);
    wan_peer *peer = wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 41);
    wan_check_echo(peer, "x");
    tp_identity who = {.size = sizeof who};
    CHECK(!tp_session_identity(stage.base.server, peer->terms.session, &who));
    wan_leave(peer);
    wan_stage_close(&stage);
}

/* Another library's server has none of this. */
static void other_servers_are_told_apart(void) {
    static server_stage lan;
    server_stage_init(&lan);
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

/* From nothing to max_frame, with the sizes around a record's on the way. */
static void messages_of_all_sizes_come_back(void) {
    static const size_t sizes[] = {0, 1, 2, 3, 255, 16361, 16362, 16363, 16366, 16380, 16381, 16384,
        16400, 32728, 32729, 65535, 65536, 200000, 1u << 20};
    static const tp_suite suites[] = WAN_SUITES;
    wan_stage_init(&stage, TP_AUTH_OPEN);
    stage.options.server.max_frame = 1u << 20;
    stage.options.server.queue_bytes = 4u << 20;
    wan_stage_open(&stage);
    for (unsigned s = 0; s < 2; s++) {
        wan_peer *peer = wan_stage_join(&stage, suites[s], 1);
        for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            check_echo_of(peer, sizes[i]);
        }
        wan_leave(peer);
    }
    wan_stage_close(&stage);
}

/* Many at once, of mixed sizes, so that frames begin and end anywhere in records both ways. */
static void many_messages_keep_their_order(void) {
    enum { MESSAGES = 400 };
    wan_stage_init(&stage, TP_AUTH_OPEN);
    wan_stage_open(&stage);
    wan_peer *peer = wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 1);
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
    tp_server_stats stats = core_stats();
    CHECK_EQ(stats.received_messages, MESSAGES);
    CHECK_EQ(stats.sent_messages, MESSAGES);
    CHECK_EQ(wan_stats(&stage).records_opened, 1 + (filled + 5002) / 5003 + 1);
    wan_stage_close(&stage);
}

static void ping_and_pad_are_answered_and_ignored(void) {
    wan_stage_init(&stage, TP_AUTH_OPEN);
    wan_stage_open(&stage);
    wan_peer *peer = wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 1);
    unsigned type = 99;
    CHECK(wan_send_frame(peer, TP_FRAME_PAD, out, 5000));
    CHECK(wan_send_frame(peer, TP_FRAME_PING, "01234567", 8));
    CHECK_EQ(wan_receive_frame(peer, &type, in, sizeof in), 8);
    CHECK_EQ(type, TP_FRAME_PONG);
    CHECK_MEM(in, "01234567", 8);
    CHECK_EQ(atomic_load(&stage.base.messages), 0);
    wan_leave(peer);
    wan_stage_close(&stage);
}

static void a_frame_over_the_limit_breaks_the_protocol(void) {
    wan_stage_init(&stage, TP_AUTH_OPEN);
    stage.options.server.max_frame = 1000;
    wan_stage_open(&stage);
    wan_peer *peer = wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 1);
    CHECK_EQ(peer->terms.max_payload, 1000);
    check_echo_of(peer, 1000);
    CHECK(wan_send_frame(peer, TP_FRAME_DATA, out, 1001));
    CHECK_EQ(wan_receive_close(peer), TP_CLOSE_PROTOCOL);
    wan_close(peer, false);
    wait_left(1, TP_END_PROTOCOL);
    wan_stage_close(&stage);
}

/* One packet for many, sealed for each, under keys of its own. */
static void broadcast_reaches_everybody_who_has_joined(void) {
    enum { PLAYERS = 5 };
    wan_stage_init(&stage, TP_AUTH_TOKEN);
    wan_stage_open(&stage);
    wan_peer *peers[PLAYERS];
    tp_session_id sessions[PLAYERS];
    const wan_login late = wan_login_as(&stage, TP_SUITE_AES_256_GCM, 9);
    wan_peer *pending = wan_stage_connect(&stage, &late);
    CHECK(wan_send_hello(pending));
    CHECK(wan_take_reply(pending));
    for (unsigned i = 0; i < PLAYERS; i++) {
        peers[i] =
            wan_stage_join(&stage, i % 2 ? TP_SUITE_AES_256_GCM : TP_SUITE_CHACHA20_POLY1305, i);
        wan_check_echo(peers[i], "here");
        sessions[i] = peers[i]->terms.session;
    }
    tp_packet *packet = tp_packet_copy_of(out, 40000);
    REQUIRE(packet != NULL);
    CHECK_EQ(tp_server_broadcast(stage.base.server, packet, sessions[0]), PLAYERS - 1);
    CHECK_EQ(tp_server_send_many(stage.base.server, sessions, 2, packet), 2);
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
    wan_stage_close(&stage);
}

/* ---- ends ------------------------------------------------------------------------------------ */

/* The last words are read, and then CLOSE, in records. */
static void disconnect_after_send_says_why(void) {
    wan_stage_init(&stage, TP_AUTH_OPEN);
    wan_stage_open(&stage);
    wan_peer *peer = wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 1);
    wan_check_echo(peer, "x");
    tp_packet *packet = tp_packet_copy_of("last", 4);
    REQUIRE(packet != NULL);
    CHECK(tp_server_send(stage.base.server, peer->terms.session, packet));
    tp_packet_release(packet);
    CHECK(tp_server_disconnect_after_send(stage.base.server, peer->terms.session, TP_CLOSE_KICKED));
    unsigned type;
    CHECK_EQ(wan_receive_frame(peer, &type, in, sizeof in), 4);
    CHECK_EQ(wan_receive_close(peer), TP_CLOSE_KICKED);
    wan_close(peer, false);
    wait_left(1, TP_END_KICKED);
    wan_stage_close(&stage);
}

/* Whoever cuts the line can end a stream; CLOSE only the peer can say. */
static void an_end_without_close_is_a_truncation(void) {
    wan_stage_init(&stage, TP_AUTH_OPEN);
    wan_stage_open(&stage);
    wan_peer *peer = wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 1);
    wan_check_echo(peer, "x");
    raw_finish(peer->raw);
    wait_left(1, TP_END_TRUNCATED);
    wan_close(peer, false);
    wan_stage_close(&stage);
}

static void the_peers_reason_is_kept(void) {
    wan_stage_init(&stage, TP_AUTH_OPEN);
    wan_stage_open(&stage);
    wan_peer *peer = wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 1);
    const uint8_t reason[] = {TP_CLOSE_REPLACED, 0, 'b', 'y', 'e'};
    CHECK(wan_send_frame(peer, TP_FRAME_CLOSE, reason, sizeof reason));
    CHECK_EQ(raw_end(peer->raw), TP_ERR_CLOSED);
    wan_close(peer, false);
    wait_left(1, TP_END_REFUSED);
    tp_session_end end = {.size = sizeof end};
    REQUIRE(tp_server_read_ledger(stage.base.server, &end, 1) == 1);
    CHECK_EQ(end.close_code, TP_CLOSE_REPLACED);
    wan_stage_close(&stage);
}

static void a_full_server_says_so_in_a_record(void) {
    wan_stage_init(&stage, TP_AUTH_TOKEN);
    stage.options.server.max_sessions = 1;
    wan_stage_open(&stage);
    wan_peer *first = wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 1);
    wan_check_echo(first, "in");
    wan_peer *second = wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 2);
    CHECK_EQ(wan_receive_close(second), TP_CLOSE_FULL);
    wan_close(second, false);
    CHECK_EQ(core_stats().full, 1);
    CHECK_EQ(atomic_load(&stage.base.joins), 1);
    wan_leave(first);
    wait_left(1, TP_END_PEER_CLOSED);
    STAGE_WAIT(atomic_load(&stage.base.server->slots_used) == 0);
    wan_peer *third = wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 3);
    wan_check_echo(third, "in");
    wan_leave(third);
    wan_stage_close(&stage);
}

static void silence_is_asked_about_and_then_ended(void) {
    wan_stage_init(&stage, TP_AUTH_OPEN);
    stage.options.server.ping_interval_ms = 100;
    stage.options.server.idle_timeout_ms = 1000;
    wan_stage_open(&stage);
    wan_peer *peer = wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 1);
    unsigned type = 99;
    CHECK_EQ(wan_receive_frame(peer, &type, in, sizeof in), 0);
    CHECK_EQ(type, TP_FRAME_PING);
    CHECK_EQ(wan_receive_close(peer), TP_CLOSE_IDLE);
    wan_close(peer, false);
    wait_left(1, TP_END_IDLE);
    CHECK_EQ(wan_stats(&stage).late, 0);
    wan_stage_close(&stage);
}

/* ---- stop and start -------------------------------------------------------------------------- */

/* Players get CLOSE shutdown; a connection that has not joined is just closed, at once. */
static void a_stop_ends_all_and_a_start_follows(void) {
    wan_stage_init(&stage, TP_AUTH_TOKEN);
    stage.options.server.drain_timeout_ms =
        600000; /* whoever waits for it does not get through this */
    wan_stage_open(&stage);
    for (unsigned run = 0; run < 3; run++) {
        wan_peer *peer = wan_stage_join(&stage, TP_SUITE_AES_256_GCM, run);
        wan_check_echo(peer, "x");
        const wan_login login = wan_login_as(&stage, TP_SUITE_AES_256_GCM, 100 + run);
        wan_peer *silent = wan_stage_connect(&stage, &login);
        wan_peer *welcomed = wan_stage_connect(&stage, &login);
        CHECK(wan_send_hello(welcomed));
        CHECK(wan_take_reply(welcomed));
        STAGE_WAIT(wan_stats(&stage).pending == 2);
        tp_server_stop(stage.base.server);
        CHECK_NE(raw_end(silent->raw), TP_ERR_TIMED_OUT);
        CHECK_NE(raw_end(welcomed->raw), TP_ERR_TIMED_OUT);
        CHECK_EQ(wan_receive_close(peer), TP_CLOSE_SHUTDOWN);
        wan_close(peer, false);
        wan_close(silent, false);
        wan_close(welcomed, false);
        REQUIRE(tp_server_wait(stage.base.server, -1) == TP_OK);
        CHECK_EQ(wan_stats(&stage).pending, 0);
        REQUIRE(tp_server_start(stage.base.server) == TP_OK);
    }
    CHECK_EQ(atomic_load(&stage.base.leaves), 3);
    wan_stage_close(&stage);
}

/* What is queued for a player who reads slowly is drained first, over many flights. */
static void a_stop_drains_what_is_queued(void) {
    wan_stage_init(&stage, TP_AUTH_OPEN);
    stage.options.server.queue_bytes = 64u << 20;
    stage.options.server.drain_timeout_ms = 600000;
    wan_stage_open(&stage);
    wan_peer *peer = wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 1);
    wan_check_echo(peer, "x");
    enum { MESSAGES = 300 };
    for (unsigned i = 0; i < MESSAGES; i++) {
        tp_packet *packet = tp_packet_copy_of(out, 60000);
        REQUIRE(packet != NULL);
        CHECK(tp_server_send(stage.base.server, peer->terms.session, packet));
        tp_packet_release(packet);
    }
    tp_server_stop(stage.base.server);
    for (unsigned i = 0; i < MESSAGES; i++) {
        unsigned type;
        REQUIRE(wan_receive_frame(peer, &type, in, sizeof in) == 60000);
    }
    CHECK_EQ(wan_receive_close(peer), TP_CLOSE_SHUTDOWN);
    wan_close(peer, false);
    wan_stage_close(&stage);
    CHECK_EQ(atomic_load(&stage.base.last_reason), TP_END_SHUTDOWN);
}

static void players_do_not_get_called(void) {
    wan_stage_init(&stage, TP_AUTH_OPEN);
    wan_stage_open(&stage);
    tp_address address = tp_server_address(stage.base.server);
    tp_session_id session = 1;
    CHECK_EQ(tp_server_connect(stage.base.server, &address, &session), TP_ERR_UNSUPPORTED);
    CHECK_EQ(session, TP_NO_SESSION);
    wan_stage_close(&stage);
}

/* ---- sends from inside a handler ------------------------------------------------------------- */

/* What the queue does not hold, 31 KiB, fits in any system's socket buffers: nobody needs to read
 * for it to be sent. */
enum { MANY = 70000, QUEUED = 65536, BEYOND = MANY - QUEUED };

static void send_many(server_stage *on, tp_session_id session, tp_packet *asked) {
    (void)asked;
    for (uint32_t i = 0; i < MANY; i++) {
        tp_packet *packet = tp_packet_copy_of(&i, sizeof i);
        REQUIRE(packet != NULL);
        CHECK(tp_server_send(on->server, session, packet));
        tp_packet_release(packet);
    }
    stage_block(on);
}

/* What was sent before is done with. Until then the queue has another owner where any worker
 * serves any session: REPLY's completion may wait for its worker to run. */
static void let_sends_end(const wan_peer *peer) {
    const tp__session *session = &stage.base.server->sessions[tp_session_slot(peer->terms.session)];
    STAGE_WAIT(atomic_load(&session->queue.newest) == TP__QUEUE_IDLE);
}

/* More than the queue's limit at once; what is beyond it arrives while the handler runs. */
static void many_sends_in_one_handler_arrive_in_order(tp_suite suite) {
    wan_stage_init(&stage, TP_AUTH_OPEN);
    stage.options.server.queue_packets = QUEUED;
    wan_stage_open(&stage);
    stage.base.on_message = send_many;
    wan_peer *peer = wan_stage_join(&stage, suite, 1);
    let_sends_end(peer);
    CHECK(wan_send_frame(peer, TP_FRAME_DATA, "go", 2));
    for (uint32_t i = 0; i < MANY; i++) {
        uint32_t number = 0;
        unsigned type;
        if (i == BEYOND) {
            STAGE_WAIT(atomic_load(&stage.base.blocked));
            atomic_store(&stage.base.let_go, true);
        }
        REQUIRE(wan_receive_frame(peer, &type, &number, sizeof number) == sizeof number);
        REQUIRE(number == i);
    }
    STAGE_WAIT(atomic_load(&stage.base.sends) == MANY);
    CHECK_EQ(core_stats().sent_messages, MANY);
    wan_leave(peer);
    wait_left(1, TP_END_PEER_CLOSED);
    wan_stage_close(&stage);
}

static void a_handler_sends_more_than_the_queue_holds(void) {
    many_sends_in_one_handler_arrive_in_order(TP_SUITE_AES_256_GCM);
    many_sends_in_one_handler_arrive_in_order(TP_SUITE_CHACHA20_POLY1305);
}

CHECK_MAIN(CASE(players_join_talk_and_leave), CASE(there_is_no_session_before_ready),
    CASE(who_goes_before_ready_was_never_there), CASE(first_frame_is_ready_or_nothing),
    CASE(ready_again_breaks_the_protocol), CASE(ready_may_come_in_any_records),
    CASE(identity_is_there_from_join_to_leave), CASE(open_mode_knows_nobody),
    CASE(other_servers_are_told_apart), CASE(messages_of_all_sizes_come_back),
    CASE(many_messages_keep_their_order), CASE(ping_and_pad_are_answered_and_ignored),
    CASE(a_frame_over_the_limit_breaks_the_protocol),
    CASE(broadcast_reaches_everybody_who_has_joined), CASE(disconnect_after_send_says_why),
    CASE(an_end_without_close_is_a_truncation), CASE(the_peers_reason_is_kept),
    CASE(a_full_server_says_so_in_a_record), CASE(silence_is_asked_about_and_then_ended),
    CASE(a_stop_ends_all_and_a_start_follows), CASE(a_stop_drains_what_is_queued),
    CASE(players_do_not_get_called), CASE(a_handler_sends_more_than_the_queue_holds))
