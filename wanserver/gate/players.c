/*
 * The entries of players, and the server's on_join and on_leave, which run on any worker.
 *
 * An entry belongs to the session that has the slot. The server uses a slot again only after
 * on_leave, so an entry has one user at a time.
 *
 *     gate->players = entries with has_quota, at most max_players
 */
#include <assert.h>

#include "core/log/refusal.h"
#include "core/memory/memory.h"
#include "os/clock.h"
#include "twinport/log.h"
#include "wanserver/gate/gate_internal.h"

/* ---- entries --------------------------------------------------------------------------------- */

/* Prepares the entry, which belongs to no session, for this one. */
static void player_init(tp__gate *gate, tp__gate_player *player, tp_session_id session) {
    TP_ASSERT_LOCKED(&gate->mutex);
    assert(tp__gate_state_of(player) == TP__GATE_ABSENT && !player->has_quota && !player->blob);
    assert(tp__gate_session_of(player) == TP_NO_SESSION);
    tp_session_info info = {.size = sizeof info};
    tp_address nowhere = {0};
    bool there = tp_server_session_info(gate->server, session, &info);
    player->address = there ? info.peer : nowhere;
    player->has_quota = false;
    player->flags = 0;
    player->position_sent = 0;
    player->assignment = NULL;
    player->service = NULL;
    player->link = (tp__link){0};
    player->blob = NULL;
    player->blob_size = 0;
    atomic_store_explicit(&player->source, TP_NO_PEER, memory_order_relaxed);
    atomic_store_explicit(&player->route, TP_NO_PEER, memory_order_relaxed);
    tp__gate_set_state(player, TP__GATE_CLOSING);
    atomic_store_explicit(&player->session, session, memory_order_release);
}

/* ---- quota ----------------------------------------------------------------------------------- */

void tp__gate_return_quota(tp__gate *gate, tp__gate_player *player) {
    TP_ASSERT_LOCKED(&gate->mutex);
    if (player->has_quota) {
        assert(gate->players > 0);
        player->has_quota = false;
        gate->players--;
        if (gate->waiting_room.list.count > 0) {
            /* The tick admits them. If it were done here, a player that is admitted and closed at
             * once would call this function again. */
            tp__gate_schedule_tick(gate);
        }
    }
}

/* As playing or as waiting. */
static bool player_is_counted(const tp__gate_player *player) {
    return player->has_quota || tp__gate_state_of(player) == TP__GATE_WAITING;
}

static bool player_is_ending(tp__gate *gate, const tp__gate_player *player) {
    tp_session_info info = {.size = sizeof info};
    return !tp_server_session_info(gate->server, tp__gate_session_of(player), &info) || info.ending;
}

/* Returns what a player holds whose session is being ended. A player at a peer stays there: the
 * peer gets its LEAVE, with the reason, after on_leave. */
static void player_retire(tp__gate *gate, tp__gate_player *player) {
    TP_ASSERT_LOCKED(&gate->mutex);
    if (tp__gate_state_of(player) == TP__GATE_WAITING) {
        tp__gate_waiting_room_remove(gate, player);
        tp__gate_set_state(player, TP__GATE_CLOSING);
        gate->stats.gave_up++;
    } else if (tp__gate_state_of(player) == TP__GATE_KEPT) {
        tp__gate_remove_kept(gate, player);
        tp__gate_set_state(player, TP__GATE_CLOSING);
    }
    tp__gate_return_quota(gate, player);
}

/* Goes through all entries. */
static void retire_ending_players(tp__gate *gate) {
    TP_ASSERT_LOCKED(&gate->mutex);
    for (uint32_t slot = 0; (slot = tp__slot_next(&gate->entries, slot)) < TP_MAX_SESSIONS;
         slot++) {
        tp__gate_player *player = tp__slot_find(&gate->entries, slot, sizeof *player);
        if (player_is_counted(player) && player_is_ending(gate, player)) {
            player_retire(gate, player);
        }
    }
}

/*
 * The server counts the sessions that are not being ended, the gate the players with quota and
 * those who wait. If the server's count is lower, some of the gate's players are being ended.
 * Sessions that the server has and whose on_join has not come yet can hide that, at most one for
 * each worker; within that difference the entries are searched only each TP__GATE_SEARCH_MS. So a
 * connection to a full gate costs a comparison.
 */
void tp__gate_find_ending(tp__gate *gate, unsigned coming) {
    TP_ASSERT_LOCKED(&gate->mutex);
    unsigned there = tp_server_session_count(gate->server);
    unsigned holding = gate->players + gate->waiting_room.list.count + coming;
    uint64_t now = tp_clock_ms();
    bool sure = there < holding;
    bool perhaps = there < holding + TP__GATE_WORKERS_MAX && now >= gate->next_search_ms;
    if (sure || perhaps) {
        gate->next_search_ms = now + TP__GATE_SEARCH_MS;
        retire_ending_players(gate);
    }
}

