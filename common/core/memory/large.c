/*
 * Shelves of free memory for large packets, one for each size class. Any thread; no lock.
 *
 * A shelf has a fixed number of slots, which bounds the free memory: KEPT bytes for each class. A
 * slot is on one of the shelf's two stacks, `full` or `vacant`, or in use by a call in progress;
 * only such a call accesses the slot's pointer (stack.h has the argument for the transfer).
 */
#include "core/memory/large.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/memory/memory.h"
#include "core/memory/stack.h"
#include "os/compiler.h"
#include "os/thread.h"

#define KEPT      ((size_t)8 << 20) /* bytes on a shelf at most, or one piece if that is larger */
#define SLOTS_MAX (KEPT / TP__LARGE_SMALLEST)

typedef struct slot {
    _Atomic uint32_t next;
    void *memory;
} slot;

typedef struct shelf {
    tp__stack full;
    tp__stack vacant;
    slot *slots;
    _Atomic uint32_t ready;     /* pieces in `full`; approximate while calls are in progress */
    _Atomic uint32_t ready_low; /* the lowest `ready` since the last tp__large_reap() */
    uint8_t apart[TP_CACHE_LINE];
} shelf;

static shelf shelves[TP__LARGE_CLASSES];
static tp_once once;

/* 256 + 128 + ... + 2 + 1 slots for 8 MiB and less, and one for 16 MiB. */
static slot all_slots[2 * SLOTS_MAX];

static size_t class_bytes(unsigned class_index) {
    return TP__LARGE_SMALLEST << class_index;
}

static uint32_t slots_of(unsigned class_index) {
    size_t slots = KEPT / class_bytes(class_index);
    return slots > 0 ? (uint32_t)slots : 1;
}

static _Atomic uint32_t *large_next(void *slots, uint32_t index) {
    return &((slot *)slots)[index - 1].next;
}

static void large_init(void) {
    slot *slots = all_slots;
    for (unsigned i = 0; i < TP__LARGE_CLASSES; i++) {
        shelves[i].slots = slots;
        for (uint32_t index = slots_of(i); index > 0; index--) {
            tp__stack_push(&shelves[i].vacant, large_next, slots, index);
        }
        slots += slots_of(i);
    }
    assert(slots == all_slots + TP_COUNT_OF(all_slots));
}

unsigned tp__large_class(size_t payload) {
    unsigned class_index = 0;
    while (class_bytes(class_index) < payload) {
        class_index++;
    }
    assert(class_index < TP__LARGE_CLASSES);
    return class_index;
}

/* Takes a piece off the shelf; NULL if it is empty. */
static void *large_fetch(shelf *from) {
    uint32_t index = tp__stack_pop(&from->full, large_next, from->slots);
    if (index == 0) {
        return NULL;
    }
    uint32_t left = atomic_fetch_sub_explicit(&from->ready, 1, memory_order_relaxed) - 1;
    assert(left != UINT32_MAX); /* `ready` counts a piece before its push */
    if (left < atomic_load_explicit(&from->ready_low, memory_order_relaxed)) {
        atomic_store_explicit(&from->ready_low, left, memory_order_relaxed);
    }
    void *memory = from->slots[index - 1].memory;
    assert(memory != NULL);
    tp__stack_push(&from->vacant, large_next, from->slots, index);
    return memory;
}

void *tp__large_take(unsigned class_index) {
    assert(class_index < TP__LARGE_CLASSES);
    tp_once_run(&once, large_init);
    void *memory = large_fetch(&shelves[class_index]);
    return memory != NULL ? memory : tp__allocate_piece(TP__LARGE_HEAD + class_bytes(class_index));
}

void tp__large_give(unsigned class_index, void *memory) {
    assert(class_index < TP__LARGE_CLASSES && memory != NULL);
    shelf *to = &shelves[class_index];
    uint32_t index = tp__stack_pop(&to->vacant, large_next, to->slots);
    if (index == 0) {
        tp__free_piece(memory, TP__LARGE_HEAD + class_bytes(class_index));
        return;
    }
    to->slots[index - 1].memory = memory;
    atomic_fetch_add_explicit(&to->ready, 1, memory_order_relaxed);
    tp__stack_push(&to->full, large_next, to->slots, index);
}

/* Takes a piece off the shelf and returns it to the system; returns its bytes, 0 if the shelf is
 * empty. */
static size_t large_free_one(unsigned class_index) {
    void *memory = large_fetch(&shelves[class_index]);
    if (memory == NULL) {
        return 0;
    }
    size_t bytes = TP__LARGE_HEAD + class_bytes(class_index);
    tp__free_piece(memory, bytes);
    return bytes;
}

size_t tp__large_reap(size_t most) {
    size_t bytes = 0;
    tp_once_run(&once, large_init);
    for (unsigned i = 0; i < TP__LARGE_CLASSES; i++) {
        shelf *from = &shelves[i];
        uint32_t unused = atomic_load_explicit(&from->ready_low, memory_order_relaxed);
        for (; unused > 0 && bytes < most; unused--) {
            bytes += large_free_one(i);
        }
        atomic_store_explicit(&from->ready_low,
            atomic_load_explicit(&from->ready, memory_order_relaxed), memory_order_relaxed);
    }
    return bytes;
}

size_t tp__large_trim(void) {
    size_t bytes = 0;
    tp_once_run(&once, large_init);
    for (unsigned i = 0; i < TP__LARGE_CLASSES; i++) {
        size_t more;
        while ((more = large_free_one(i)) > 0) {
            bytes += more;
        }
    }
    return bytes;
}
