/*
 * Adding to a counter that any thread may read.
 */
#ifndef TWINPORT_CORE_BASE_COUNT_H
#define TWINPORT_CORE_BASE_COUNT_H

#include <stdatomic.h>
#include <stdint.h>

/* For the only writer of the counter: no locked instruction. Readers see whole values, which may be
 * slightly old. */
static inline void tp__count_own(_Atomic uint64_t *counter, uint64_t n) {
    atomic_store_explicit(
        counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

/* For a counter that several threads raise. */
static inline void tp__count_shared(_Atomic uint64_t *counter, uint64_t n) {
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

#endif
