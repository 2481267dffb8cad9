/*
 * The ring of the trace and of the ledger. Any number of threads write and read it at the same
 * time; it belongs to its creator.
 *
 * Entry number n is stored in cell n % entries. A cell is a mark and its words. The mark is 2n + 2
 * while entry n is complete in the cell, 2n + 1 while entry n is being written, 0 before the first.
 *
 * MEMORY ORDER
 * One writer at a time: a writer claims the cell by compare-and-swap from an even mark to its own
 * odd one. An odd mark, or one newer than its own, means that another writer has lapped it or been
 * lapped by it; then the entry is dropped and counted, and no thread waits. The claim is an acquire
 * that reads the former writer's final release, so of two entries in one cell every word of the
 * later one is also later in that word's modification order. A reader loads the mark (acquire), the
 * words, and the mark again; the entry is valid if the mark was 2n + 2 both times.
 *   - No word is older than entry n: the first load of the mark synchronises with the release with
 *     which entry n's writer ended.
 *   - No word is newer: words are stored with release and loaded with acquire. A load that returns
 *     a later entry's word synchronises with that store, before which the later writer's claim has
 *     changed the mark; so the second load of the mark cannot return 2n + 2 any more, because marks
 *     only grow.
 * No fences: the argument needs none, and the thread sanitizer does not support them.
 */
#include "core/log/recent.h"

#include <assert.h>

#include "core/base/invariant.h"
#include "core/memory/memory.h"

static size_t cell_of(const tp__recent *recent, uint64_t number) {
    return (size_t)(number & (recent->entries - 1)) * (recent->words + 1);
}

tp__recent *tp__recent_create(size_t entries, size_t words) {
    assert(entries > 0 && (entries & (entries - 1)) == 0);
    assert(words >= 1 && words <= TP__RECENT_MAX_WORDS);
    /* A cell of zeros is an empty cell, and zeroed memory is not written before its first use. */
    size_t cells = entries * (words + 1);
    tp__recent *recent = tp__allocate_zeroed(1, sizeof *recent + cells * sizeof recent->cells[0]);
    if (recent != NULL) {
        recent->entries = entries;
        recent->words = words;
    }
    return recent;
}

void tp__recent_destroy(tp__recent *recent) {
    TP__VERIFY(recent != NULL ? tp__recent_check(recent) : NULL);
    tp__free(recent);
}

void tp__recent_put(tp__recent *recent, const uint64_t *words) {
    uint64_t number = atomic_fetch_add_explicit(&recent->next, 1, memory_order_relaxed);
    _Atomic uint64_t *cell = &recent->cells[cell_of(recent, number)];
    uint64_t writing = 2 * number + 1;
    uint64_t mark = atomic_load_explicit(&cell[0], memory_order_relaxed);
    if ((mark & 1) != 0 || mark > writing ||
        !atomic_compare_exchange_strong_explicit(
            &cell[0], &mark, writing, memory_order_acquire, memory_order_relaxed)) {
        atomic_fetch_add_explicit(&recent->lost, 1, memory_order_relaxed);
        return;
    }
    for (size_t i = 0; i < recent->words; i++) {
        atomic_store_explicit(&cell[1 + i], words[i], memory_order_release);
    }
    atomic_store_explicit(&cell[0], writing + 1, memory_order_release);
}

uint64_t tp__recent_count(const tp__recent *recent) {
    return atomic_load_explicit(&recent->next, memory_order_relaxed);
}

bool tp__recent_read(const tp__recent *recent, uint64_t number, uint64_t *words) {
    assert(words != NULL);
    const _Atomic uint64_t *cell = &recent->cells[cell_of(recent, number)];
    uint64_t whole = 2 * number + 2;
    if (atomic_load_explicit(&cell[0], memory_order_acquire) != whole) {
        return false;
    }
    for (size_t i = 0; i < recent->words; i++) {
        words[i] = atomic_load_explicit(&cell[1 + i], memory_order_acquire);
    }
    return atomic_load_explicit(&cell[0], memory_order_relaxed) == whole;
}

uint64_t tp__recent_lost(const tp__recent *recent) {
    return atomic_load_explicit(&recent->lost, memory_order_relaxed);
}
