/*
 * The public calls about sessions and numbers. Any thread. Each takes a reference to the session
 * while it reads it.
 */
#include <string.h>

#include "core/engine/server_state.h"
#include "core/memory/memory.h"
#include "os/clock.h"

/* OPENING is barred. */
static tp__session *session_enter_counted(tp_server *server, tp_session_id id, uint64_t barred) {
    tp__session *session = tp__session_enter(server, id, barred);
    if (!session) {
        TP__COUNT(server, tp__worker_here(server), no_session, 1);
    }
    assert(!session || session->joined);
    return session;
}

bool tp_server_disconnect(tp_server *server, tp_session_id id) {
    tp__session *session = session_enter_counted(server, id, TP__LIFE_OPENING | TP__LIFE_CLOSING);
    if (!session) {
        return false;
    }
    bool first = tp__session_close(session, TP_END_KICKED, 0);
    tp__session_leave(session, TP__REFERENCE_CALL);
    return first;
}

static bool session_end_after_send(tp_server *server, tp_session_id id, unsigned close_code,
    bool (*end)(tp__session *session, tp_end_reason reason, int close_code)) {
    if (close_code > UINT16_MAX) {
        return false;
    }
    tp__session *session = session_enter_counted(server, id, TP__LIFE_OPENING | TP__LIFE_ENDING);
    if (!session) {
        return false;
    }
    bool first = end(session, TP_END_KICKED, (int)close_code);
    tp__session_leave(session, TP__REFERENCE_CALL);
    return first;
}

bool tp_server_disconnect_after_send(tp_server *server, tp_session_id id, unsigned close_code) {
    return session_end_after_send(server, id, close_code, tp__session_finish);
}

bool tp_server_turn_away(tp_server *server, tp_session_id id, unsigned close_code) {
    return session_end_after_send(server, id, close_code, tp__session_turn_away);
}

bool tp_server_session_info(tp_server *server, tp_session_id id, tp_session_info *info) {
    if (info->size != sizeof *info) {
        return false;
    }
    tp__session *session = tp__session_enter(server, id, TP__LIFE_OPENING | TP__LIFE_CLOSING);
    if (!session) {
        return false;
    }
    assert(session->joined);
    uint64_t now = tp_clock_ms();
    uint64_t heard = atomic_load_explicit(&session->heard_ms, memory_order_relaxed);
    uint64_t served = tp__session_served_ms(session, now);
    uint64_t queued = tp__queue_size_now(&session->queued);
    *info = (tp_session_info){
        .size = sizeof *info,
        .session = id,
        .peer = session->peer,
        .age_ms = now - session->joined_ms,
        .silent_ms = served > heard ? served - heard : 0,
        .received_messages = tp__count_read(&session->numbers.received_messages),
        .received_bytes = tp__count_read(&session->numbers.received_bytes),
        .sent_messages = tp__count_read(&session->numbers.sent_messages),
        .sent_bytes = tp__count_read(&session->numbers.sent_bytes),
        .queued_bytes = queued & TP__QUEUED_BYTES,
        .queued_packets = (uint32_t)(queued >> TP__QUEUED_SHIFT),
        .ending = (tp__life_read(&session->life) & TP__LIFE_FINISHING) != 0,
    };
    tp__session_leave(session, TP__REFERENCE_CALL);
    return true;
}

unsigned tp_server_session_count(const tp_server *server) {
    return atomic_load_explicit(&server->session_count, memory_order_relaxed);
}

/* ---- statistics and the ledger --------------------------------------------------------------- */

#define ENDS_FIELD(name) uint64_t name[32];
struct server_stats_listed {
    size_t size;
    TP__SERVER_STATS(TP__STATS_FIELD, TP__STATS_FIELD, ENDS_FIELD)
};
#undef ENDS_FIELD
#define TIE(name) TP__STATS_TIE_FIELD(struct server_stats_listed, tp_server_stats, name)
TP__STATS_TIE(struct server_stats_listed, tp_server_stats);
TP__SERVER_STATS(TIE, TIE, TIE)
#undef TIE
_Static_assert(TP_END_REASON_COUNT <= 32, "tp_server_stats.ends");

static void stats_add_row(tp_server_stats *stats, const tp__counters *row) {
#define ADD(name) stats->name += tp__count_read(&row->name);
#define ADD_ENDS(name)                                                                             \
    for (size_t i = 0; i < TP_END_REASON_COUNT; i++) {                                             \
        stats->name[i] += tp__count_read(&row->name[i]);                                           \
    }
    TP__SERVER_STATS(ADD, TP__STATS_NONE, ADD_ENDS)
#undef ADD
#undef ADD_ENDS
}

void tp_server_get_stats(const tp_server *server, tp_server_stats *stats) {
    size_t size = stats->size;
    if (size != sizeof *stats) {
        return;
    }
    memset(stats, 0, sizeof *stats);
    stats->size = size;
    stats->memory_held = tp__memory_held();
    stats_add_row(stats, &server->outside);
    for (unsigned i = 0; i < server->options.workers; i++) {
        stats_add_row(stats, &server->workers[i].counters);
    }
}

size_t tp_server_read_ledger(const tp_server *server, tp_session_end *ends, size_t capacity) {
    return capacity > 0 && ends[0].size == sizeof *ends
               ? tp__ledger_read(server->ledger, ends, capacity)
               : 0;
}

uint64_t tp__server_session_served_ms(tp_server *server, tp_session_id id, uint64_t now_ms) {
    tp__session *session = tp__session_enter(server, id, TP__LIFE_OPENING | TP__LIFE_CLOSING);
    if (!session) {
        return 0;
    }
    assert(session->joined);
    uint64_t served = tp__session_served_ms(session, now_ms);
    tp__session_leave(session, TP__REFERENCE_CALL);
    return served;
}
