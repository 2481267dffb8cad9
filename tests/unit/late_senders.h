/*
 * Packets that are queued behind the end of their session.
 *
 * A sender that is already inside tp_server_send() when the session's end begins queues its packet
 * behind the end node. Here both steps are taken one after the other, through the functions that
 * the public calls consist of, so that the order is certain.
 *
 * late_end_here and late_hold_up are handlers for the fixture's on_message: a message makes the
 * session end as late_case describes, which the test sets before.
 */
#ifndef TWINPORT_TESTS_LATE_SENDERS_H
#define TWINPORT_TESTS_LATE_SENDERS_H

#include "core/engine/server_state.h"
#include "core/packet/packet_internal.h"
#include "server_fixture.h"

#define LATE_LARGE 9000u /* Bytes. A few packets of this size do not fit into one WAN record. */

static struct {
    unsigned before; /* packets queued before the end */
    int close_code;  /* negative: the end carries no CLOSE */
    unsigned after;  /* packets queued behind the end */
    size_t size;     /* payload bytes of each of them */
} late_case;

static inline void late_queue(tp__session *session, unsigned count) {
    static const uint8_t bytes[LATE_LARGE];
    for (unsigned i = 0; i < count; i++) {
        tp_packet *packet = tp_packet_copy_of(bytes, late_case.size);
        REQUIRE(packet != NULL);
        tp__packet_seal(packet, TP_FRAME_DATA);
        tp__session_retain(session, TP__REFERENCE_CALL);
        CHECK_EQ(tp__session_queue(session, packet), TP__QUEUED);
        tp_packet_release(packet);
    }
}

static inline void late_end(tp_server *server, tp_session_id id) {
    tp__session *session = tp__session_enter(server, id, TP__LIFE_OPENING | TP__LIFE_ENDING);
    REQUIRE(session != NULL);
    late_queue(session, late_case.before);
    CHECK(tp__session_finish(session, TP_END_KICKED, late_case.close_code));
    late_queue(session, late_case.after);
    tp__session_leave(session, TP__REFERENCE_CALL);
}

/* On the session's own worker: its packets do not pass through the shared queue. */
static inline void late_end_here(
    server_fixture *fixture, tp_session_id session, tp_packet *packet) {
    (void)packet;
    late_end(fixture->server, session);
}

/* On another thread, while the session's worker is held up: the worker then finds all of them
 * queued together. */
static inline void late_end_elsewhere(server_fixture *fixture, tp_session_id session) {
    FIXTURE_WAIT(atomic_load(&fixture->blocked));
    late_end(fixture->server, session);
    atomic_store(&fixture->unblock, true);
}

static inline void late_hold_up(server_fixture *fixture, tp_session_id session, tp_packet *packet) {
    (void)session, (void)packet;
    fixture_block(fixture);
}

/* The newest ledger entry has the session's own end reason and counts the late packets as
 * unsent. */
static inline void late_check_ledger(const tp_server *server) {
    tp_session_end end = {.size = sizeof end};
    REQUIRE(tp_server_read_ledger(server, &end, 1) == 1);
    CHECK_EQ(end.reason, TP_END_KICKED);
    CHECK_EQ(end.pending_packets, late_case.after);
    CHECK_EQ(end.pending_bytes, late_case.after * (TP_FRAME_HEADER + late_case.size));
}

/* Calls run() for every combination, on the session's worker and on another thread. */
static inline void late_for_all(void (*run)(bool here)) {
    static const unsigned befores[] = {0, 1, 5};
    static const unsigned afters[] = {0, 1, 3};
    static const size_t sizes[] = {0, 10, LATE_LARGE};
    for (unsigned i = 0; i < 3 * 3 * 3 * 2 * 2; i++) {
        late_case.before = befores[i % 3];
        late_case.after = afters[i / 3 % 3];
        late_case.size = sizes[i / 9 % 3];
        late_case.close_code = i / 27 % 2 ? TP_CLOSE_KICKED : -1;
        unsigned failures = atomic_load(&check_failures);
        run(i / 54 % 2);
        if (atomic_load(&check_failures) != failures) {
            printf("    failed with %u packets of %zu bytes, %s, %u late packets, queued %s\n",
                late_case.before, late_case.size,
                late_case.close_code < 0 ? "the end" : "the end with CLOSE", late_case.after,
                i / 54 % 2 ? "on its worker" : "by another thread");
            return;
        }
    }
}

#endif
