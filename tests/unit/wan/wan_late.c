/*
 * Packets queued behind the end of a player's session (late_senders.h): they get into no record,
 * and the player receives the end without delay.
 */
#include "late_senders.h"
#include "wan_fixture.h"
#include "wanserver/wan.h"

#define LEAVERS 150u /* players per thread that leave while all receive messages */
#define THREADS 2u   /* that send, and that leave */

static wan_fixture fixture;

static void open_fixture(unsigned workers) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.options.server.workers = workers;
    /* Long, so that the sweep cannot hide a lost end. */
    fixture.options.server.drain_timeout_ms = 600000;
}

static void check_late_packets_with(tp_suite suite, bool here) {
    open_fixture(1);
    fixture.base.on_message = here ? late_end_here : late_hold_up;
    wan_fixture_open(&fixture);
    wan_peer *peer = wan_fixture_join(&fixture, suite, 1);
    CHECK(wan_send_frame(peer, TP_FRAME_DATA, "end", 3));
    if (!here) {
        FIXTURE_WAIT(atomic_load(&fixture.base.joins) == 1);
        late_end_elsewhere(&fixture.base, atomic_load(&fixture.base.last_joined));
    }
    static uint8_t payload[LATE_LARGE];
    unsigned type;
    for (unsigned i = 0; i < late_case.before; i++) {
        CHECK_EQ(wan_receive_frame(peer, &type, payload, sizeof payload), late_case.size);
        CHECK_EQ(type, TP_FRAME_DATA);
    }
    if (late_case.close_code >= 0) {
        CHECK_EQ(wan_receive_frame(peer, &type, payload, sizeof payload), TP_FRAME_CLOSE_MIN);
        CHECK_EQ(type, TP_FRAME_CLOSE);
    }
    CHECK_EQ(wan_receive_frame(peer, &type, payload, sizeof payload), -1);
    CHECK_EQ(raw_end(peer->raw), TP_ERR_CLOSED);
    wan_close(peer, false);
    FIXTURE_WAIT(atomic_load(&fixture.base.leaves) == 1);
    late_check_ledger(fixture.base.server);
    wan_fixture_close(&fixture);
}

static void check_late_packets(bool here) {
    check_late_packets_with(TP_SUITE_AES_256_GCM, here);
    check_late_packets_with(TP_SUITE_CHACHA20_POLY1305, here);
}

static void nothing_is_sent_behind_the_end(void) {
    late_for_all(check_late_packets);
}

/* ---- REPLY ----------------------------------------------------------------------------------- */

/* Runs on the only worker: queues the end of a connection, and then REPLY behind it. */
static void end_before_reply(void *context) {
    const uint8_t reply[TP_REPLY_BUSY] = {1};
    tp__session *session = context;
    CHECK(tp__session_finish(session, TP_END_RATE, -1));
    CHECK(tp__reply_queue(session, tp__worker_here(session->server), reply, sizeof reply));
    tp__session_leave(session, TP__REFERENCE_CALL);
}

static void a_reply_behind_the_end_is_not_sent(void) {
    open_fixture(1);
    wan_fixture_open(&fixture);
    tp_address address = tp_server_address(fixture.base.server);
    raw_peer *peer = raw_connect(&address);
    REQUIRE(peer != NULL);
    FIXTURE_WAIT(wan_stats(&fixture).pending == 1);
    tp__session *session = wan_pending_one(&fixture);
    REQUIRE(session != NULL);
    CHECK_EQ(tp_server_post(fixture.base.server, 0, end_before_reply, session), TP_OK);
    uint8_t byte;
    CHECK(!raw_receive(peer, &byte, 1));
    CHECK_EQ(raw_end(peer), TP_ERR_CLOSED);
    raw_close(peer, false);
    wan_fixture_close(&fixture);
}

/* ---- the same with public calls only, in any order ------------------------------------------- */

static atomic_bool over;
static atomic_uint left_in_order;

/* Both threads send the same packet, with the case's reference. */
static void broadcast_until_over(void *argument) {
    tp_packet *kept = argument;
    while (!atomic_load(&over)) {
        tp_server_broadcast(fixture.base.server, kept, TP_NO_SESSION);
        tp_thread_yield();
    }
}

static void join_and_leave(void *argument) {
    const tp_suite suites[] = WAN_SUITES;
    (void)argument;
    for (unsigned i = 0; i < LEAVERS; i++) {
        wan_peer *peer = wan_fixture_join(&fixture, suites[i % 2], i);
        const uint8_t reason[TP_FRAME_CLOSE_MIN] = {TP_CLOSE_NORMAL};
        CHECK(wan_send_frame(peer, TP_FRAME_CLOSE, reason, sizeof reason));
        atomic_fetch_add(&left_in_order, raw_end(peer->raw) == TP_ERR_CLOSED);
        wan_close(peer, false);
    }
}

static void players_may_leave_during_broadcasts(void) {
    tp_thread speakers[THREADS];
    tp_thread leavers[THREADS];
    open_fixture(2);
    /* So that a slow reader leaves in order, too. */
    fixture.options.server.queue_policy = TP_QUEUE_DROP;
    wan_fixture_open(&fixture);
    tp_packet *kept = tp_packet_copy_of("to all", 6);
    REQUIRE(kept != NULL);
    /* The first send seals the packet and is done by one thread. */
    tp_server_broadcast(fixture.base.server, kept, TP_NO_SESSION);
    for (unsigned i = 0; i < THREADS; i++) {
        REQUIRE(tp_thread_start(&speakers[i], "speaker", broadcast_until_over, kept) == TP_OK);
        REQUIRE(tp_thread_start(&leavers[i], "leaver", join_and_leave, NULL) == TP_OK);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        tp_thread_join(&leavers[i]);
    }
    atomic_store(&over, true);
    for (unsigned i = 0; i < THREADS; i++) {
        tp_thread_join(&speakers[i]);
    }
    CHECK_EQ(atomic_load(&left_in_order), THREADS * LEAVERS);
    wan_fixture_close(&fixture);
    tp_packet_release(kept);
}

CHECK_MAIN(CASE(nothing_is_sent_behind_the_end), CASE(a_reply_behind_the_end_is_not_sent),
    CASE(players_may_leave_during_broadcasts))
