/*
 * The rate limit of call sites. Any thread. The only state is the site's word: a second in the
 * upper half, and in the lower half the number of lines in that second.
 *
 * Each change is one compare-and-swap of the whole word. So of the threads that find an old second
 * with suppressed lines exactly one replaces it and has to report them. The word protects no other
 * memory: relaxed order suffices.
 */
#include "core/log/log_site.h"

#include <assert.h>
#include <stdatomic.h>

/* The public struct has a plain uint64_t because it must compile as C++ too. */
_Static_assert(
    sizeof(_Atomic uint64_t) == sizeof(uint64_t), "an atomic word has the size of a plain one");
_Static_assert(_Alignof(_Atomic uint64_t) == _Alignof(tp_log_site), "and the same alignment");

static _Atomic uint64_t *word_of(tp_log_site *site) {
    assert(site != NULL);
    return (_Atomic uint64_t *)&site->second_and_count;
}

static uint32_t suppressed_in(uint64_t word) {
    uint32_t count = (uint32_t)word;
    return count > TP_LOG_BURST ? count - TP_LOG_BURST : 0;
}

tp__log_verdict tp__log_site_check(tp_log_site *site, uint32_t *second, uint32_t *suppressed) {
    _Atomic uint64_t *at = word_of(site);
    uint64_t word = atomic_load_explicit(at, memory_order_relaxed);
    uint64_t next;
    do {
        *suppressed = 0;
        if ((uint32_t)(word >> 32) < *second) {
            *suppressed = suppressed_in(word);
            next = (uint64_t)*second << 32 | 1;
        } else if ((uint32_t)word == UINT32_MAX) {
            return TP__LOG_SUPPRESS; /* the count must not overflow into the second */
        } else {
            next = word + 1;
        }
    } while (!atomic_compare_exchange_weak_explicit(
        at, &word, next, memory_order_relaxed, memory_order_relaxed));
    *second = (uint32_t)(next >> 32);
    switch (suppressed_in(next)) {
    case 0:
        return TP__LOG_PASS;
    case 1:
        return TP__LOG_SUPPRESS_FIRST;
    default:
        return TP__LOG_SUPPRESS;
    }
}

uint32_t tp__log_site_take_suppressed(tp_log_site *site, uint32_t second) {
    _Atomic uint64_t *at = word_of(site);
    uint64_t word = atomic_load_explicit(at, memory_order_relaxed);
    uint64_t settled;
    do {
        if ((uint32_t)(word >> 32) != second || suppressed_in(word) == 0) {
            return 0;
        }
        settled = (word & ~(uint64_t)UINT32_MAX) | TP_LOG_BURST;
    } while (!atomic_compare_exchange_weak_explicit(
        at, &word, settled, memory_order_relaxed, memory_order_relaxed));
    return suppressed_in(word);
}
