/*
 * The backend's invariants, as backend_internal.h states them.
 *
 * Called under the backend's mutex, by a handler of the lanclient, or when no thread uses the
 * backend any more. Reads everything and changes nothing; costs a walk over all entries and slots,
 * so it runs when a gate comes or goes, and only in builds with assertions.
 */
#include "core/base/invariant.h"
#include "lanclient/backend/backend_internal.h"

/* The player in the gate's list at this position, in the player's own entry. */
static const char *backend_player_check(
    const tp_backend *backend, const tp__backend_gate *gate, uint32_t position) {
    uint32_t index = gate->indexes[position];
    TP__INVARIANT(index < backend->options.max_players);
    const tp__backend_player *player = &backend->players[index];
    tp_session_id session = atomic_load_explicit(&player->session, memory_order_relaxed);
    TP__INVARIANT(session != TP_NO_SESSION && session == gate->sessions[position]);
    TP__INVARIANT(atomic_load_explicit(&player->gate, memory_order_relaxed) == gate->peer);
    TP__INVARIANT(player->position == position);
    TP__INVARIANT(player->info.player.session == session);
    TP__INVARIANT(player->info.player.index == index);
    TP__INVARIANT(player->info.player.gate == gate->peer);
    uint32_t slot = tp_session_slot(session);
    const uint32_t *page = gate->slots[slot / TP__BACKEND_PAGE];
    TP__INVARIANT(page && page[slot % TP__BACKEND_PAGE] == index + 1);
    return NULL;
}

static uint32_t gate_slots_count(const tp__backend_gate *gate) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < TP__BACKEND_PAGES; i++) {
        for (uint32_t j = 0; gate->slots[i] && j < TP__BACKEND_PAGE; j++) {
            count += gate->slots[i][j] != 0;
        }
    }
    return count;
}

static const char *backend_gate_check(const tp_backend *backend, const tp__backend_gate *gate) {
    TP__INVARIANT(gate->count <= gate->capacity);
    TP__INVARIANT(gate->peer != TP_NO_PEER || gate->count == 0);
    for (uint32_t i = 0; i < gate->count; i++) {
        const char *broken = backend_player_check(backend, gate, i);
        if (broken) {
            return broken;
        }
    }
    TP__INVARIANT(gate->count == gate_slots_count(gate));
    return NULL;
}

static const char *free_players_check(const tp_backend *backend, uint32_t players) {
    uint32_t count = 0;
    for (uint32_t entry = backend->free_player; entry != 0;) {
        TP__INVARIANT(entry <= backend->options.max_players);
        const tp__backend_player *player = &backend->players[entry - 1];
        TP__INVARIANT(
            atomic_load_explicit(&player->session, memory_order_relaxed) == TP_NO_SESSION);
        TP__INVARIANT(count < backend->options.max_players);
        count++;
        entry = player->next;
    }
    TP__INVARIANT(players + count == backend->options.max_players); /* each is present or free */
    return NULL;
}

const char *tp__backend_check(const tp_backend *backend) {
    uint32_t players = 0;
    TP__INVARIANT(backend->last_gate < backend->options.max_gates);
    for (uint32_t i = 0; i < backend->options.max_gates; i++) {
        const char *broken = backend_gate_check(backend, &backend->gates[i]);
        if (broken) {
            return broken;
        }
        players += backend->gates[i].count;
    }
    TP__INVARIANT(tp_backend_player_count(backend) == players);
    return free_players_check(backend, players);
}
