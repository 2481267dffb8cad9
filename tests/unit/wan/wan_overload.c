/*
 * Players that send too much or read too little, and stops in the middle of handshakes and queues.
 */
#include "wan_fixture.h"

static wan_fixture fixture;
static uint8_t out[70000];
static uint8_t in[70000];

static void wait_left(tp_end_reason reason) {
    FIXTURE_WAIT(atomic_load(&fixture.base.leaves) == 1);
    CHECK_EQ(atomic_load(&fixture.base.last_reason), reason);
}

/* ---- rates ----------------------------------------------------------------------------------- */

/* One message a second is earned. However slow the machine is, the burst and what the seconds gave
 * is delivered, and no more, although all are in one record. */
static void check_message_rate(unsigned type) {
    enum { MESSAGES = 1000, BURST = 10 };
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.options.message_rate = 1;
    fixture.options.message_burst = BURST;
    wan_fixture_open(&fixture);
    atomic_store(&fixture.base.echo, false);
    wan_peer *peer = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    for (unsigned i = 0; i < MESSAGES; i++) {
        tp_frame_write(out + i * TP_FRAME_HEADER, (tp_frame_type)type, 0);
    }
    uint64_t before = tp_clock_ms();
    CHECK(wan_send_record(peer, out, MESSAGES * TP_FRAME_HEADER));
    CHECK_EQ(wan_receive_close(peer), TP_CLOSE_RATE);
    wan_close(peer, false);
    wait_left(TP_END_RATE);
    uint64_t earned = (tp_clock_ms() - before) / 1000 + 1;
    CHECK_EQ(wan_stats(&fixture).rate_limited, 1);
    if (type == TP_FRAME_DATA) {
        CHECK_GE(atomic_load(&fixture.base.messages), BURST);
        CHECK_LE(atomic_load(&fixture.base.messages), BURST + earned);
        CHECK_EQ(wan_core_stats(&fixture).received_messages, atomic_load(&fixture.base.messages));
    }
    wan_fixture_close(&fixture);
}

static void players_that_send_too_many_messages_are_ended(void) {
    check_message_rate(TP_FRAME_DATA);
    check_message_rate(TP_FRAME_PING); /* PING costs as much as a message */
    check_message_rate(TP_FRAME_PAD);
}

/* In records of their own: those behind the limit are not read. */
static void the_message_rate_holds_for_separate_records(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.options.message_rate = 1;
    fixture.options.message_burst = 10;
    fixture.options.server.drain_timeout_ms = 600000; /* the test's side may take its time */
    wan_fixture_open(&fixture);
    wan_peer *peer = wan_fixture_join(&fixture, TP_SUITE_CHACHA20_POLY1305, 1);
    for (unsigned i = 0; i < 1000; i++) {
        CHECK(wan_send_frame(peer, TP_FRAME_DATA, "x", 1));
    }
    CHECK_EQ(wan_receive_close(peer), TP_CLOSE_RATE);
    wan_close(peer, false);
    wait_left(TP_END_RATE);
    wan_fixture_close(&fixture);
}

static void players_that_send_too_many_bytes_are_ended(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.options.byte_rate = 1;
    fixture.options.byte_burst = 65536;
    fixture.options.server.max_frame = 32768;
    wan_fixture_open(&fixture);
    atomic_store(&fixture.base.echo, false);
    wan_peer *peer = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    for (unsigned i = 0; i < 3; i++) {
        CHECK(wan_send_frame(peer, TP_FRAME_DATA, out, 20000));
    }
    FIXTURE_WAIT(atomic_load(&fixture.base.messages) == 3); /* not yet */
    (void)wan_send_frame(peer, TP_FRAME_DATA, out, 10000);
    CHECK_EQ(wan_receive_close(peer), TP_CLOSE_RATE);
    wan_close(peer, false);
    wait_left(TP_END_RATE);
    CHECK_EQ(wan_stats(&fixture).rate_limited, 1);
    wan_fixture_close(&fixture);
}

/* `messages` 0: no limit. */
static void limit_bytes_and_messages(uint32_t messages) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.options.byte_rate = 1;
    fixture.options.byte_burst = 65536;
    fixture.options.server.max_frame = 32768;
    fixture.options.message_rate = messages;
    fixture.options.message_burst = messages;
    wan_fixture_open(&fixture);
    atomic_store(&fixture.base.echo, false);
}

static void limit_bytes_alone(void) {
    limit_bytes_and_messages(0);
}

/* A message in pieces of one byte, each a record to open. All its bytes are a third of the
 * burst. */