/* ---- join ------------------------------------------------------------------------------------ */

void tp__gate_close_player(tp__gate *gate, tp__gate_player *player, uint16_t close_code) {
    TP_ASSERT_LOCKED(&gate->mutex);
    assert(!player->assignment && !player->link.previous && !player->link.next);
    tp__gate_set_state(player, TP__GATE_CLOSING);
    tp__gate_return_quota(gate, player);
    tp_server_turn_away(gate->server, tp__gate_session_of(player), close_code);
}

void tp__gate_admit_player(tp__gate *gate, tp__gate_player *player) {
    TP_ASSERT_LOCKED(&gate->mutex);
    assert(!player->has_quota && gate->players < gate->options.max_players);
    player->has_quota = true;
    gate->players++;
    /* Before the position is sent: from then on the player may send. */
    tp__gate_set_state(player, TP__GATE_ENTERING);
    if (gate->options.max_waiting > 0 && !tp__gate_send_position(gate, player, 0)) {
        /* The session is overloaded; or it is being ended, and the code has no effect. */
        tp__gate_close_player(gate, player, TP_CLOSE_OVERLOAD);
        return;
    }
    player->service = &gate->services[0];
    tp__gate_assign(gate, player);
}

/* Closes a player for whom neither gate nor waiting room has space. */
static void player_turn_away(tp__gate *gate, tp__gate_player *player) {
    TP_ASSERT_LOCKED(&gate->mutex);
    gate->stats.turned_away++;
    if (gate->options.max_waiting > 0) {
        TP__REFUSED(TP_LOG_INFO, "gate", &player->address, "the waiting room is full");
    } else {
        TP__REFUSED(TP_LOG_INFO, "gate", &player->address, "full: max_players reached");
    }
    tp__gate_close_player(gate, player, TP_CLOSE_FULL);
}

/* Admits the player, or appends the player to the waiting room, or closes the session. No player
 * overtakes one who waits. */
static void player_enter(tp__gate *gate, tp__gate_player *player) {
    TP_ASSERT_LOCKED(&gate->mutex);
    const tp__gate_options *options = &gate->options;
    if (gate->players >= options->max_players) {
        tp__gate_find_ending(gate, 1);
    }
    if (gate->players < options->max_players && gate->waiting_room.list.count == 0) {
        tp__gate_admit_player(gate, player);
    } else if (gate->waiting_room.list.count < options->max_waiting) {
        tp__gate_waiting_room_add(gate, player);
    } else {
        player_turn_away(gate, player);
    }
}

void tp__gate_on_join(tp_server *server, tp_session_id session) {
    tp__gate *gate = tp_server_context(server);
    tp__gate_player *player =
        tp__slot_make(&gate->entries, tp_session_slot(session), sizeof *player);
    tp_mutex_lock(&gate->mutex);
    gate->stats.arrived++;
    if (player) {
        player_init(gate, player, session);
        player_enter(gate, player);
    } else {
        gate->stats.turned_away++;
    }
    tp_mutex_unlock(&gate->mutex);
    if (!player) {
        TP_LOG(TP_LOG_ERROR, "gate: no memory for a player");
        tp_server_disconnect(server, session);
    }
}

/* ---- leave ----------------------------------------------------------------------------------- */

/* Ends what the player holds; from then on the entry belongs to no session. */
static void player_remove(tp__gate *gate, tp__gate_player *player, tp_end_reason reason) {
    TP_ASSERT_LOCKED(&gate->mutex);
    switch (tp__gate_state_of(player)) {
    case TP__GATE_WAITING:
        tp__gate_waiting_room_remove(gate, player);
        gate->stats.gave_up++;
        break;
    case TP__GATE_KEPT:
        tp__gate_remove_kept(gate, player);
        break;
    case TP__GATE_AT_PEER:
        tp__gate_end_assignment(gate, player, TP_GATE_LEAVE_ENDED, (uint16_t)reason);
        break;
    case TP__GATE_ABSENT:
    case TP__GATE_ENTERING:
    case TP__GATE_CLOSING:
        break;
    }
    assert(!player->assignment && gate->players >= player->has_quota);
    gate->players -= player->has_quota;
    player->has_quota = false;
    tp__free(player->blob);
    player->blob = NULL;
    tp__gate_set_state(player, TP__GATE_ABSENT);
    atomic_store_explicit(&player->session, TP_NO_SESSION, memory_order_release);
}

void tp__gate_on_leave(tp_server *server, tp_session_id session, tp_end_reason reason) {
    tp__gate *gate = tp_server_context(server);
    tp__gate_player *player = tp__gate_find(gate, session);
    tp_mutex_lock(&gate->mutex);
    gate->stats.left++;
    if (player) {
        player_remove(gate, player, reason);
        tp__gate_admit_waiting(gate);
    }
    tp_mutex_unlock(&gate->mutex);
}
