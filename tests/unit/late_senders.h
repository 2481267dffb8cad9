/*
 * What a sender that was already inside tp_server_send() does to a session whose end begins at that
 * moment: its packet is queued behind the session's end node. Both steps are taken here one after
 * the other, through the functions that the public calls are made of, so that the order is certain.
 *
 * The stage's on_message: any message makes the session end by late_case, which the test sets
 * before.
 */
#ifndef TWINPORT_TESTS_LATE_SENDERS_H
#define TWINPORT_TESTS_LATE_SENDERS_H

#include "core/engine/server_state.h"
#include "core/packet/packet_internal.h"
#include "server_stage.h"

#define LATE_LARGE 9000u /* bytes: a few of these do not fit into one record of the WAN */

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
        tp__life_hold(&session->life);
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
    tp__session_leave(session);
}

/* On the session's own worker: what it queues itself does not pass through the shared queue. */
static inline void late_end_here(server_stage *stage, tp_session_id session, tp_packet *packet) {
    (void)packet;
    late_end(stage->server, session);
}

/* On another thread, the session's own worker being held up: it finds all of it queued at once. */
static inline void late_end_elsewhere(server_stage *stage, tp_session_id session) {
    STAGE_WAIT(atomic_load(&stage->blocked));
    late_end(stage->server, session);
    atomic_store(&stage->let_go, true);
}

static inline void late_hold_up(server_stage *stage, tp_session_id session, tp_packet *packet) {
    (void)session, (void)packet;
    stage_block(stage);
}

/* The ledger's newest line: the session ended for its own reason and took the late packets with
 * it. */
static inline void late_check_ledger(const tp_server *server) {
    tp_session_end end = {.size = sizeof end};
    REQUIRE(tp_server_read_ledger(server, &end, 1) == 1);
    CHECK_EQ(end.reason, TP_END_KICKED);
    CHECK_EQ(end.pending_packets, late_case.after);
    CHECK_EQ(end.pending_bytes, late_case.after * (TP_FRAME_HEADER + late_case.size));
}

/* Calls run(here) for every combination, on the session's worker and elsewhere. */
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
            printf("    that was: %u packets of %zu bytes, %s, %u packets, queued %s\n",
                late_case.before, late_case.size,
                late_case.close_code < 0 ? "the end" : "the end with CLOSE", late_case.after,
                i / 54 % 2 ? "on its worker" : "elsewhere");
            return;
        }
    }
}

#endif
