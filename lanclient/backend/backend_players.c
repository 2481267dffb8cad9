/*
 * Who is here: the gates and their players. Runs in the lanclient's handlers, one after another;
 * the mutex is taken for what other threads read. See backend_internal.h.
 *
 * All players' places are there from the start. What a gate needs for its players grows with them
 * and stays for the next gate in its place: nothing is allocated once as many are here as ever
 * were.
 */
#include <string.h>

#include "core/memory/memory.h"
#include "lanclient/backend/backend_internal.h"

#define FIRST_ROOM 64u

tp_err tp__backend_players_create(tp_backend *backend) {
    uint32_t count = backend->options.max_players;
    backend->gates = tp__allocate_zeroed(backend->options.max_gates, sizeof *backend->gates);
    backend->players = tp__allocate_zeroed(count, sizeof *backend->players);
    if (!backend->gates || !backend->players) {
        return TP_ERR_NO_MEMORY;
    }
    for (uint32_t i = 0; i < count; i++) {
        backend->players[i].next = i + 1 < count ? i + 2 : 0;
    }
    backend->free_player = 1;
    return TP_OK;
}

void tp__backend_players_destroy(tp_backend *backend) {
    for (uint32_t i = 0; backend->gates && i < backend->options.max_gates; i++) {
        tp__backend_gate *gate = &backend->gates[i];
        tp__free(gate->sessions);
        tp__free(gate->indexes);
        for (uint32_t page = 0; page < TP__BACKEND_PAGES; page++) {
            tp__free(gate->slots[page]);
        }
    }
    tp__free(backend->gates);
    tp__free(backend->players);
}

/* ---- gates ----------------------------------------------------------------------------------- */

static tp__backend_gate *place_of(tp_backend *backend, tp_peer_id peer) {
    for (uint32_t i = 0; i < backend->options.max_gates; i++) {
        if (backend->gates[i].peer == peer) {
            return &backend->gates[i];
        }
    }
    return NULL;
}

tp__backend_gate *tp__backend_find_gate(tp_backend *backend, tp_peer_id peer) {
    tp__backend_gate *last = &backend->gates[backend->last_gate];
    if (TP_UNLIKELY(peer == TP_NO_PEER)) {
        return NULL;
    }
    if (TP_LIKELY(last->peer == peer)) {
        return last;
    }
    tp__backend_gate *gate = place_of(backend, peer);
    if (gate) {
        backend->last_gate = (uint32_t)(gate - backend->gates);
    }
    return gate;
}

tp__backend_gate *tp__backend_open_gate(tp_backend *backend, tp_peer_id peer) {
    tp__backend_gate *gate = place_of(backend, TP_NO_PEER);
    if (gate) {
        tp_mutex_lock(&backend->mutex);
        gate->peer = peer;
        tp_mutex_unlock(&backend->mutex);
    }
    return gate;
}

void tp__backend_close_gate(tp_backend *backend, tp__backend_gate *gate) {
    tp_mutex_lock(&backend->mutex);
    gate->peer = TP_NO_PEER;
    tp_mutex_unlock(&backend->mutex);
}

/* ---- slots ----------------------------------------------------------------------------------- */

tp__backend_player *tp__backend_in_slot(
    tp_backend *backend, const tp__backend_gate *gate, tp_session_id session) {
    uint32_t slot = tp_session_slot(session);
    const uint32_t *page = gate->slots[slot / TP__BACKEND_PAGE];
    uint32_t place = page ? page[slot % TP__BACKEND_PAGE] : 0;
    return place ? &backend->players[place - 1] : NULL;
}

/* Where the slot's index is noted; NULL: no memory. */
static uint32_t *note_of(tp__backend_gate *gate, tp_session_id session) {
    uint32_t slot = tp_session_slot(session);
    uint32_t **page = &gate->slots[slot / TP__BACKEND_PAGE];
    if (!*page) {
        *page = tp__allocate_zeroed(TP__BACKEND_PAGE, sizeof **page);
    }
    return *page ? *page + slot % TP__BACKEND_PAGE : NULL;
}

/* ---- the list of a gate's players ------------------------------------------------------------ */

/* Under the mutex. */
static bool grow(tp__backend_gate *gate) {
    uint32_t room = gate->room ? gate->room * 2 : FIRST_ROOM;
    uint64_t *sessions = tp__allocate(room * sizeof *sessions);
    uint32_t *indexes = tp__allocate(room * sizeof *indexes);
    if (!sessions || !indexes) {
        tp__free(sessions);
        tp__free(indexes);
        return false;
    }
    if (gate->count) {
        memcpy(sessions, gate->sessions, gate->count * sizeof *sessions);
        memcpy(indexes, gate->indexes, gate->count * sizeof *indexes);
    }
    tp__free(gate->sessions);
    tp__free(gate->indexes);
    gate->sessions = sessions;
    gate->indexes = indexes;
    gate->room = room;
    return true;
}

/* Under the mutex; there is room. */
static void list_player(tp__backend_gate *gate, tp__backend_player *player, const tp_player *name) {
    player->position = gate->count;
    gate->sessions[gate->count] = name->session;
    gate->indexes[gate->count] = name->index;
    gate->count++;
}

/* Under the mutex. */
static void unlist_player(
    tp_backend *backend, tp__backend_gate *gate, const tp__backend_player *player) {
    uint32_t last = --gate->count;
    gate->sessions[player->position] = gate->sessions[last];
    gate->indexes[player->position] = gate->indexes[last];
    backend->players[gate->indexes[last]].position = player->position;
}

/* ---- coming and going ------------------------------------------------------------------------ */

tp_err tp__backend_enter(
    tp_backend *backend, tp__backend_gate *gate, uint32_t visit, tp_player_info *info) {
    if (backend->free_player == 0) {
        return TP_ERR_FULL;
    }
    uint32_t index = backend->free_player - 1;
    tp__backend_player *player = &backend->players[index];
    uint32_t *note = note_of(gate, info->player.session);
    tp_mutex_lock(&backend->mutex);
    bool room = note && (gate->count < gate->room || grow(gate));
    if (room) {
        backend->free_player = player->next;
        *note = index + 1;
        info->player.index = index;
        info->player.gate = gate->peer;
        player->info = *info;
        player->info.blob = NULL;
        player->info.blob_size = 0;
        player->visit = visit;
        list_player(gate, player, &info->player);
        atomic_store_explicit(&player->gate, gate->peer, memory_order_relaxed);
        atomic_store_explicit(&player->session, info->player.session, memory_order_release);
    }
    tp_mutex_unlock(&backend->mutex);
    if (!room) {
        return TP_ERR_NO_MEMORY;
    }
    atomic_fetch_add_explicit(&backend->player_count, 1, memory_order_relaxed);
    return TP_OK;
}

void tp__backend_exit(tp_backend *backend, tp__backend_gate *gate, tp__backend_player *player) {
    tp_player name = player->info.player;
    tp_mutex_lock(&backend->mutex);
    atomic_store_explicit(&player->session, TP_NO_SESSION, memory_order_release);
    unlist_player(backend, gate, player);
    *note_of(gate, name.session) = 0;
    player->next = backend->free_player;
    backend->free_player = name.index + 1;
    tp_mutex_unlock(&backend->mutex);
    atomic_fetch_sub_explicit(&backend->player_count, 1, memory_order_relaxed);
}
