/*
 * When slots run short: sessions that are being ended make room.
 *
 * A session that is being ended holds none of the max_sessions places, but has its slot until its
 * peer has hung up or its time is over. There are TP_SERVER_ENDING slots for that. When fewer than
 * SPARE are left, each new session has one of them cut, the one whose time is over first among
 * those that are looked at: so there are slots however many peers refuse to hang up, and memory is
 * what it was at create.
 *
 * Any thread that opens a session. Without a lock: what is read of a session that is not held
 * decides only which one is looked at; it is held, and looked at again, before it is cut.
 */
#include "core/refusal.h"
#include "core/server_internal.h"

#define SPARE        16u /* of them at least TP_SERVER_ENDING(1) are there */
#define LOOK         256u
#define LOOK_AT_MOST 8192u

static bool is_being_ended(uint64_t life) {
    return (life & TP__LIFE_ENDING) == TP__LIFE_FINISHING;
}

/* Looks at LOOK slots, or at more until one is found, from where the last look ended. TP__NO_SLOT:
 * there is none. */
static uint32_t find_one(tp_server *server) {
    uint32_t used = atomic_load_explicit(&server->slots.used, memory_order_acquire);
    uint32_t most = used < LOOK_AT_MOST ? used : LOOK_AT_MOST;
    uint32_t found = TP__NO_SLOT;
    uint64_t earliest = UINT64_MAX;
    for (uint32_t i = 0; i < most && (found == TP__NO_SLOT || i < LOOK); i++) {
        uint32_t index =
            atomic_fetch_add_explicit(&server->cut_from, 1, memory_order_relaxed) % used;
        tp__session *session = &server->sessions[index];
        uint64_t by_ms = atomic_load_explicit(&session->finish_by_ms, memory_order_relaxed);
        if (is_being_ended(tp__life_read(&session->life)) && by_ms < earliest) {
            earliest = by_ms;
            found = index;
        }
    }
    return found;
}

/* Its own reason stands. */
static void cut(tp_server *server, uint32_t index) {
    uint64_t life = tp__life_read(&server->sessions[index].life);
    tp__session *session =
        tp__session_enter(server, (life & TP__LIFE_NUMBER) | index, TP__LIFE_CLOSING);
    if (!session) {
        return;
    }
    if (is_being_ended(tp__life_read(&session->life)) &&
        tp__session_close(session, TP_END_OVERLOAD, 0)) {
        TP__COUNT(server, tp__worker_here(server), cut_short, 1);
        TP__REFUSED(TP_LOG_INFO, server->name, &session->peer,
            "it does not hang up, and slots are short: cut before drain_timeout");
    }
    tp__session_leave(session);
}

void tp__server_make_room(tp_server *server) {
    unsigned used = atomic_load_explicit(&server->slots_used, memory_order_relaxed);
    if (used + SPARE > server->slots.count) {
        uint32_t index = find_one(server);
        if (index != TP__NO_SLOT) {
            cut(server, index);
        }
    }
}
