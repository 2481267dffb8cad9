/*
 * Senders that come too late for a player: their packets are queued behind the end of the session.
 * They get into no record, and the player hears of the end at once.
 */
#include "late_senders.h"
#include "wan_stage.h"
#include "wanserver/wan.h"

#define LEAVERS 150u /* players of a thread who leave while all are spoken to */
#define THREADS 2u   /* that speak, and that leave */

static wan_stage stage;

static void open_stage(unsigned workers) {
    wan_stage_init(&stage, TP_AUTH_OPEN);
    stage.options.server.workers = workers;
    stage.options.server.drain_timeout_ms = 600000; /* the sweep does not help with a lost end */
}

static void run_with(tp_suite suite, bool here) {
    open_stage(1);
    stage.base.on_message = here ? late_end_here : late_hold_up;
    wan_stage_open(&stage);
    wan_peer *peer = wan_stage_join(&stage, suite, 1);
    CHECK(wan_send_frame(peer, TP_FRAME_DATA, "end", 3));
    if (!here) {
        STAGE_WAIT(atomic_load(&stage.base.joins) == 1);
        late_end_elsewhere(&stage.base, atomic_load(&stage.base.last_joined));
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
    STAGE_WAIT(atomic_load(&stage.base.leaves) == 1);
    late_check_ledger(stage.base.server);
    wan_stage_close(&stage);
}

static void run(bool here) {
    run_with(TP_SUITE_AES_256_GCM, here);
    run_with(TP_SUITE_CHACHA20_POLY1305, here);
}

static void nothing_is_sent_behind_the_end(void) {
    late_for_all(run);
}

/* ---- REPLY ----------------------------------------------------------------------------------- */

/* On the one worker: the end of a connection is queued, and REPLY comes behind it. */
static void end_before_reply(void *context) {
    const uint8_t reply[TP_REPLY_BUSY] = {1};
    tp__session *session = context;
    CHECK(tp__session_finish(session, TP_END_RATE, -1));
    CHECK(tp__reply_queue(session, tp__worker_here(session->server), reply, sizeof reply));
    tp__session_leave(session);
}

static void a_reply_behind_the_end_is_not_sent(void) {
    open_stage(1);
    wan_stage_open(&stage);
    tp_address address = tp_server_address(stage.base.server);
    raw_peer *peer = raw_connect(&address);
    REQUIRE(peer != NULL);
    STAGE_WAIT(wan_stats(&stage).pending == 1);
    tp__session *session = wan_pending_one(&stage);
    REQUIRE(session != NULL);
    CHECK_EQ(tp_server_post(stage.base.server, 0, end_before_reply, session), TP_OK);
    uint8_t byte;
    CHECK(!raw_receive(peer, &byte, 1));
    CHECK_EQ(raw_end(peer), TP_ERR_CLOSED);
    raw_close(peer, false);
    wan_stage_close(&stage);
}

/* ---- the same by the public calls alone, in whatever order it happens ------------------------ */

static atomic_bool over;
static atomic_uint left_in_order;

/* Both speakers send the same packet by the reference of the case. */
static void speak_to_all(void *argument) {
    tp_packet *kept = argument;
    while (!atomic_load(&over)) {
        tp_server_broadcast(stage.base.server, kept, TP_NO_SESSION);
        tp_thread_yield();
    }
}

static void come_and_leave(void *argument) {
    const tp_suite suites[] = WAN_SUITES;
    (void)argument;
    for (unsigned i = 0; i < LEAVERS; i++) {
        wan_peer *peer = wan_stage_join(&stage, suites[i % 2], i);
        const uint8_t reason[TP_FRAME_CLOSE_MIN] = {TP_CLOSE_NORMAL};
        CHECK(wan_send_frame(peer, TP_FRAME_CLOSE, reason, sizeof reason));
        atomic_fetch_add(&left_in_order, raw_end(peer->raw) == TP_ERR_CLOSED);
        wan_close(peer, false);
    }
}

static void players_leave_while_all_are_spoken_to(void) {
    tp_thread speakers[THREADS];
    tp_thread leavers[THREADS];
    open_stage(2);
    stage.options.server.queue_policy = TP_QUEUE_DROP; /* a slow reader leaves in order, too */
    wan_stage_open(&stage);
    tp_packet *kept = tp_packet_copy_of("to all", 6);
    REQUIRE(kept != NULL);
    tp_server_broadcast(stage.base.server, kept, TP_NO_SESSION); /* the first is one thread's */
    for (unsigned i = 0; i < THREADS; i++) {
        REQUIRE(tp_thread_start(&speakers[i], "speaker", speak_to_all, kept) == TP_OK);
        REQUIRE(tp_thread_start(&leavers[i], "leaver", come_and_leave, NULL) == TP_OK);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        tp_thread_join(&leavers[i]);
    }
    atomic_store(&over, true);
    for (unsigned i = 0; i < THREADS; i++) {
        tp_thread_join(&speakers[i]);
    }
    CHECK_EQ(atomic_load(&left_in_order), THREADS * LEAVERS);
    wan_stage_close(&stage);
    tp_packet_release(kept);
}

CHECK_MAIN(CASE(nothing_is_sent_behind_the_end), CASE(a_reply_behind_the_end_is_not_sent),
    CASE(players_leave_while_all_are_spoken_to))
