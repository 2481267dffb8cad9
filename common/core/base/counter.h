/*
 * Counters for statistics: 64 bits that only grow, which any thread may read. All accesses are
 * relaxed: a reader gets a whole value that may be slightly old, and a counter says nothing about
 * other memory.
 */
#ifndef TWINPORT_CORE_BASE_COUNTER_H
#define TWINPORT_CORE_BASE_COUNTER_H

#include <stdatomic.h>
#include <stdint.h>

/* For a counter that one thread at a time writes: no locked instruction. */
static inline void tp__count_own(_Atomic uint64_t *counter, uint64_t n) {
    atomic_store_explicit(
        counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

/* For a counter that several threads write. */
static inline void tp__count_shared(_Atomic uint64_t *counter, uint64_t n) {
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static inline uint64_t tp__count_read(const _Atomic uint64_t *counter) {
    return atomic_load_explicit(counter, memory_order_relaxed);
}

#endif
