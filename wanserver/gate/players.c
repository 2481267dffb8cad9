/*
 * Players come and go: the server's on_join and on_leave, on any worker. An entry belongs to the
 * session that has the slot, and the server uses a slot again only after on_leave, so it has one
 * user at a time.
 */
#include <string.h>

#include "core/log/refusal.h"
#include "core/memory/memory.h"
#include "os/clock.h"
#include "twinport/log.h"
#include "wanserver/gate/gate_internal.h"

/* ---- lists ----------------------------------------------------------------------------------- */

void tp__gate_list_append(tp__gate_list *list, tp__gate_player *player) {
    player->earlier = list->last;
    player->later = NULL;
    *(list->last ? &list->last->later : &list->first) = player;
    list->last = player;
    list->count++;
}

void tp__gate_list_remove(tp__gate_list *list, tp__gate_player *player) {
    *(player->earlier ? &player->earlier->later : &list->first) = player->later;
    *(player->later ? &player->later->earlier : &list->last) = player->earlier;
    player->earlier = NULL;
    player->later = NULL;
    list->count--;
}

/* ---- entries --------------------------------------------------------------------------------- */

/* Made if its page is not there; who comes second to make one uses the first one's. NULL: no
 * memory. */
static tp__gate_player *entry_of(tp__gate *gate, tp_session_id session) {
    uint32_t slot = tp_session_slot(session);
    _Atomic(tp__gate_player *) *place = &gate->pages[slot / TP__GATE_PAGE];
    tp__gate_player *page = atomic_load_explicit(place, memory_order_acquire);
    if (!page) {
        tp__gate_player *made = tp__allocate_zeroed(TP__GATE_PAGE, sizeof *made);
        if (!made) {
            return NULL;
        }
        if (atomic_compare_exchange_strong_explicit(
                place, &page, made, memory_order_acq_rel, memory_order_acquire)) {
            page = made;
        } else {
            tp__free(made);
        }
    }
    return &page[slot % TP__GATE_PAGE];
}

/* Under the mutex; the entry is nobody's. */
static void settle(tp__gate *gate, tp__gate_player *player, tp_session_id session) {
    tp_session_info info = {.size = sizeof info};
    tp_address nowhere = {0};
    bool there = tp_server_session_info(gate->server, session, &info);
    player->address = there ? info.peer : nowhere;
    player->playing = false;
    player->flags = 0;
    player->told = 0;
    player->visit = NULL;
    player->service = NULL;
    player->earlier = NULL;
    player->later = NULL;
    player->blob = NULL;
    player->blob_size = 0;
    atomic_store_explicit(&player->owner, TP_NO_PEER, memory_order_relaxed);
    atomic_store_explicit(&player->route, TP_NO_PEER, memory_order_relaxed);
    tp__gate_set_state(player, TP__GATE_CLOSING);
    atomic_store_explicit(&player->session, session, memory_order_release);
}

/* ---- places ---------------------------------------------------------------------------------- */

void tp__gate_give_place(tp__gate *gate, tp__gate_player *player) {
    if (player->playing) {
        player->playing = false;
        gate->players--;
        if (gate->room.list.count > 0) {
            tp__gate_arm(gate); /* not here: who is let in may be the next to be closed */
        }
    }
}

static bool holds_place(const tp__gate_player *player) {
    return player->playing || tp__gate_state_of(player) == TP__GATE_WAITING;
}

static bool is_ending(tp__gate *gate, const tp__gate_player *player) {
    tp_session_info info = {.size = sizeof info};
    return !tp_server_session_info(gate->server, tp__gate_session_of(player), &info) || info.ending;
}

/* If a peer has him it hears of his end when he has hung up, and why. */
static void give_up_place(tp__gate *gate, tp__gate_player *player) {
    if (tp__gate_state_of(player) == TP__GATE_WAITING) {
        tp__gate_leave_room(gate, player);
        tp__gate_set_state(player, TP__GATE_CLOSING);
        gate->account.gave_up++;
    } else if (tp__gate_state_of(player) == TP__GATE_KEPT) {
        tp__gate_unkeep(gate, player);
        tp__gate_set_state(player, TP__GATE_CLOSING);
    }
    tp__gate_give_place(gate, player);
}

static void look_at_all(tp__gate *gate) {
    for (uint32_t i = 0; i < TP__GATE_PAGES; i++) {
        tp__gate_player *page = atomic_load_explicit(&gate->pages[i], memory_order_acquire);
        for (uint32_t j = 0; page && j < TP__GATE_PAGE; j++) {
            if (holds_place(&page[j]) && is_ending(gate, &page[j])) {
                give_up_place(gate, &page[j]);
            }
        }
    }
}

