/*
 * Banning: changes the list of bans and ends the sessions that are on it. Any thread. The list
 * itself is in guard/bans.c.
 */
#include "os/clock.h"
#include "proto/frame.h"
#include "wanserver/wan.h"

/*
 * Ends the session if its address is banned. The caller has a reference. A session that joins at
 * this moment is closed like one that has joined.
 *
 * A session whose connection is in state NONE may have no socket yet. Once the socket exists,
 * wan_begin() (wanserver.c) sets the state and then checks the list itself. Both sides take the
 * mutex of the list: if the check comes second, it finds the ban; if the ban comes second, this
 * function sees the state. From wan_begin() to its release, joining included, the connection is
 * never in state NONE.
 */
static void ban_end_session(tp__session *session) {
    uint8_t state = atomic_load_explicit(&tp__connection_of(session)->state, memory_order_acquire);
    if (state == TP__CONNECTION_NONE ||
        tp__bans_admit(tp__wan_of(session)->bans, tp__layer_peer(session), tp_clock_ms())) {
        return;
    }
    if (tp__session_close_unjoined(session, TP_END_KICKED)) {
        tp__wan_refuse(tp__wan_of(session), TP__REFUSAL_BANNED, tp__layer_peer(session));
    } else {
        tp__session_turn_away(session, TP_END_KICKED, TP_CLOSE_KICKED);
    }
}

/* Ends every banned session. One walk serves any number of bans, because the cost is in the number
 * of sessions. */
static void ban_end_sessions(tp_server *server) {
    tp__layer_each_session(server, ban_end_session);
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
        ban_end_sessions(server);
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
        ban_end_sessions(server);
    }
    return error;
}

bool tp_wanserver_lift_ban(tp_server *server, const tp_network *network) {
    tp__wan *wan = tp__wan_of_server(server);
    return wan && tp__bans_lift(wan->bans, network, tp_clock_ms());
}
