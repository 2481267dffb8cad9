/*
 * Gives memory back: see trim.h. Runs on workers, between two batches. What all threads share is
 * trimmed by one thread at a time: the one that advances `next_ms`.
 */
#include "core/server/trim.h"

#include "core/engine/server_state.h"
#include "core/memory/block.h"
#include "core/memory/chunk.h"
#include "core/memory/large.h"
#include "core/packet/kept.h"
#include "core/packet/packet_internal.h"
#include "core/session/pools.h"

#define TRIM_MS        500u
#define TRIM_MAX_BYTES ((size_t)64 << 20) /* of a pool in one round: a few ms of system time */

static _Atomic uint64_t next_ms;

/* A time further away than TRIM_MS comes from another clock (tests replace it), and counts as
 * due. */
static bool trim_is_due(uint64_t due_ms, uint64_t now_ms) {
    return now_ms >= due_ms || due_ms > now_ms + TRIM_MS;
}

static void trim_pool(tp_pool *pool) {
    if (pool) {
        (void)tp__pool_reap(pool, TRIM_MAX_BYTES);
    }
}

static void trim_pools(void) {
    trim_pool(tp__chunk_pool());
    trim_pool(tp__node_pool());
    trim_pool(tp__send_batch_pool());
    for (unsigned i = 0; i < TP__KEPT_CLASSES; i++) {
        trim_pool(tp__kept_pool(i));
    }
    (void)tp__large_reap(TRIM_MAX_BYTES);
}

/* Relaxed: this orders nothing. Two rounds are half a second apart and do not overlap; if they did,
 * each pool's mutex would keep them apart. */
static void trim_pools_if_due(uint64_t now_ms) {
    uint64_t due_ms = atomic_load_explicit(&next_ms, memory_order_relaxed);
    if (trim_is_due(due_ms, now_ms) &&
        atomic_compare_exchange_strong_explicit(
            &next_ms, &due_ms, now_ms + TRIM_MS, memory_order_relaxed, memory_order_relaxed)) {
        trim_pools();
    }
}

void tp__trim(tp__worker *worker) {
    TP_ASSERT_ON_WORKER(worker);
    assert(worker->thread_cache == tp_thread_record());
    tp__thread_cache *thread = worker->thread_cache;
    uint64_t now_ms = tp__worker_now_ms(worker);
    if (TP_LIKELY(!trim_is_due(thread->idle_due_ms, now_ms))) {
        return;
    }
    thread->idle_due_ms = now_ms + TRIM_MS;
    tp__pool_return_idle(thread);
    trim_pools_if_due(now_ms);
}

size_t tp__trim_all(void) {
    return tp__packets_trim() + tp_pool_trim(tp__node_pool()) + tp_pool_trim(tp__send_batch_pool());
}
