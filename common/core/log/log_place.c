/*
 * Places and their share of lines. Any thread; the place's word is all the state there is: the
 * second in the upper half, how many lines came in it in the lower.
 *
 * Each change is one compare-and-swap of the whole word, so of the threads that find an old second
 * with lines held back exactly one replaces it and has them to report. The word guards no other
 * memory: relaxed order suffices.
 */
#include "core/log/log_place.h"

#include <stdatomic.h>

/* The public struct holds a plain uint64_t because C++ users see it too. */
_Static_assert(sizeof(_Atomic uint64_t) == sizeof(uint64_t), "an atomic word is a plain word");
_Static_assert(_Alignof(_Atomic uint64_t) == _Alignof(tp_log_place), "and lies where one lies");

static _Atomic uint64_t *word_of(tp_log_place *place) {
    return (_Atomic uint64_t *)&place->second_and_count;
}

static uint32_t held_back(uint64_t word) {
    uint32_t count = (uint32_t)word;
    return count > TP_LOG_BURST ? count - TP_LOG_BURST : 0;
}

tp__log_verdict tp__log_place_ask(tp_log_place *place, uint32_t *second, uint32_t *held) {
    _Atomic uint64_t *at = word_of(place);
    uint64_t word = atomic_load_explicit(at, memory_order_relaxed);
    uint64_t next;
    do {
        *held = 0;
        if ((uint32_t)(word >> 32) < *second) {
            *held = held_back(word);
            next = (uint64_t)*second << 32 | 1;
        } else if ((uint32_t)word == UINT32_MAX) {
            return TP__LOG_HOLD; /* the count is full; it must not run over into the second */
        } else {
            next = word + 1;
        }
    } while (!atomic_compare_exchange_weak_explicit(
        at, &word, next, memory_order_relaxed, memory_order_relaxed));
    *second = (uint32_t)(next >> 32);
    switch (held_back(next)) {
    case 0:
        return TP__LOG_SAY;
    case 1:
        return TP__LOG_HOLD_FIRST;
    default:
        return TP__LOG_HOLD;
    }
}

uint32_t tp__log_place_settle(tp_log_place *place, uint32_t second) {
    _Atomic uint64_t *at = word_of(place);
    uint64_t word = atomic_load_explicit(at, memory_order_relaxed);
    uint64_t settled;
    do {
        if ((uint32_t)(word >> 32) != second || held_back(word) == 0) {
            return 0;
        }
        settled = (word & ~(uint64_t)UINT32_MAX) | TP_LOG_BURST;
    } while (!atomic_compare_exchange_weak_explicit(
        at, &word, settled, memory_order_relaxed, memory_order_relaxed));
    return held_back(word);
}
