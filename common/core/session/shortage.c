/*
 * When slots run short: sessions that are being ended make room.
 *
 * A session that is being ended holds none of the max_sessions places, but has its slot until its
 * peer has hung up or its time is over. There are TP_SERVER_ENDING slots for that. When few are
 * left, each connection that comes has one of them cut, the one whose time is over first among
 * those that are looked at: so there are slots however many peers refuse to hang up, and memory is
 * what it was at create.
 *
 * Any thread that opens a session. Without a lock: each is held while it is looked at, and looked
 * at again before it is cut.
 */
#include "core/engine/server_state.h"
#include "core/log/refusal.h"
#include "os/clock.h"

/* More than a turn of accepting of each worker takes, for what is cut is free only behind that
 * turn; but no more than three quarters of what TP_SERVER_ENDING has for it. */
#define TURN         32u
#define SPARE_LEAST  48u
#define TRIES        3u
#define LOOK         256u
#define LOOK_AT_MOST 8192u

static bool is_being_ended(uint64_t life) {
    return (life & TP__LIFE_ENDING) == TP__LIFE_FINISHING;
}

/* How long the session in this slot may still take to end, by the clock of the worker that serves
 * it; INT64_MAX: it is not being ended. */
static int64_t time_left_ms(tp_server *server, uint32_t index, uint64_t now_ms) {
    int64_t left_ms = INT64_MAX;
    uint64_t life = tp__life_read(&server->sessions[index].life);
    tp__session *session =
        is_being_ended(life)
            ? tp__session_enter(server, (life & TP__LIFE_NUMBER) | index, TP__LIFE_CLOSING)
            : NULL;
    if (session) {
        uint64_t by_ms = atomic_load_explicit(&session->finish_by_ms, memory_order_relaxed);
        left_ms = (int64_t)(by_ms - tp__session_served_ms(session, now_ms));
        tp__session_leave(session);
    }
    return left_ms;
}

/* Looks at LOOK slots, or at more until one is found, from where the last look ended. TP__NO_SLOT:
 * there is none. */
static uint32_t find_one(tp_server *server) {
    uint32_t used = atomic_load_explicit(&server->slots.used, memory_order_acquire);
    uint32_t most = used < LOOK_AT_MOST ? used : LOOK_AT_MOST;
    uint32_t found = TP__NO_SLOT;
    uint64_t now_ms = tp_clock_ms();
    int64_t least = INT64_MAX;
    for (uint32_t i = 0; i < most && (found == TP__NO_SLOT || i < LOOK); i++) {
        uint32_t index =
            atomic_fetch_add_explicit(&server->cut_from, 1, memory_order_relaxed) % used;
        int64_t left_ms = time_left_ms(server, index, now_ms);
        if (left_ms < least) {
            least = left_ms;
            found = index;
        }
    }
    return found;
}

/* Its own reason stands. False: another has been at it already. */
static bool cut(tp_server *server, uint32_t index) {
    uint64_t life = tp__life_read(&server->sessions[index].life);
    tp__session *session =
        tp__session_enter(server, (life & TP__LIFE_NUMBER) | index, TP__LIFE_CLOSING);
    if (!session) {
        return false;
    }
    bool done = is_being_ended(tp__life_read(&session->life)) &&
                tp__session_close(session, TP_END_OVERLOAD, 0);
    if (done) {
        TP__COUNT(server, tp__worker_here(server), cut_short, 1);
        TP__REFUSED(TP_LOG_INFO, server->name, &session->peer,
            "it does not hang up, and slots are short: cut before drain_timeout");
    }
    tp__session_leave(session);
    return done;
}

static bool are_few_left(const tp_server *server) {
    unsigned spare = TURN * server->options.workers + TURN / 2;
    unsigned most = TP_SERVER_ENDING(server->options.max_sessions) * 3 / 4;
    spare = spare < most ? spare : most;
    spare = spare > SPARE_LEAST ? spare : SPARE_LEAST;
    return atomic_load_explicit(&server->slots_used, memory_order_relaxed) + spare >
           server->slots.count;
}

void tp__server_make_room(tp_server *server) {
    if (!are_few_left(server)) {
        return;
    }
    for (unsigned tries = 0; tries < TRIES; tries++) {
        uint32_t index = find_one(server);
        if (index == TP__NO_SLOT || cut(server, index)) {
            return;
        }
    }
}
