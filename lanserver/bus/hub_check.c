/*
 * The invariants of the hub's directory, as hub_internal.h and services.h state them.
 *
 * Called under the directory lock, from any thread that has it; takes each peer's mutex in turn.
 * Reads everything and changes nothing; costs a walk over the table, all peers and all services, so
 * it runs when a peer joins or leaves and in the sweep, and only in builds with assertions.
 */
#include "core/base/invariant.h"
#include "lanserver/bus/hub_internal.h"

static tp__peer *peer_in_slot(const tp__hub *hub, uint32_t id) {
    return atomic_load_explicit(&hub->slots[id & hub->mask], memory_order_relaxed);
}

/* ---- peers ----------------------------------------------------------------------------------- */

/* The id is written under both locks. */
static const char *peer_check(const tp__hub *hub, tp__peer *peer) {
    tp_mutex_lock(&peer->mutex);
    const char *broken = tp__unconfirmed_check(&peer->unconfirmed);
    tp_mutex_unlock(&peer->mutex);
    if (broken) {
        return broken;
    }
    TP__INVARIANT(peer->public_id != 0);
    TP__INVARIANT(peer->service != NULL);
    TP__INVARIANT(peer->id == peer->public_id || peer->id == 0); /* 0: withdrawn */
    TP__INVARIANT((peer_in_slot(hub, peer->public_id) == peer) == (peer->id != 0));
    return NULL;
}

static uint32_t count_occupied_slots(const tp__hub *hub) {
    uint32_t count = 0;
    for (uint32_t i = 0; i <= hub->mask; i++) {
        count += peer_in_slot(hub, i) != NULL;
    }
    return count;
}

/* `published`: how many messages can reach. */
static const char *up_check(const tp__hub *hub, uint32_t *published) {
    TP__INVARIANT(hub->up_count <= hub->mask + 1);
    for (uint32_t i = 0; i < hub->up_count; i++) {
        TP__INVARIANT(hub->up[i]->up_index == i);
        const char *broken = peer_check(hub, hub->up[i]);
        if (broken) {
            return broken;
        }
        *published += hub->up[i]->id != 0;
    }
    uint32_t occupied = count_occupied_slots(hub);
    TP__INVARIANT(occupied == *published);
    return NULL;
}

/* Every peer that was ever created is up or spare. */
static const char *spare_check(const tp__hub *hub) {
    uint32_t count = hub->up_count;
    for (const tp__peer *peer = hub->spare; peer; peer = peer->next) {
        bool is_up = peer->up_index < hub->up_count && hub->up[peer->up_index] == peer;
        TP__INVARIANT(!is_up);
        TP__INVARIANT(count <= hub->mask); /* also ends a list that leads back into itself */
        TP__INVARIANT(peer->id == 0);
        TP__INVARIANT(!peer->unconfirmed.ring);
        count++;
    }
    return NULL;
}

/* ---- services -------------------------------------------------------------------------------- */

/* Each member is a published peer of this service. */
static const char *members_check(
    const tp__hub *hub, const tp__service *service, uint32_t *members_of_all) {
    uint32_t count = tp__service_count(service);
    const tp__members *members = atomic_load_explicit(&service->members, memory_order_relaxed);
    TP__INVARIANT(count <= members->capacity);
    for (uint32_t i = 0; i < count; i++) {
        tp__member member = tp__service_member(service, i);
        const tp__peer *peer = peer_in_slot(hub, tp__member_id(member));
        TP__INVARIANT(peer && peer->public_id == tp__member_id(member));
        TP__INVARIANT(peer->service == service);
        uint32_t seed = tp_bus_service_hash(peer->instance, peer->instance_size);
        TP__INVARIANT(member == tp__member_make(peer->public_id, seed));
    }
    for (; members->outgrown; members = members->outgrown) {
        TP__INVARIANT(members->outgrown->capacity * 2 == members->capacity);
    }
    *members_of_all += count;
    return NULL;
}

static const char *services_check(const tp__hub *hub, uint32_t *members_of_all) {
    const tp__services *services = &hub->services;
    uint32_t services_count = atomic_load_explicit(&services->count, memory_order_relaxed);
    uint32_t count = 0;
    for (uint32_t i = 0; i <= services->mask; i++) {
        const tp__service *service =
            atomic_load_explicit(&services->table[i], memory_order_relaxed);
        if (!service) {
            continue;
        }
        TP__INVARIANT(service->hash == tp_bus_service_hash(service->name, service->name_size));
        TP__INVARIANT(tp__services_find(services, service->hash) == service);
        const char *broken = members_check(hub, service, members_of_all);
        if (broken) {
            return broken;
        }
        count++;
    }
    TP__INVARIANT(services_count == count);
    TP__INVARIANT(services_count <= services->limit);
    TP__INVARIANT(services->limit * 2 <= services->mask + 1);
    return NULL;
}

/* ---- the hub --------------------------------------------------------------------------------- */

const char *tp__hub_check(tp__hub *hub) {
    uint32_t published = 0;
    uint32_t members = 0;
    const char *broken = up_check(hub, &published);
    if (!broken) {
        broken = spare_check(hub);
    }
    if (!broken) {
        broken = services_check(hub, &members);
    }
    TP__INVARIANT(broken || members == published); /* each peer is in its service once */
    return broken;
}
