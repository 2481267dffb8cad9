/*
 * When slots run short, sessions that are being ended are cut.
 *
 * A session that is being ended has no quota of max_sessions, but keeps its slot until its peer has
 * hung up or its deadline has passed. There are TP_SERVER_ENDING slots for that. When few are left,
 * each new connection causes one of these sessions to be cut: the one whose deadline is first among
 * those that are scanned. So slots remain however many peers do not hang up, and the memory stays
 * what it was when the server was created.
 *
 * Runs on any thread that opens a session, without a lock: a reference is taken to each session
 * while it is examined, and it is checked again before it is cut.
 */
#include "core/engine/server_state.h"
#include "core/log/refusal.h"
#include "os/clock.h"

/* Slots that are kept spare: more than all workers accept in one turn, because the slot of a
 * session that is cut becomes free only after that turn; but at most three quarters of
 * TP_SERVER_ENDING. */
#define ACCEPTS_PER_TURN 32u
#define SPARE_MIN        48u
#define CUT_TRIES        3u
#define SCAN_MIN         256u
#define SCAN_MAX         8192u

static bool session_is_finishing(uint64_t life) {
    return (life & TP__LIFE_ENDING) == TP__LIFE_FINISHING;
}

/* How long the session in this slot may still take to end, by its served time; INT64_MAX: it is not
 * being ended. */
static int64_t time_left_ms(tp_server *server, uint32_t index, uint64_t now_ms) {
    int64_t left_ms = INT64_MAX;
    uint64_t life = tp__life_read(&server->sessions[index].life);
    tp__session *session =
        session_is_finishing(life)
            ? tp__session_enter(server, (life & TP__LIFE_NUMBER) | index, TP__LIFE_CLOSING)
            : NULL;
    if (session) {
        uint64_t by_ms = atomic_load_explicit(&session->finish_by_ms, memory_order_relaxed);
        left_ms = (int64_t)(by_ms - tp__session_served_ms(session, now_ms));
        tp__session_leave(session, TP__REFERENCE_CALL);
    }
    return left_ms;
}

/* Scans SCAN_MIN slots, or up to SCAN_MAX until one is found, from where the last scan ended.
 * TP__NO_SLOT: there is none. */
static uint32_t shortage_find(tp_server *server) {
    uint32_t used = atomic_load_explicit(&server->slots.used, memory_order_acquire);
    uint32_t most = used < SCAN_MAX ? used : SCAN_MAX;
    uint32_t found = TP__NO_SLOT;
    uint64_t now_ms = tp_clock_ms();
    int64_t least = INT64_MAX;
    for (uint32_t i = 0; i < most && (found == TP__NO_SLOT || i < SCAN_MIN); i++) {
        uint32_t index =
            atomic_fetch_add_explicit(&server->cut_from, 1, memory_order_relaxed) % used;
        int64_t left_ms = time_left_ms(server, index, now_ms);
        if (left_ms < least) {
            least = left_ms;
            found = index;
        }
    }
    assert(found == TP__NO_SLOT || found < used);
    return found;
}

/* The session's own reason stays. False: it is closing already, or not being ended. */
static bool shortage_cut(tp_server *server, uint32_t index) {
    assert(index < server->slots.count);
    uint64_t life = tp__life_read(&server->sessions[index].life);
    tp__session *session =
        tp__session_enter(server, (life & TP__LIFE_NUMBER) | index, TP__LIFE_CLOSING);
    if (!session) {
        return false;
    }
    bool done = session_is_finishing(tp__life_read(&session->life)) &&
                tp__session_close(session, TP_END_OVERLOAD, 0);
    if (done) {
        TP__COUNT(server, tp__worker_here(server), cut_short, 1);
        TP__REFUSED(
            TP_LOG_INFO, server->name, &session->peer, "cut before drain_timeout: slots are short");
    }
    tp__session_leave(session, TP__REFERENCE_CALL);
    return done;
}

static bool slots_are_short(const tp_server *server) {
    unsigned spare = ACCEPTS_PER_TURN * server->options.workers + ACCEPTS_PER_TURN / 2;
    unsigned most = TP_SERVER_ENDING(server->options.max_sessions) * 3 / 4;
    spare = spare < most ? spare : most;
    spare = spare > SPARE_MIN ? spare : SPARE_MIN;
    return atomic_load_explicit(&server->slots_used, memory_order_relaxed) + spare >
           server->slots.count;
}

void tp__server_cut_for_slot(tp_server *server) {
    if (!slots_are_short(server)) {
        return;
    }
    for (unsigned tries = 0; tries < CUT_TRIES; tries++) {
        uint32_t index = shortage_find(server);
        if (index == TP__NO_SLOT || shortage_cut(server, index)) {
            return;
        }
    }
}