static void fragments_of_messages_cost_more_than_their_bytes(void) {
    enum { RECORDS = 1000 };
    limit_bytes_alone();
    wan_peer *peer = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    tp_frame_write(out, TP_FRAME_DATA, 20000);
    for (unsigned i = 0; i < RECORDS; i++) {
        (void)wan_send_record(peer, out + i, 1);
    }
    CHECK_EQ(wan_receive_close(peer), TP_CLOSE_RATE);
    wan_close(peer, false);
    wait_left(TP_END_RATE);
    CHECK_EQ(wan_stats(&fixture).rate_limited, 1);
    CHECK_LE(wan_stats(&fixture).records_opened, 65536 / TP_WANSERVER_RECORD_COST + 2);
    wan_fixture_close(&fixture);
}

/* Messages of one byte, each in a record: counted as messages or, where messages are not limited,
 * as records. */
static void a_message_in_a_record_of_its_own_costs_its_bytes(void) {
    enum { RECORDS = 1000 };
    limit_bytes_alone();
    wan_peer *uncounted = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    for (unsigned i = 0; i < RECORDS; i++) {
        (void)wan_send_frame(uncounted, TP_FRAME_DATA, "x", 1);
    }
    CHECK_EQ(wan_receive_close(uncounted), TP_CLOSE_RATE);
    wan_close(uncounted, false);
    wait_left(TP_END_RATE);
    wan_fixture_close(&fixture);

    limit_bytes_and_messages(RECORDS);
    wan_peer *peer = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    for (unsigned i = 0; i < RECORDS; i++) {
        CHECK(wan_send_frame(peer, TP_FRAME_DATA, "x", 1));
    }
    FIXTURE_WAIT(atomic_load(&fixture.base.messages) == RECORDS);
    CHECK_EQ(wan_stats(&fixture).rate_limited, 0);
    wan_leave(peer);
    wan_fixture_close(&fixture);
}

/* ---- slow readers ---------------------------------------------------------------------------- */

static tp_packet *packet_of(size_t size) {
    tp_packet *packet = tp_packet_copy_of(out, size);
    REQUIRE(packet != NULL);
    return packet;
}

/* Sends until the server refuses: the system's buffers and the queue are then full. */
static size_t send_until_refused(tp_session_id session, size_t size) {
    tp_packet *packet = packet_of(size);
    size_t taken = 0;
    uint64_t deadline = raw_deadline();
    while (tp_server_send(fixture.base.server, session, packet) && tp_clock_ms() < deadline) {
        taken++;
    }
    tp_packet_release(packet);
    return taken;
}

static void a_slow_reader_is_ended(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    wan_fixture_open(&fixture);
    wan_peer *peer = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    wan_check_echo(peer, "x");
    CHECK_GT(send_until_refused(peer->terms.session, 60000), 10);
    /* While the worker itself is behind, sends are only refused: repeat until the peer counts as
     * slow. */
    FIXTURE_WAIT(send_until_refused(peer->terms.session, 60000) == 0 &&
                 atomic_load(&fixture.base.leaves) > 0);
    wait_left(TP_END_OVERLOAD);
    tp_session_end end = {.size = sizeof end};
    REQUIRE(tp_server_read_ledger(fixture.base.server, &end, 1) == 1);
    CHECK_GT(end.pending_packets, 0);
    CHECK_LE(end.pending_packets, 1u << 20);
    CHECK_EQ(end.pending_bytes, end.pending_packets * UINT64_C(60004));
    wan_close(peer, true);
    wan_fixture_close(&fixture);
}

/* All that was accepted arrives in order, and then more is accepted. The limits count records that
 * are sealed and in flight. */
static void a_refused_send_costs_nothing(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.options.server.queue_policy = TP_QUEUE_REFUSE;
    wan_fixture_open(&fixture);
    wan_peer *peer = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    wan_check_echo(peer, "x");
    tp_session_id session = peer->terms.session;
    size_t taken = send_until_refused(session, 60000);
    tp_session_info info = {.size = sizeof info};
    REQUIRE(tp_server_session_info(fixture.base.server, session, &info));
    CHECK_LE(info.queued_bytes, fixture.options.server.queue_bytes);
    for (size_t i = 0; i < taken; i++) {
        unsigned type;
        REQUIRE(wan_receive_frame(peer, &type, in, sizeof in) == 60000);
    }
    do {
        REQUIRE(tp_server_session_info(fixture.base.server, session, &info));
        tp_thread_yield();
    } while (info.queued_packets > 0);
    CHECK_EQ(info.queued_bytes, 0);
    CHECK_EQ(info.sent_messages, taken + 1);
    CHECK_GT(info.sent_bytes, taken * 60004); /* as bytes on the network */
    wan_check_echo(peer, "again");
    wan_leave(peer);
    wan_fixture_close(&fixture);
}

