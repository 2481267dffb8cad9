/*
 * The gate's invariants, as gate_internal.h and the heads of its files state them.
 *
 * Called under the gate's mutex, from any thread that has it. Reads everything and changes nothing;
 * costs a walk over all entries, assignments and peers, so it runs in the tick and only in builds
 * with assertions.
 */
#include "core/base/invariant.h"
#include "wanserver/gate/gate_internal.h"

/* ---- lists ----------------------------------------------------------------------------------- */

static const char *kept_check(const tp__gate_service *service) {
    const char *broken = tp__list_check(&service->kept);
    uint64_t since_ms = 0;
    for (const tp__link *at = service->kept.first; !broken && at; at = at->next) {
        const tp__gate_player *it = tp__gate_player_of(at);
        TP__INVARIANT(tp__gate_state_of(it) == TP__GATE_KEPT);
        TP__INVARIANT(!it->assignment && it->service == service);
        TP__INVARIANT(it->kept_since_ms >= since_ms);
        since_ms = it->kept_since_ms;
    }
    return broken;
}

static const char *waiting_check(const tp__gate_waiting_room *room) {
    const char *broken = tp__list_check(&room->list);
    uint64_t number = 0;
    uint32_t position = 1;
    bool found = room->cursor == NULL;
    for (const tp__link *at = room->list.first; !broken && at; at = at->next) {
        const tp__gate_player *it = tp__gate_player_of(at);
        TP__INVARIANT(tp__gate_state_of(it) == TP__GATE_WAITING);
        TP__INVARIANT(!it->has_quota && !it->assignment);
        TP__INVARIANT(it->queue_number > number && it->queue_number <= room->last_number);
        if (it == room->cursor) {
            found = true;
            TP__INVARIANT(room->next_position == position);
        }
        number = it->queue_number;
        position++;
    }
    TP__INVARIANT(broken || found); /* the cursor is in the queue */
    return broken;
}

/* ---- assignments ----------------------------------------------------------------------------- */

static const char *assignment_check(const tp__gate_assignment *assignment) {
    const tp__gate_player *player = assignment->player;
    if (player) {
        TP__INVARIANT(player->assignment == assignment);
        TP__INVARIANT(tp__gate_session_of(player) == assignment->session);
        TP__INVARIANT(tp__gate_state_of(player) == TP__GATE_AT_PEER);
        TP__INVARIANT(assignment->state != TP__ASSIGNMENT_DUE_LEAVE);
        TP__INVARIANT(assignment->state != TP__ASSIGNMENT_LEAVING);
    }
    TP__INVARIANT(assignment->join_sent || !assignment->uncertain);
    return NULL;
}

/* Exactly what is due is in the queue: `due` assignments. */
static const char *queue_check(const tp__gate_peer *peer, unsigned due) {
    const char *broken = tp__list_check(&peer->queue);
    for (const tp__link *at = peer->queue.first; !broken && at; at = at->next) {
        const tp__gate_assignment *it = tp__assignment_in_queue(at);
        TP__INVARIANT(it->peer == peer && tp__assignment_is_due(it));
        TP__INVARIANT(due > 0);
        due--;
    }
    TP__INVARIANT(broken || due == 0);
    return broken;
}

static const char *peer_check(const tp__gate_peer *peer, unsigned *assignments) {
    unsigned players = 0;
    unsigned in_flight = 0;
    unsigned due = 0;
    const char *broken = tp__list_check(&peer->assignments);
    for (const tp__link *at = peer->assignments.first; !broken && at; at = at->next) {
        const tp__gate_assignment *it = tp__assignment_of(at);
        TP__INVARIANT(it->peer == peer);
        broken = assignment_check(it);
        players += it->player != NULL;
        in_flight += tp__assignment_is_in_flight(it);
        due += tp__assignment_is_due(it);
        ++*assignments;
    }
    TP__INVARIANT(broken || peer->players == players);
    TP__INVARIANT(broken || peer->in_flight == in_flight);
    TP__INVARIANT(broken || peer->in_flight <= TP__GATE_WINDOW);
    return broken ? broken : queue_check(peer, due);
}

static const char *service_check(
    const tp__gate_service *service, unsigned *assignments, unsigned *kept) {
    const char *broken = kept_check(service);
    for (const tp__gate_peer *peer = service->peers; !broken && peer; peer = peer->next) {
        TP__INVARIANT(peer->service == service);
        broken = peer_check(peer, assignments);
    }
    *kept += service->kept.count;
    return broken;
}

/* ---- the gate -------------------------------------------------------------------------------- */

static unsigned count_quota(const tp__gate *gate) {
    unsigned count = 0;
    for (uint32_t slot = 0; (slot = tp__slot_next(&gate->entries, slot)) < TP_MAX_SESSIONS;
         slot++) {
        const tp__gate_player *player = tp__slot_find(&gate->entries, slot, sizeof *player);
        count += player->has_quota;
    }
    return count;
}

const char *tp__gate_check(const tp__gate *gate) {
    TP_ASSERT_LOCKED(&gate->mutex);
    unsigned assignments = 0;
    unsigned kept = 0;
    for (unsigned i = 0; i < gate->service_count; i++) {
        const char *broken = service_check(&gate->services[i], &assignments, &kept);
        if (broken) {
            return broken;
        }
    }
    TP__INVARIANT(gate->kept == kept);
    TP__INVARIANT(gate->kept <= gate->options.keep_players);
    TP__INVARIANT(gate->players == count_quota(gate));
    TP__INVARIANT(gate->players <= gate->options.max_players);
    TP__INVARIANT(gate->waiting_room.list.count <= gate->options.max_waiting);
    /* The others are lost and wait for lanclient's answer. */
    TP__INVARIANT(gate->assignments_used >= assignments);
    TP__INVARIANT(gate->assignments_used + gate->free_assignments.count ==
                  TP__GATE_ASSIGNMENTS(&gate->options));
    TP__INVARIANT(gate->assignments_announced <= gate->assignments_used);
    const tp__gate_stats *stats = &gate->stats;
    TP__INVARIANT(stats->joined ==
                  stats->confirmed_leaves + stats->lost_visits + gate->assignments_announced);
    TP__INVARIANT(
        stats->waited == stats->admitted + stats->gave_up + gate->waiting_room.list.count);
    const char *broken = tp__list_check(&gate->free_assignments);
    return broken ? broken : waiting_check(&gate->waiting_room);
}
