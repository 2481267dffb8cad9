/*
 * See services.h. Lookups: any thread. Changes: under the hub's directory lock.
 */
#include "lanserver/bus/services.h"

#include <assert.h>
#include <string.h>

#include "core/memory/memory.h"

#define FIRST_CAPACITY 4u

tp_err tp__services_create(tp__services *services, uint32_t limit) {
    assert(limit > 0);
    uint32_t capacity = 16;
    while (capacity < limit * 2) {
        capacity *= 2;
    }
    services->table = tp__allocate_zeroed(capacity, sizeof *services->table);
    if (!services->table) {
        return TP_ERR_NO_MEMORY;
    }
    for (uint32_t i = 0; i < capacity; i++) {
        atomic_init(&services->table[i], NULL);
    }
    services->mask = capacity - 1;
    services->limit = limit;
    atomic_init(&services->count, 0);
    return TP_OK;
}

static void service_destroy(tp__service *service) {
    tp__members *members = atomic_load_explicit(&service->members, memory_order_relaxed);
    while (members) {
        tp__members *outgrown = members->outgrown;
        tp__free(members);
        members = outgrown;
    }
    tp__free(service);
}

void tp__services_destroy(tp__services *services) {
    for (uint32_t i = 0; services->table && i <= services->mask; i++) {
        tp__service *service = atomic_load_explicit(&services->table[i], memory_order_relaxed);
        if (service) {
            service_destroy(service);
        }
    }
    tp__free(services->table);
    services->table = NULL;
}

/* The index at which the hash is, or would be. Terminates because at least half of the table is
 * empty. */
static uint32_t services_index(const tp__services *services, uint32_t hash, tp__service **found) {
    uint32_t i = hash & services->mask;
    for (;; i = (i + 1) & services->mask) {
        tp__service *service = atomic_load_explicit(&services->table[i], memory_order_acquire);
        if (!service || service->hash == hash) {
            *found = service;
            return i;
        }
    }
}

tp__service *tp__services_find(const tp__services *services, uint32_t hash) {
    tp__service *found;
    services_index(services, hash, &found);
    return found;
}

static tp__members *members_create(uint32_t capacity) {
    assert(capacity >= FIRST_CAPACITY);
    tp__members *members = tp__allocate(sizeof *members + capacity * sizeof members->at[0]);
    if (members) {
        members->outgrown = NULL;
        members->capacity = capacity;
        for (uint32_t i = 0; i < capacity; i++) {
            atomic_init(&members->at[i], 0);
        }
    }
    return members;
}

tp__service *tp__services_open(
    tp__services *services, const char *name, size_t size, tp_bus_reason *why) {
    assert(tp_bus_name_valid(name, size));
    uint32_t hash = tp_bus_service_hash(name, size);
    tp__service *service;
    uint32_t index = services_index(services, hash, &service);
    if (service) {
        bool same = service->name_size == size && memcmp(service->name, name, size) == 0;
        *why = TP_BUS_NAME_COLLISION;
        return same ? service : NULL;
    }
    uint32_t count = atomic_load_explicit(&services->count, memory_order_relaxed);
    assert(count <= services->limit);
    if (count == services->limit) {
        *why = TP_BUS_HUB_FULL;
        return NULL;
    }
    service = tp__allocate_zeroed(1, sizeof *service);
    tp__members *members = members_create(FIRST_CAPACITY);
    if (!service || !members) {
        tp__free(service);
        tp__free(members);
        *why = TP_BUS_NO_MEMORY;
        return NULL;
    }
    service->hash = hash;
    service->name_size = (uint32_t)size;
    memcpy(service->name, name, size);
    atomic_init(&service->count, 0);
    atomic_init(&service->turn, 0);
    atomic_init(&service->members, members);
    atomic_store_explicit(&services->table[index], service, memory_order_release);
    atomic_store_explicit(&services->count, count + 1, memory_order_relaxed);
    return service;
}

bool tp__service_add(tp__service *service, tp__member member) {
    uint32_t count = atomic_load_explicit(&service->count, memory_order_relaxed);
    tp__members *members = atomic_load_explicit(&service->members, memory_order_relaxed);
    assert(tp__member_id(member) != 0 && count <= members->capacity);
    if (count == members->capacity) {
        tp__members *larger = members_create(members->capacity * 2);
        if (!larger) {
            return false;
        }
        for (uint32_t i = 0; i < count; i++) {
            tp__member old = atomic_load_explicit(&members->at[i], memory_order_relaxed);
            atomic_store_explicit(&larger->at[i], old, memory_order_relaxed);
        }
        larger->outgrown = members;
        atomic_store_explicit(&service->members, larger, memory_order_release);
        members = larger;
    }
    atomic_store_explicit(&members->at[count], member, memory_order_relaxed);
    atomic_store_explicit(&service->count, count + 1, memory_order_release);
    return true;
}

/* The last member fills the gap. Order is irrelevant: a choice by key ranks all members. */
void tp__service_remove(tp__service *service, uint32_t id) {
    assert(id != 0);
    uint32_t count = atomic_load_explicit(&service->count, memory_order_relaxed);
    tp__members *members = atomic_load_explicit(&service->members, memory_order_relaxed);
    for (uint32_t i = 0; i < count; i++) {
        tp__member member = atomic_load_explicit(&members->at[i], memory_order_relaxed);
        if (tp__member_id(member) == id) {
            tp__member last = atomic_load_explicit(&members->at[count - 1], memory_order_relaxed);
            atomic_store_explicit(&members->at[i], last, memory_order_relaxed);
            atomic_store_explicit(&service->count, count - 1, memory_order_release);
            return;
        }
    }
}

/* splitmix64's finaliser: each input bit affects every bit of the score. */
static uint64_t member_score(tp__member member, uint16_t key) {
    uint64_t x = (member >> 32 << 16 | key) + UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* Two instances of one name have the same score; then the id decides. */
static bool rank_is_below(tp__rank a, tp__rank b) {
    return a.score != b.score ? a.score < b.score : a.id < b.id;
}

uint32_t tp__service_choose(
    const tp__service *service, uint16_t key, const tp__rank *below, tp__rank *rank) {
    uint32_t count = tp__service_count(service);
    tp__rank best = {0, 0};
    for (uint32_t i = 0; i < count; i++) {
        tp__member member = tp__service_member(service, i);
        tp__rank candidate = {member_score(member, key), tp__member_id(member)};
        if ((!below || rank_is_below(candidate, *below)) && rank_is_below(best, candidate)) {
            best = candidate;
        }
    }
    *rank = best;
    return best.id;
}
