/*
 * Service time: a clock that stands still while we do.
 *
 * A worker hears nobody while a handler of its holds it up, while its process is stopped or while
 * its machine is paused. None of that is the peers' doing. So what a worker owes its sessions by
 * the clock (silence, a handshake, an end) is measured in the time in which it could serve them.
 *
 *   served time   goes with the monotonic clock while the worker waits for work, and for
 *                 TP__HELD_UP_MS of each round of work; beyond that it stands still. After a stall
 *                 it stands still for as long again, at most CATCH_UP_MOST_MS: the worker reads
 *                 meanwhile what has come before anybody is judged by the clock. Catching
 *                 up never takes longer than it has gone since the last stall: so a server whose
 *                 rounds are all too long still ends who is silent, only later. With rounds of 1 s,
 *                 of which 50 ms count, a time-out takes 20 to 40 times as long.
 *   stall         how long it stood still of late: what peers may have said meanwhile comes at
 *                 once. It is remembered for as long as it was, at least for LAPSE_LEAST_MS and at
 *                 most for LAPSE_MOST_MS, if it was COUNTED_LEAST_MS or longer.
 *
 * The owner writes, any thread reads. Reading never makes a time-out of a stall: see MEMORY ORDER.
 *
 * MEMORY ORDER. The owner that comes back from a stall stores `floor_ms`, then `behind_ms`, then
 * `until_ms`, each by release. A reader loads them the other way round, by acquire. Who sees that
 * the owner is back (until_ms) sees how far it is behind; who sees that (behind_ms) sees where
 * served time stands (floor_ms). Who sees an older `until_ms` than `behind_ms` gets what served
 * time was at the stall, or `floor_ms`, which is the same. So no mixture of old and new is later
 * than served time is by the new ones, nor earlier than it was when the stall began.
 * tests/model/service_time.pml explores it.
 */
#ifndef TWINPORT_CORE_ENGINE_SERVICE_TIME_H
#define TWINPORT_CORE_ENGINE_SERVICE_TIME_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "os/compiler.h"

/* What a round of work may take, or a wait be late, without being a stall. */
#define TP__HELD_UP_MS 50u

typedef struct tp__service_time {
    _Atomic uint64_t until_ms;  /* it has served up to here, or waits for work up to here */
    _Atomic uint64_t behind_ms; /* the monotonic clock less served time, when that goes */
    _Atomic uint64_t floor_ms;  /* served time is at least this */
    _Atomic uint64_t stall_ms;
    _Atomic uint64_t lapse_ms; /* when the stall is forgotten */
} tp__service_time;

/* A thread begins to serve. Its own. */
void tp__service_time_start(tp__service_time *time, uint64_t now_ms);

/* It stood still from from_ms to now_ms. The owner's; tp__service_time_serve() comes after it. */
void tp__service_time_stall(tp__service_time *time, uint64_t from_ms, uint64_t now_ms);

static inline uint64_t tp__service_time_until(const tp__service_time *time) {
    return atomic_load_explicit(&time->until_ms, memory_order_acquire);
}

/* From here on it serves until then. The owner's. */
static inline void tp__service_time_serve(tp__service_time *time, uint64_t until_ms) {
    atomic_store_explicit(&time->until_ms, until_ms, memory_order_release);
}

/* Does it stand still, if it has served until until_ms? */
static inline bool tp__stands_still(uint64_t until_ms, uint64_t now_ms) {
    return now_ms > until_ms + TP__HELD_UP_MS;
}

/* Served time at now_ms, of one that has served until until_ms. Any thread. */
static inline uint64_t tp__served_of(
    const tp__service_time *time, uint64_t until_ms, uint64_t now_ms) {
    uint64_t behind = atomic_load_explicit(&time->behind_ms, memory_order_acquire);
    uint64_t stands_at = atomic_load_explicit(&time->floor_ms, memory_order_relaxed);
    uint64_t at = tp__stands_still(until_ms, now_ms) ? until_ms + TP__HELD_UP_MS : now_ms;
    return at > behind && at - behind > stands_at ? at - behind : stands_at;
}

static inline uint64_t tp__served_ms(const tp__service_time *time, uint64_t now_ms) {
    return tp__served_of(time, tp__service_time_until(time), now_ms);
}

/* For how long it has stood still of late, up to now_ms if it does; 0: it has not. Any thread. */
uint64_t tp__stall_of(const tp__service_time *time, uint64_t until_ms, uint64_t now_ms);

static inline uint64_t tp__stall_ms(const tp__service_time *time, uint64_t now_ms) {
    return tp__stall_of(time, tp__service_time_until(time), now_ms);
}

#endif
