/*
 * Served time: a clock that stands still while the server does.
 *
 * A worker receives nothing while a handler blocks it, while its process is stopped or while its
 * machine is paused. The peers are not to blame for that. So what a worker decides about its
 * sessions by the clock (silence, a handshake, an end) is measured in the time in which it could
 * serve them.
 *
 *   served time   runs with the monotonic clock while the worker waits for work, and for
 *                 TP__STALL_GRACE_MS of each round of work; beyond that it stands still. After a
 *                 stall it stands still for as long again, at most CATCH_UP_MAX_MS: meanwhile the
 *                 worker reads what has arrived, before a session is judged by the clock. Catching
 *                 up never takes longer than served time has run since the last stall. So a server
 *                 whose rounds are all too long still ends silent sessions, only later: with rounds
 *                 of 1 s, of which 50 ms count, a time-out takes 20 to 40 times as long.
 *   stall         how long served time stood still recently: what peers sent meanwhile arrives at
 *                 once. It is remembered for as long as it lasted, at least LAPSE_MIN_MS and at
 *                 most LAPSE_MAX_MS, if it lasted REMEMBERED_MIN_MS or longer.
 *
 * A clock has one writer at a time: its worker; for the server's clock, a worker that has locked
 * the server's mutex. Any thread reads. No reader sees a stall as time that has been served: see
 * MEMORY ORDER.
 *
 * MEMORY ORDER. A writer that comes back from a stall stores `floor_ms`, then `behind_ms`, then
 * `until_ms`, each by release. A reader loads them in the opposite order, the first two by acquire.
 * If it sees that the writer is back (until_ms), it sees how far the clock is behind; if it sees
 * that (behind_ms), it sees where served time stands (floor_ms). If it sees a new `behind_ms` and
 * an older `until_ms`, the result is `floor_ms`, which is what served time was at the stall. So no
 * mixture of old and new values gives more than served time is by the new ones, nor less than it
 * was when the stall began. tests/model/service_time.pml explores this.
 */
#ifndef TWINPORT_CORE_ENGINE_SERVICE_TIME_H
#define TWINPORT_CORE_ENGINE_SERVICE_TIME_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "os/compiler.h"

/* What a round of work may take, or a wait be late, without counting as a stall. */
#define TP__STALL_GRACE_MS 50u

typedef struct tp__service_time {
    _Atomic uint64_t until_ms;  /* served up to here, or waiting for work up to here */
    _Atomic uint64_t behind_ms; /* the monotonic clock minus served time, while that runs */
    _Atomic uint64_t floor_ms;  /* served time is at least this */
    _Atomic uint64_t stall_ms;
    _Atomic uint64_t lapse_ms; /* when the stall is forgotten */
} tp__service_time;

/* The worker begins to serve. The writer only; tp_server_start() calls it too, before any worker
 * runs. */
void tp__service_time_start(tp__service_time *time, uint64_t now_ms);

/* Nothing was served from from_ms to now_ms. The writer only; tp__service_time_serve() follows. */
void tp__service_time_stall(tp__service_time *time, uint64_t from_ms, uint64_t now_ms);

static inline uint64_t tp__service_time_until(const tp__service_time *time) {
    return atomic_load_explicit(&time->until_ms, memory_order_acquire);
}

/* Serves from now on until until_ms. The writer only. */
static inline void tp__service_time_serve(tp__service_time *time, uint64_t until_ms) {
    atomic_store_explicit(&time->until_ms, until_ms, memory_order_release);
}

/* Does a clock that has been served until until_ms stand still at now_ms? */
static inline bool tp__is_stalled(uint64_t until_ms, uint64_t now_ms) {
    return now_ms > until_ms + TP__STALL_GRACE_MS;
}

/* Served time at now_ms of a clock that has been served until until_ms. Any thread. */
static inline uint64_t tp__served_of(
    const tp__service_time *time, uint64_t until_ms, uint64_t now_ms) {
    uint64_t behind = atomic_load_explicit(&time->behind_ms, memory_order_acquire);
    uint64_t stands_at = atomic_load_explicit(&time->floor_ms, memory_order_relaxed);
    uint64_t at = tp__is_stalled(until_ms, now_ms) ? until_ms + TP__STALL_GRACE_MS : now_ms;
    return at > behind && at - behind > stands_at ? at - behind : stands_at;
}

static inline uint64_t tp__served_ms(const tp__service_time *time, uint64_t now_ms) {
    return tp__served_of(time, tp__service_time_until(time), now_ms);
}

/* How long it has stood still recently, the stall in progress at now_ms included; 0: not at all.
 * Any thread. */
uint64_t tp__stall_of(const tp__service_time *time, uint64_t until_ms, uint64_t now_ms);

static inline uint64_t tp__stall_ms(const tp__service_time *time, uint64_t now_ms) {
    return tp__stall_of(time, tp__service_time_until(time), now_ms);
}

#endif
