/*
 * The end of a session in order: what is queued is sent first, then CLOSE, then the end of the
 * stream.
 *
 * Any thread that has a reference. What follows once the end node is with the system is in flush.c;
 * a peer that takes too long is cut by the sweep.
 */
#include "core/engine/server_state.h"
#include "core/packet/packet_internal.h"
#include "proto/frame.h"
#include "twinport/log.h"

static tp_packet *close_packet_new(int close_code) {
    tp_packet *packet = tp__packet_kept(TP_FRAME_CLOSE_MIN); /* not in a chunk: it may wait long */
    if (packet) {
        tp_packet_clear(packet);
        tp_packet_put_u16(packet, (uint16_t)close_code);
        tp__packet_seal(packet, TP_FRAME_CLOSE);
    }
    return packet; /* without memory the stream just ends, which the peer sees too */
}

/* When the session is cut if its end takes too long. A session that has not joined keeps its join
 * deadline if that is earlier. */
static uint64_t finish_deadline_ms(const tp__session *session) {
    uint64_t by_ms = tp__session_deadline_ms(session, session->server->options.drain_timeout_ms);
    uint64_t join_by_ms = atomic_load_explicit(&session->finish_by_ms, memory_order_relaxed);
    bool pending = join_by_ms != 0 && tp__life_read(&session->life) & TP__LIFE_OPENING;
    return pending && join_by_ms < by_ms ? join_by_ms : by_ms;
}

static bool session_begin_finish(
    tp__session *session, tp_end_reason reason, int close_code, bool turned_away) {
    assert(reason > TP_END_NONE && (unsigned)reason < TP_END_REASON_COUNT);
    assert(close_code <= UINT16_MAX);
    if (tp__life_read(&session->life) & (TP__LIFE_FINISHING | TP__LIFE_CLOSING)) {
        return false;
    }
    /* Before the flag, which releases it: a thread that sees the session finishing sees its
     * deadline. If several threads come here at once, all of them write it, and about the same
     * value. */
    atomic_store_explicit(
        &session->finish_by_ms, finish_deadline_ms(session), memory_order_relaxed);
    uint64_t before = tp__life_begin_finishing(&session->life);
    if (before & (TP__LIFE_FINISHING | TP__LIFE_CLOSING)) {
        return false;
    }
    session->reason = (uint8_t)reason;
    session->turned_away = turned_away;
    tp__session_return_quota(session);
    tp_trace(TP_TRACE_FINISH, tp__session_id(session), session->reason);
    session->end_node.packet = close_code < 0 ? NULL : close_packet_new(close_code);
    if (session->end_node.packet) {
        size_t bytes = tp__packet_frame_size(session->end_node.packet);
        (void)tp__queue_size_add(&session->queued, TP__QUEUED_ONE | bytes);
    }
    if (tp__send_queue_push(&session->queue, &session->end_node)) {
        tp__session_retain(session, TP__REFERENCE_FLUSH);
        tp__session_flush(session);
    }
    return true;
}

bool tp__session_finish(tp__session *session, tp_end_reason reason, int close_code) {
    return session_begin_finish(session, reason, close_code, false);
}

bool tp__session_turn_away(tp__session *session, tp_end_reason reason, int close_code) {
    return session_begin_finish(session, reason, close_code, true);
}
