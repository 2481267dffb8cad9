/*
 * The free indexes of a table of slots: a lock-free stack (stack.h). Taking a slot is one exchange,
 * and the slot given back last, which is still in the processor's caches, is taken next.
 */
#ifndef TWINPORT_CORE_ENGINE_SLOTS_H
#define TWINPORT_CORE_ENGINE_SLOTS_H

#include <stdatomic.h>
#include <stdint.h>

#include "core/memory/stack.h"
#include "twinport/error.h"

typedef struct tp__slots {
    tp__stack free;         /* slot i is the stack's index i + 1 */
    _Atomic uint32_t *next; /* the stack's links */
    _Atomic uint32_t used;  /* slots that were ever taken: 0..used-1; a scan needs no more */
    uint32_t count;
} tp__slots;

#define TP__NO_SLOT UINT32_MAX

/* Makes all `count` slots free. TP_ERR_NO_MEMORY. */
tp_err tp__slots_create(tp__slots *slots, uint32_t count);
void tp__slots_destroy(tp__slots *slots);

/* Returns an index, or TP__NO_SLOT. Any thread. */
uint32_t tp__slots_take(tp__slots *slots);

/* Gives an index back. Any thread. The next taker sees everything written before. */
void tp__slots_give(tp__slots *slots, uint32_t index);

/* Every index below `used` is either taken, as `taken` of them are, or once on the stack. Returns
 * the first condition that is false, or NULL. Walks the whole stack, while no other thread takes or
 * gives. */
const char *tp__slots_check(const tp__slots *slots, uint32_t taken);

#endif
