/*
 * The gates and their players. Runs in the lanclient's handlers, one after another; the mutex is
 * taken for fields that other threads read. See backend_internal.h.
 *
 * All players' entries are allocated at creation. A gate's list and pages grow with its players and
 * stay for the next gate in the same entry: nothing is allocated while there are no more players
 * than there were before.
 */
#include <assert.h>

#include "core/base/invariant.h"
#include "core/memory/grow.h"
#include "core/memory/memory.h"
#include "lanclient/backend/backend_internal.h"

#define FIRST_SIZE 64u

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

static tp__backend_gate *gates_find(tp_backend *backend, tp_peer_id peer) {
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
    tp__backend_gate *gate = gates_find(backend, peer);
    if (gate) {
        backend->last_gate = (uint32_t)(gate - backend->gates);
    }
    return gate;
}

tp__backend_gate *tp__backend_open_gate(tp_backend *backend, tp_peer_id peer) {
    assert(peer != TP_NO_PEER);
    tp__backend_gate *gate = gates_find(backend, TP_NO_PEER);
    if (gate) {
        tp_mutex_lock(&backend->mutex);
        gate->peer = peer;
        TP__VERIFY(tp__backend_check(backend));
        tp_mutex_unlock(&backend->mutex);
    }
    return gate;
}

void tp__backend_close_gate(tp_backend *backend, tp__backend_gate *gate) {
    assert(gate->peer != TP_NO_PEER && gate->count == 0);
    tp_mutex_lock(&backend->mutex);
    gate->peer = TP_NO_PEER;
    TP__VERIFY(tp__backend_check(backend));
    tp_mutex_unlock(&backend->mutex);
}

/* ---- slots ----------------------------------------------------------------------------------- */

tp__backend_player *tp__backend_in_slot(
    tp_backend *backend, const tp__backend_gate *gate, tp_session_id session) {
    uint32_t slot = tp_session_slot(session);
    const uint32_t *page = gate->slots[slot / TP__BACKEND_PAGE];
    uint32_t entry = page ? page[slot % TP__BACKEND_PAGE] : 0;
    assert(entry <= backend->options.max_players);
    return entry ? &backend->players[entry - 1] : NULL;
}

/* The field for the player in the session's slot. NULL: no memory. */
static uint32_t *gate_slot(tp__backend_gate *gate, tp_session_id session) {
    uint32_t slot = tp_session_slot(session);
    uint32_t **page = &gate->slots[slot / TP__BACKEND_PAGE];
    if (!*page) {
        *page = tp__allocate_zeroed(TP__BACKEND_PAGE, sizeof **page);
    }
    return *page ? *page + slot % TP__BACKEND_PAGE : NULL;
}

/* ---- the list of a gate's players ------------------------------------------------------------ */

/* Under the mutex. */
static bool gate_list_grow(tp__backend_gate *gate) {
    assert(gate->count == gate->capacity);
    uint32_t capacity = tp__doubled(gate->capacity, FIRST_SIZE);
    uint64_t *sessions = tp__larger_copy(gate->sessions, gate->count, capacity, sizeof *sessions);
    uint32_t *indexes = tp__larger_copy(gate->indexes, gate->count, capacity, sizeof *indexes);
    if (!sessions || !indexes) {
        tp__free(sessions);
        tp__free(indexes);
        return false;
    }
    tp__free(gate->sessions);
    tp__free(gate->indexes);
    gate->sessions = sessions;
    gate->indexes = indexes;
    gate->capacity = capacity;
    return true;
}

/* Under the mutex; the list has space. */
static void gate_list_add(
    tp__backend_gate *gate, tp__backend_player *player, const tp_player *handle) {
    assert(gate->count < gate->capacity);
    player->position = gate->count;
    gate->sessions[gate->count] = handle->session;
    gate->indexes[gate->count] = handle->index;
    gate->count++;
}

static void gate_list_remove(
    tp_backend *backend, tp__backend_gate *gate, const tp__backend_player *player) {
    TP_ASSERT_LOCKED(&backend->mutex);
    assert(gate->count > 0 && player->position < gate->count);
    assert(gate->sessions[player->position] == player->info.player.session);
    uint32_t last = --gate->count;
    gate->sessions[player->position] = gate->sessions[last];
    gate->indexes[player->position] = gate->indexes[last];
    backend->players[gate->indexes[last]].position = player->position;
}

/* ---- joining and leaving --------------------------------------------------------------------- */

tp_err tp__backend_add_player(
    tp_backend *backend, tp__backend_gate *gate, uint32_t assignment, tp_player_info *info) {
    if (backend->free_player == 0) {
        return TP_ERR_FULL;
    }
    uint32_t index = backend->free_player - 1;
    tp__backend_player *player = &backend->players[index];
    uint32_t *slot = gate_slot(gate, info->player.session);
    assert(gate->peer != TP_NO_PEER);
    assert(!slot || *slot == 0); /* the caller has removed the player who was in it */
    tp_mutex_lock(&backend->mutex);
    bool done = slot && (gate->count < gate->capacity || gate_list_grow(gate));
    if (done) {
        backend->free_player = player->next;
        *slot = index + 1;
        info->player.index = index;
        info->player.gate = gate->peer;
        player->info = *info;
        player->info.blob = NULL;
        player->info.blob_size = 0;
        player->assignment = assignment;
        gate_list_add(gate, player, &info->player);
        atomic_store_explicit(&player->gate, gate->peer, memory_order_relaxed);
        atomic_store_explicit(&player->session, info->player.session, memory_order_release);
    }
    tp_mutex_unlock(&backend->mutex);
    if (!done) {
        return TP_ERR_NO_MEMORY;
    }
    atomic_fetch_add_explicit(&backend->player_count, 1, memory_order_relaxed);
    return TP_OK;
}

void tp__backend_remove_player(
    tp_backend *backend, tp__backend_gate *gate, tp__backend_player *player) {
    tp_player handle = player->info.player;
    assert(tp__backend_has(backend, &handle) && handle.gate == gate->peer);
    assert(tp__backend_in_slot(backend, gate, handle.session) == player);
    tp_mutex_lock(&backend->mutex);
    atomic_store_explicit(&player->session, TP_NO_SESSION, memory_order_release);
    gate_list_remove(backend, gate, player);
    *gate_slot(gate, handle.session) = 0;
    player->next = backend->free_player;
    backend->free_player = handle.index + 1;
    tp_mutex_unlock(&backend->mutex);
    atomic_fetch_sub_explicit(&backend->player_count, 1, memory_order_relaxed);
}
