/*
 * Allocation of all memory of the core. Any thread.
 *
 * The counters are changed once per allocation, which is never on the message path. They order no
 * other memory, so every access to them is relaxed.
 */
#include "core/memory/memory.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "os/compiler.h"
#include "os/pages.h"

static _Atomic uint64_t allocations;
static _Atomic uint64_t live;
static _Atomic uint64_t held;

/* Allocations until one fails; 0 and below: none will. With `stay_failed` the one that fails sets
 * `failing`, and all later ones fail too. */
static atomic_long countdown;
static atomic_bool stay_failed;
static atomic_bool failing;

static bool memory_must_fail(void) {
    atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
    if (atomic_load_explicit(&failing, memory_order_relaxed)) {
        return true;
    }
    if (atomic_load_explicit(&countdown, memory_order_relaxed) <= 0 ||
        atomic_fetch_sub_explicit(&countdown, 1, memory_order_relaxed) != 1) {
        return false;
    }
    if (atomic_load_explicit(&stay_failed, memory_order_relaxed)) {
        atomic_store_explicit(&failing, true, memory_order_relaxed);
    }
    return true;
}

static void *memory_count_live(void *memory) {
    if (memory != NULL) {
        atomic_fetch_add_explicit(&live, 1, memory_order_relaxed);
    }
    return memory;
}

static void memory_count_freed(void) {
    uint64_t before = atomic_fetch_sub_explicit(&live, 1, memory_order_relaxed);
    assert(before > 0);
    (void)before;
}

void *tp__allocate(size_t bytes) {
    return memory_must_fail() ? NULL : memory_count_live(malloc(bytes));
}

void *tp__allocate_zeroed(size_t count, size_t size) {
    bool overflows = size > 0 && count > SIZE_MAX / size;
    return memory_must_fail() || overflows ? NULL : memory_count_live(calloc(count, size));
}

void tp__free(void *memory) {
    if (memory != NULL) {
        memory_count_freed();
        free(memory);
    }
}

/* The address sanitizer's leak check does not search pages that it did not allocate for pointers,
 * and would report memory that is reachable only from there as leaked. So under that sanitizer
 * everything comes from the heap. */
static bool takes_pages(size_t bytes) {
#ifdef TP_ADDRESS_SANITIZER
    (void)bytes;
    return false;
#else
    return bytes >= TP__PAGES_FROM;
#endif
}

static void *allocate_piece(size_t bytes) {
    if (!takes_pages(bytes)) {
        return tp__allocate(bytes);
    }
    return memory_must_fail() ? NULL : memory_count_live(tp_pages_allocate(bytes));
}

void *tp__allocate_piece(size_t bytes) {
    assert(bytes > 0);
    void *piece = allocate_piece(bytes);
    if (piece != NULL) {
        atomic_fetch_add_explicit(&held, bytes, memory_order_relaxed);
    }
    return piece;
}

void tp__free_piece(void *memory, size_t bytes) {
    uint64_t before = atomic_fetch_sub_explicit(&held, bytes, memory_order_relaxed);
    assert(memory != NULL && before >= bytes);
    (void)before;
    if (!takes_pages(bytes)) {
        tp__free(memory);
        return;
    }
    memory_count_freed();
    tp_pages_free(memory, bytes);
}

static void memory_arm(long n, bool stay) {
    atomic_store_explicit(&failing, false, memory_order_relaxed);
    atomic_store_explicit(&stay_failed, stay, memory_order_relaxed);
    atomic_store_explicit(&countdown, n, memory_order_relaxed);
}

void tp__memory_fail_after(long n) {
    memory_arm(n, false);
}

void tp__memory_fail_from(long n) {
    memory_arm(n, true);
}

uint64_t tp__memory_allocations(void) {
    return atomic_load_explicit(&allocations, memory_order_relaxed);
}

uint64_t tp__memory_live(void) {
    return atomic_load_explicit(&live, memory_order_relaxed);
}

uint64_t tp__memory_held(void) {
    return atomic_load_explicit(&held, memory_order_relaxed);
}
