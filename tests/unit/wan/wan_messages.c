/*
 * Messages of the WAN server's players: of all sizes, in order, to many, and more of them than a
 * queue holds.
 */
#include "wan_fixture.h"

static wan_fixture fixture;

static uint8_t out[(1u << 20) + 64];
static uint8_t in[(1u << 20) + 64];

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
    wan_fixture_wait_left(&fixture, 1, TP_END_PEER_CLOSED);
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
    wan_fixture_wait_left(&fixture, 1, TP_END_PROTOCOL);
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
    wan_fixture_wait_left(&fixture, 1, TP_END_PEER_CLOSED);
    wan_fixture_close(&fixture);
}

static void a_handler_sends_more_than_the_queue_holds(void) {
    many_sends_in_one_handler_arrive_in_order(TP_SUITE_AES_256_GCM);
    many_sends_in_one_handler_arrive_in_order(TP_SUITE_CHACHA20_POLY1305);
}

CHECK_MAIN(CASE(messages_of_all_sizes_come_back), CASE(many_messages_keep_their_order),
    CASE(ping_and_pad_are_answered_and_ignored), CASE(a_frame_over_the_limit_breaks_the_protocol),
    CASE(a_broadcast_reaches_every_joined_player), CASE(a_handler_sends_more_than_the_queue_holds))
