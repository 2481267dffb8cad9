/*
 * The services of the bus: their names and their members.
 *
 * For every ANY a service is found and a member chosen without a lock. Services and members change
 * under the hub's directory lock. A registered service stays until the hub ends: there are few
 * names, and `limit` bounds them.
 *
 * MEMORY ORDER. A service is complete before the table points to it (release/acquire). A reader
 * loads the count of members first and the array second; a writer stores a larger array before the
 * larger count, so the array that a reader gets has the capacity for the count that it got.
 * Replaced arrays are kept until the end: together they are smaller than the last. While a peer
 * joins or leaves, a reader may see a member that has just left, or miss one, or see one twice. For
 * a choice of one that does no harm, because the chosen peer's id is checked under its mutex; a
 * caller that needs all members exactly (ALL) holds the directory lock.
 */
#ifndef TWINPORT_LANSERVER_BUS_SERVICES_H
#define TWINPORT_LANSERVER_BUS_SERVICES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/bus.h"
#include "twinport/error.h"

/* A member: the peer's id, and the hash of its instance's name, so that a keyed choice finds the
 * same instance after it has been restarted. */
typedef uint64_t tp__member;

static inline tp__member tp__member_make(uint32_t id, uint32_t seed) {
    return (uint64_t)seed << 32 | id;
}
static inline uint32_t tp__member_id(tp__member member) {
    return (uint32_t)(member & UINT32_MAX);
}

typedef struct tp__members {
    struct tp__members *outgrown;
    uint32_t capacity;
    _Atomic tp__member at[]; /* capacity */
} tp__members;

typedef struct tp__service {
    uint32_t hash;
    uint32_t name_size;
    _Atomic uint32_t count;
    _Atomic uint32_t turn;
    _Atomic(tp__members *) members;
    char name[TP_BUS_NAME_MAX + 1];
} tp__service;

typedef struct tp__services {
    _Atomic(tp__service *) *table; /* open addressing, at most half full */
    uint32_t mask;
    uint32_t limit;
    _Atomic uint32_t count;
} tp__services;

/* An empty table for at most `limit` services. TP_ERR_NO_MEMORY. */
tp_err tp__services_create(tp__services *services, uint32_t limit);
void tp__services_destroy(tp__services *services);

/* The service with this hash, or NULL. Any thread, no lock. */
tp__service *tp__services_find(const tp__services *services, uint32_t hash);

/* The service of this (valid) name, created if it is new. NULL, with the reason in *why:
 * NAME_COLLISION, HUB_FULL, NO_MEMORY. Under the directory lock. */
tp__service *tp__services_open(
    tp__services *services, const char *name, size_t size, tp_bus_reason *why);

/* Under the directory lock. add: false if there is no memory. */
bool tp__service_add(tp__service *service, tp__member member);
void tp__service_remove(tp__service *service, uint32_t id);

static inline uint32_t tp__service_count(const tp__service *service) {
    return atomic_load_explicit(&service->count, memory_order_acquire);
}

/* Member `n`, below a count that was loaded before. */
static inline tp__member tp__service_member(const tp__service *service, uint32_t n) {
    tp__members *members = atomic_load_explicit(&service->members, memory_order_acquire);
    return atomic_load_explicit(&members->at[n], memory_order_relaxed);
}

/* A member's rank for a key; the highest score is first (rendezvous hashing, Thaler and Ravishankar
 * 1996). */
typedef struct tp__rank {
    uint64_t score;
    uint32_t id;
} tp__rank;

/* The first member for `key` that ranks below `*below` (NULL: the first of all): returns its id and
 * stores its rank in `*rank`. 0: there is none. Any thread. */
uint32_t tp__service_choose(
    const tp__service *service, uint16_t key, const tp__rank *below, tp__rank *rank);

/* The number of the next turn. Any thread. */
static inline uint32_t tp__service_turn(tp__service *service) {
    return atomic_fetch_add_explicit(&service->turn, 1, memory_order_relaxed);
}

#endif
