/*
 * Giving memory back: see trim.h. Runs on workers, between two batches; the looks at what all
 * threads share are one thread's at a time, by `next_ms`, which moves on before somebody looks.
 */
#include "core/server/trim.h"

#include "core/engine/server_state.h"
#include "core/memory/block.h"
#include "core/memory/chunk.h"
#include "core/memory/large.h"
#include "core/packet/kept.h"
#include "core/packet/packet_internal.h"
#include "core/session/pools.h"

#define LOOK_MS    500u
#define MOST_BYTES ((size_t)64 << 20) /* of a pool in one look: some ms of the system's work */

static _Atomic uint64_t next_ms;

/* A server by another clock (tests) or after the clock's other ends: no look is further away than
 * LOOK_MS. */
static bool is_due(uint64_t due_ms, uint64_t now_ms) {
    return now_ms >= due_ms || due_ms > now_ms + LOOK_MS;
}

static void reap(tp_pool *pool) {
    if (pool) {
        (void)tp__pool_reap(pool, MOST_BYTES);
    }
}

static void reap_all(void) {
    reap(tp__chunk_pool());
    reap(tp__node_pool());
    reap(tp__flight_pool());
    for (unsigned i = 0; i < TP__KEPT_CLASSES; i++) {
        reap(tp__kept_pool(i));
    }
    (void)tp__large_reap(MOST_BYTES);
}

/* Relaxed: it orders nothing. Two that are due at once and half a second apart do not meet, and if
 * they did, each pool's mutex keeps them apart. */
static void look_at_pools(uint64_t now_ms) {
    uint64_t due_ms = atomic_load_explicit(&next_ms, memory_order_relaxed);
    if (is_due(due_ms, now_ms) &&
        atomic_compare_exchange_strong_explicit(
            &next_ms, &due_ms, now_ms + LOOK_MS, memory_order_relaxed, memory_order_relaxed)) {
        reap_all();
    }
}

void tp__trim(tp__worker *worker) {
    tp__local *local = worker->local;
    uint64_t now_ms = tp__worker_now_ms(worker);
    if (TP_LIKELY(!is_due(local->rest_due_ms, now_ms))) {
        return;
    }
    local->rest_due_ms = now_ms + LOOK_MS;
    tp__pool_rest(local);
    look_at_pools(now_ms);
}

size_t tp__trim_all(void) {
    return tp__packets_trim() + tp_pool_trim(tp__node_pool()) + tp_pool_trim(tp__flight_pool());
}
