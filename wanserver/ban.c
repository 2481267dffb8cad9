/*
 * Banning: the list, and the sessions that are on it already. Any thread.
 */
#include "os/clock.h"
#include "proto/frame.h"
#include "wanserver/wan.h"

/*
 * The session is held. If it joins at this moment it is closed as one that has.
 *
 * One that is at no stage may have no socket yet. It looks at the list itself when it has (begin in
 * wanserver.c), and sets its stage before: of that look and this one, the second finds what the
 * other has written. From there to its release it is at some stage, joining included.
 */
static void end_banned(tp__session *session) {
    uint8_t stage = atomic_load_explicit(&tp__player_of(session)->stage, memory_order_acquire);
    if (stage == TP__PLAYER_NONE ||
        tp__bans_admit(tp__wan_of(session)->bans, &session->peer, tp_clock_ms())) {
        return;
    }
    if (tp__session_close_unjoined(session, TP_END_KICKED)) {
        tp__wan_refuse(tp__wan_of(session), TP__REFUSAL_BANNED, &session->peer);
    } else {
        tp__session_turn_away(session, TP_END_KICKED, TP_CLOSE_KICKED);
    }
}

/* Once for however many bans: who is here is what takes the time. */
static void end_sessions(tp_server *server) {
    uint32_t used = atomic_load_explicit(&server->slots.used, memory_order_acquire);
    for (uint32_t index = 0; index < used; index++) {
        uint64_t life = tp__life_read(&server->sessions[index].life);
        tp__session *session =
            tp__session_enter(server, (life & TP__LIFE_NUMBER) | index, TP__LIFE_CLOSING);
        if (session) {
            end_banned(session);
            tp__session_leave(session);
        }
    }
}

tp_err tp_wanserver_ban(tp_server *server, const tp_network *network, uint64_t seconds) {
    tp__wan *wan = tp__wan_of_server(server);
    uint64_t now_ms = tp_clock_ms();
    uint64_t until_ms;
    if (!wan || !tp__ban_until(seconds, now_ms, &until_ms)) {
        return TP_ERR_INVALID;
    }
    tp_err error = tp__bans_add(wan->bans, network, until_ms, now_ms);
    if (!error) {
        end_sessions(server);
    }
    return error;
}

tp_err tp_wanserver_set_bans(tp_server *server, const tp_ban *bans, size_t count) {
    tp__wan *wan = tp__wan_of_server(server);
    if (!wan || (!bans && count > 0)) {
        return TP_ERR_INVALID;
    }
    tp_err error = tp__bans_replace(wan->bans, bans, count, tp_clock_ms());
    if (!error && count > 0) {
        end_sessions(server);
    }
    return error;
}

bool tp_wanserver_lift_ban(tp_server *server, const tp_network *network) {
    tp__wan *wan = tp__wan_of_server(server);
    return wan && tp__bans_lift(wan->bans, network, tp_clock_ms());
}