/*
 * The server counts those who are not being ended, the gate those who hold a place: if it counts
 * fewer, somebody is being ended. Others who are about to come may hide him, one for each worker at
 * most; then it is looked now and then. So who knocks at a full gate costs a comparison.
 */
void tp__gate_find_ending(tp__gate *gate, unsigned coming) {
    unsigned there = tp_server_session_count(gate->server);
    unsigned holding = gate->players + gate->room.list.count + coming;
    uint64_t now = tp_clock_ms();
    bool sure = there < holding;
    bool perhaps = there < holding + TP__GATE_WORKERS_MAX && now >= gate->look_again_ms;
    if (sure || perhaps) {
        gate->look_again_ms = now + TP__GATE_LOOK_MS;
        look_at_all(gate);
    }
}

/* ---- coming ---------------------------------------------------------------------------------- */

void tp__gate_close_player(tp__gate *gate, tp__gate_player *player, uint16_t close_code) {
    tp__gate_set_state(player, TP__GATE_CLOSING);
    tp__gate_give_place(gate, player);
    tp_server_turn_away(gate->server, tp__gate_session_of(player), close_code);
}

void tp__gate_play(tp__gate *gate, tp__gate_player *player) {
    player->playing = true;
    gate->players++;
    tp__gate_set_state(
        player, TP__GATE_ENTERING); /* before he is told: what he says then is no waiting one's */
    if (gate->options.max_waiting > 0 && !tp__gate_tell_place(gate, player, 0)) {
        tp__gate_close_player(
            gate, player, TP_CLOSE_OVERLOAD); /* or his session is ending already */
        return;
    }
    player->service = &gate->services[0];
    tp__gate_seek(gate, player);
}

/* There is no place, nor one in the waiting room. */
static void turn_away(tp__gate *gate, tp__gate_player *player) {
    gate->account.turned_away++;
    if (gate->options.max_waiting > 0) {
        TP__REFUSED(TP_LOG_INFO, "gate", &player->address, "the waiting room is full");
    } else {
        TP__REFUSED(TP_LOG_INFO, "gate", &player->address, "full: max_players are here");
    }
    tp__gate_close_player(gate, player, TP_CLOSE_FULL);
}

/* A place, a place in the waiting room, or neither. Nobody overtakes those who wait. */
static void receive(tp__gate *gate, tp__gate_player *player) {
    const tp__gate_options *options = &gate->options;
    if (gate->players >= options->max_players) {
        tp__gate_find_ending(gate, 1);
    }
    if (gate->players < options->max_players && gate->room.list.count == 0) {
        tp__gate_play(gate, player);
    } else if (gate->room.list.count < options->max_waiting) {
        tp__gate_wait_in_room(gate, player);
    } else {
        turn_away(gate, player);
    }
}

void tp__gate_on_join(tp_server *server, tp_session_id session) {
    tp__gate *gate = tp_server_context(server);
    tp__gate_player *player = entry_of(gate, session);
    tp_mutex_lock(&gate->mutex);
    gate->account.arrived++;
    if (player) {
        settle(gate, player, session);
        receive(gate, player);
    } else {
        gate->account.turned_away++;
    }
    tp_mutex_unlock(&gate->mutex);
    if (!player) {
        TP_LOG(TP_LOG_ERROR, "gate: no memory for another player");
        tp_server_disconnect(server, session);
    }
}

/* ---- going ----------------------------------------------------------------------------------- */

/* Under the mutex. From here on his entry is nobody's. */
static void forget(tp__gate *gate, tp__gate_player *player, tp_end_reason reason) {
    switch (tp__gate_state_of(player)) {
    case TP__GATE_WAITING:
        tp__gate_leave_room(gate, player);
        gate->account.gave_up++;
        break;
    case TP__GATE_KEPT:
        tp__gate_unkeep(gate, player);
        break;
    case TP__GATE_AT_PEER:
        tp__gate_end_visit(gate, player, TP_GATE_LEAVE_ENDED, (uint16_t)reason);
        break;
    case TP__GATE_ABSENT:
    case TP__GATE_ENTERING:
    case TP__GATE_CLOSING:
        break;
    }
    gate->players -= player->playing;
    player->playing = false;
    tp__free(player->blob);
    player->blob = NULL;
    tp__gate_set_state(player, TP__GATE_ABSENT);
    atomic_store_explicit(&player->session, TP_NO_SESSION, memory_order_release);
}

void tp__gate_on_leave(tp_server *server, tp_session_id session, tp_end_reason reason) {
    tp__gate *gate = tp_server_context(server);
    tp__gate_player *player = tp__gate_find(gate, session);
    tp_mutex_lock(&gate->mutex);
    gate->account.left++;
    if (player) {
        forget(gate, player, reason);
        tp__gate_admit(gate);
    }
    tp_mutex_unlock(&gate->mutex);
}
