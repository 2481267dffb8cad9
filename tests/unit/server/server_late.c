/*
 * Packets queued behind the end of their session (late_senders.h): they are not sent and delay
 * nothing, and what was queued before the end is sent to the last byte.
 */
#include "late_senders.h"

static server_fixture fixture;

static void check_late_packets(bool here) {
    server_fixture_init(&fixture);
    fixture.options.drain_timeout_ms = 600000; /* long, so that the sweep cannot hide a lost end */
    fixture.on_message = here ? late_end_here : late_hold_up;
    server_fixture_open(&fixture);
    raw_peer *peer = fixture_connect_peer(&fixture);
    CHECK(raw_send_frame(peer, TP_FRAME_DATA, "end", 3));
    if (!here) {
        FIXTURE_WAIT(atomic_load(&fixture.joins) == 1);
        late_end_elsewhere(&fixture, atomic_load(&fixture.last_joined));
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
    FIXTURE_WAIT(atomic_load(&fixture.leaves) == 1);
    late_check_ledger(fixture.server);
    server_fixture_close(&fixture);
}

static void nothing_is_sent_behind_the_end(void) {
    late_for_all(check_late_packets);
}

CHECK_MAIN(CASE(nothing_is_sent_behind_the_end))
