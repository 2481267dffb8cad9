/*
 * The free indexes of a table of slots. Any thread. The table itself belongs to the caller.
 *
 * Indexes that were never taken are not on the stack: `used` counts them off. So a server of a
 * million slots touches only the memory of those that it needs.
 */
#include "core/engine/slots.h"

#include <assert.h>

#include "core/base/invariant.h"
#include "core/memory/memory.h"

static _Atomic uint32_t *slots_link(void *nodes, uint32_t index) {
    return (_Atomic uint32_t *)nodes + (index - 1);
}

tp_err tp__slots_create(tp__slots *slots, uint32_t count) {
    assert(count > 0 && count < TP__NO_SLOT);
    slots->next = tp__allocate_zeroed(count, sizeof *slots->next);
    if (!slots->next) {
        return TP_ERR_NO_MEMORY;
    }
    slots->count = count;
    atomic_init(&slots->free.head, 0);
    atomic_init(&slots->used, 0);
    return TP_OK;
}

void tp__slots_destroy(tp__slots *slots) {
    tp__free(slots->next);
    slots->next = NULL;
}

static uint32_t slots_take_fresh(tp__slots *slots) {
    uint32_t used = atomic_load_explicit(&slots->used, memory_order_relaxed);
    while (used < slots->count) {
        if (atomic_compare_exchange_weak_explicit(
                &slots->used, &used, used + 1, memory_order_acq_rel, memory_order_relaxed)) {
            return used;
        }
    }
    return TP__NO_SLOT;
}

uint32_t tp__slots_take(tp__slots *slots) {
    uint32_t index = tp__stack_pop(&slots->free, slots_link, slots->next);
    assert(index <= slots->count);
    return index ? index - 1 : slots_take_fresh(slots);
}

void tp__slots_give(tp__slots *slots, uint32_t index) {
    assert(index < atomic_load_explicit(&slots->used, memory_order_relaxed)); /* was taken */
    tp__stack_push(&slots->free, slots_link, slots->next, index + 1);
}

const char *tp__slots_check(const tp__slots *slots, uint32_t taken) {
    uint32_t used = atomic_load_explicit(&slots->used, memory_order_acquire);
    uint32_t index = (uint32_t)atomic_load_explicit(&slots->free.head, memory_order_acquire);
    uint32_t count = 0;
    TP__INVARIANT(used <= slots->count);
    TP__INVARIANT(taken <= used);
    while (index != 0) {
        TP__INVARIANT(index <= used);
        TP__INVARIANT(count < used - taken); /* also the end of a walk in a circle */
        count++;
        index = atomic_load_explicit(&slots->next[index - 1], memory_order_relaxed);
    }
    TP__INVARIANT(count == used - taken);
    return NULL;
}