static void dropped_packets_are_counted(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.options.server.queue_policy = TP_QUEUE_DROP;
    fixture.options.server.queue_packets = 50;
    fixture.options.server.drain_timeout_ms = 600000; /* until everything is read */
    wan_fixture_open(&fixture);
    wan_peer *peer = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    wan_check_echo(peer, "x");
    tp_packet *packet = packet_of(20000);
    unsigned sent = 0;
    uint64_t deadline = raw_deadline();
    while (wan_core_stats(&fixture).dropped < 10 && tp_clock_ms() < deadline) {
        CHECK(tp_server_send(fixture.base.server, peer->terms.session, packet));
        sent++;
    }
    tp_packet_release(packet);
    CHECK(
        tp_server_disconnect_after_send(fixture.base.server, peer->terms.session, TP_CLOSE_NORMAL));
    unsigned received = 0;
    unsigned type = TP_FRAME_DATA;
    while (wan_receive_frame(peer, &type, in, sizeof in) >= 0 && type == TP_FRAME_DATA) {
        received++;
    }
    CHECK_EQ(received + wan_core_stats(&fixture).dropped, sent);
    wan_close(peer, false);
    wan_fixture_close(&fixture);
}

/* ---- stops in the middle of things ----------------------------------------------------------- */

/* HELLOs are with the handshake threads when the server stops: each session waits for its own. */
static void a_stop_waits_for_running_handshakes(void) {
    enum { PLAYERS = 40, ROUNDS = 5 };
    for (unsigned round = 0; round < ROUNDS; round++) {
        wan_fixture_init(&fixture, TP_AUTH_TOKEN);
        fixture.options.handshake_threads = 1 + round % 3;
        wan_fixture_open(&fixture);
        static wan_peer *peers[PLAYERS];
        for (unsigned i = 0; i < PLAYERS; i++) {
            const wan_login login = wan_login_as(&fixture, TP_SUITE_AES_256_GCM, i);
            peers[i] = wan_fixture_connect(&fixture, &login);
        }
        for (unsigned i = 0; i < PLAYERS; i++) {
            CHECK(wan_send_hello(peers[i]));
        }
        if (round % 2) {
            FIXTURE_WAIT(wan_stats(&fixture).diffie_hellman > 0);
        }
        if (round == 4) {
            /* Destroyed in the middle of it, without a stop. */
            tp_server_destroy(fixture.base.server);
        } else {
            wan_fixture_close(&fixture);
        }
        for (unsigned i = 0; i < PLAYERS; i++) {
            wan_close(peers[i], true);
        }
    }
}

/* The same with a connection in every state at the same time: silent, half a HELLO, welcomed,
 * joined, reading nothing. */
static void a_stop_ends_connections_in_every_state(void) {
    enum { EACH = 8 };
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    fixture.options.server.drain_timeout_ms = 100;
    wan_fixture_open(&fixture);
    static wan_peer *peers[4][EACH];
    for (unsigned i = 0; i < 4 * EACH; i++) {
        const wan_login login = wan_login_as(&fixture, TP_SUITE_CHACHA20_POLY1305, i);
        wan_peer *peer = peers[i / EACH][i % EACH] = wan_fixture_connect(&fixture, &login);
        switch (i / EACH) {
        case 3:
            CHECK(wan_send_hello(peer));
            CHECK(wan_take_reply(peer));
            CHECK(wan_send_ready(peer));
            wan_check_echo(peer, "x");
            (void)send_until_refused(peer->terms.session, 60000);
            break;
        case 2:
            CHECK(wan_send_hello(peer));
            CHECK(wan_take_reply(peer));
            break;
        case 1:
            CHECK(raw_send(peer->raw, peer->hello, 100));
            break;
        default:
            break;
        }
    }
    wan_fixture_close(&fixture);
    for (unsigned i = 0; i < 4 * EACH; i++) {
        wan_close(peers[i / EACH][i % EACH], true);
    }
}

CHECK_MAIN(CASE(players_that_send_too_many_messages_are_ended),
    CASE(the_message_rate_holds_for_separate_records),
    CASE(players_that_send_too_many_bytes_are_ended),
    CASE(fragments_of_messages_cost_more_than_their_bytes),
    CASE(a_message_in_a_record_of_its_own_costs_its_bytes), CASE(a_slow_reader_is_ended),
    CASE(a_refused_send_costs_nothing), CASE(dropped_packets_are_counted),
    CASE(a_stop_waits_for_running_handshakes), CASE(a_stop_ends_connections_in_every_state))
