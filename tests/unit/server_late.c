/*
 * Senders that come too late: their packets are queued behind the end of the session. They are not
 * sent, nothing waits for them, and what was queued before the end goes out to its last byte.
 */
#include "late_senders.h"

static server_stage stage;

static void run(bool here) {
    server_stage_init(&stage);
    stage.options.drain_timeout_ms = 600000; /* the sweep does not help with a lost end */
    stage.on_message = here ? late_end_here : late_hold_up;
    server_stage_open(&stage);
    raw_peer *peer = stage_connect_peer(&stage);
    CHECK(raw_send_frame(peer, TP_FRAME_DATA, "end", 3));
    if (!here) {
        STAGE_WAIT(atomic_load(&stage.joins) == 1);
        late_end_elsewhere(&stage, atomic_load(&stage.last_joined));
    }
    static uint8_t payload[LATE_LARGE];
    unsigned type;
    for (unsigned i = 0; i < late_case.before; i++) {
        CHECK_EQ(raw_receive_frame(peer, &type, payload, sizeof payload), late_case.size);
        CHECK_EQ(type, TP_FRAME_DATA);
    }
    if (late_case.close_code >= 0) {
        CHECK_EQ(raw_receive_frame(peer, &type, payload, sizeof payload), TP_FRAME_CLOSE_MIN);
        CHECK_EQ(type, TP_FRAME_CLOSE);
    }
    CHECK_EQ(raw_receive_frame(peer, &type, payload, sizeof payload), -1);
    CHECK_EQ(raw_end(peer), TP_ERR_CLOSED);
    raw_close(peer, false);
    STAGE_WAIT(atomic_load(&stage.leaves) == 1);
    late_check_ledger(stage.server);
    server_stage_close(&stage);
}

static void nothing_is_sent_behind_the_end(void) {
    late_for_all(run);
}

CHECK_MAIN(CASE(nothing_is_sent_behind_the_end))
